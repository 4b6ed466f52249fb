"""The way from a fresh machine to a first answer, step by step, with nothing left running."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.cli.agreement import agree
from runner.cli.background import client_of, start, this_home, wait_until_gone
from runner.cli.chat import Chat
from runner.cli.client import Client
from runner.cli.demo import NAME
from runner.cli.models import package_demo, this_store
from runner.cli.output import note
from runner.home import Home

PLACEMENT = "RUNNER_BACKENDS__LLAMA.CPP__PLACEMENT"
"""The first answer needs no Docker, whatever is installed."""

REAL_MODEL = "ai/smollm2:360M-Q4_K_M"


def first_answer(question: str) -> None:
    """Packages the demo model, loads it, asks, prints the answer and what to try next."""
    home = this_home()
    with _step("packaged the demo model as an OCI artifact"):
        package_demo()
    with _daemon(home) as client:
        chat = Chat(client, NAME, backend="")
        with _step("loaded it and got the answer"):
            answer = "".join(chat.ask(question))
        engine = _engine(client)
        client.post("/engines/unload", {"models": [NAME]})
    print(f"\n  You    {question}\n  {'Model':<6} {answer}\n")
    print(f"Answered by {engine}.")
    print("The demo model knows only the questions that `runner demo` lists.")
    print(_next_steps())


@contextmanager
def _daemon(home: Home) -> Iterator[Client]:
    """A daemon that answers; one that was started here is stopped again."""
    client = client_of(home)
    if client.answers():
        agree(client, this_store())
        yield client
        return
    with _step("started the daemon"):
        start(home, client, {PLACEMENT: "process"})
    try:
        yield client
    finally:
        told = client.post("/runner/v1/stop", {"leave_engines": False})
        wait_until_gone(home, told["drain_timeout"])


def _engine(client: Client) -> str:
    for found in client.get("/runner/v1/instances"):
        where = "in a container" if found["launcher"] == "docker" else "as a native process"
        return f"{found['backend']} {found['version']} {where}"
    return "an engine"


@contextmanager
def _step(done: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    note(f"✓ {done} ({time.monotonic() - began:.1f} s)")


def _next_steps() -> str:
    program = Path(sys.argv[0]).resolve()
    lines = ["", "What to try next:"]
    if shutil.which("runner") is None and program.name == "runner":
        lines[1:1] = [f'Put runner on the PATH:  export PATH="{program.parent}:$PATH"', ""]
    return "\n".join(
        [
            *lines,
            *_aligned(
                (f"runner run {NAME}", "chat with the demo model"),
                (f'runner run {REAL_MODEL} "Hi!"', "fetch a real model (270 MB) and ask it"),
                ("runner install-runner --gpu none", "the same engine in a container"),
            ),
        ]
    )


def _aligned(*rows: tuple[str, str]) -> list[str]:
    width = max(len(command) for command, _ in rows)
    return [f"  {command.ljust(width)}   # {what}" for command, what in rows]
