"""The runner as a person uses it: the command, and a daemon in the foreground."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

DEADLINE_S = 60.0
POLL_S = 0.02

Completed = subprocess.CompletedProcess[str]


def runner(
    *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> Completed:
    """Runs `runner ARGUMENTS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=DEADLINE_S * 30,
        check=False,
    )


def succeed(*arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """The standard output of a command that must work."""
    done = runner(*arguments, stdin=stdin, env=env)
    assert done.returncode == 0, f"runner {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class Daemon:
    """A daemon in the foreground. `url` is its loopback address, `socket` its Unix socket."""

    process: subprocess.Popen[str]
    url: str
    socket: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self, how: signal.Signals) -> int:
        """Sends a signal and waits for the end; the exit status."""
        self.process.send_signal(how)
        return self.process.wait(DEADLINE_S)

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=DEADLINE_S, trust_env=False)

    def get(self, path: str) -> Any:  # noqa: ANN401 - a decoded JSON document
        with self.http() as client:
            return client.get(path).json()

    def instances(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/runner/v1/instances")
        return found

    def chat(self, model: str, question: str, *, engine: str = "") -> str:
        """The whole answer to one question, as one JSON response."""
        path = f"/engines/{engine}/v1" if engine else "/engines/v1"
        with self.http() as client:
            response = client.post(f"{path}/chat/completions", json=chat_body(model, question))
        assert response.status_code == 200, response.text
        answer = response.json()["choices"][0]["message"]["content"]
        assert isinstance(answer, str)
        return answer

    def stream(self, model: str, question: str, *, engine: str = "") -> str:
        """The whole answer, put together from a stream that ends as it should."""
        path = f"/engines/{engine}/v1" if engine else "/engines/v1"
        body = {**chat_body(model, question), "stream": True}
        pieces: list[str] = []
        with (
            self.http() as client,
            client.stream("POST", f"{path}/chat/completions", json=body) as response,
        ):
            assert response.status_code == 200, response.read()
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
        assert lines[-1] == "[DONE]"
        for line in lines[:-1]:
            for choice in json.loads(line)["choices"]:
                pieces.append(choice["delta"].get("content") or "")
        return "".join(pieces)


def chat_body(model: str, question: str) -> dict[str, Any]:
    """A greedy request, so that the answer is the same each time."""
    messages = [{"role": "user", "content": question}]
    return {"model": model, "messages": messages, "temperature": 0}


@contextmanager
def daemon(home: Path, *, env: Mapping[str, str] | None = None) -> Iterator[Daemon]:
    """`runner serve` until the block ends; killed where it does not end by itself."""
    variables = {**os.environ, "RUNNER_HOME": str(home), **(env or {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "serve"],
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    socket = home / "run" / "runner.sock"
    found = Daemon(process, f"http://127.0.0.1:{variables['RUNNER_PORT']}", socket)
    try:
        _until_it_answers(found)
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _until_it_answers(found: Daemon) -> None:
    deadline = time.monotonic() + DEADLINE_S
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline:
            if found.process.poll() is not None:
                assert found.process.stderr is not None
                raise AssertionError(f"the daemon ended: {found.process.stderr.read()}")
            try:
                client.get(f"{found.url}/version")
            except httpx.TransportError:
                time.sleep(POLL_S)
            else:
                return
    raise AssertionError("the daemon did not answer")


def until(condition: Any, what: str) -> None:  # noqa: ANN401 - any callable that tells
    """Waits for a condition with a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(POLL_S)
