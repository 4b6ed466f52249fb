"""The daemon with llama.cpp as a native process: life cycle, gateway, faults. No Docker."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from runner.demo import gguf_path, questions
from runner.demo.oracle import mismatches
from tests.support.ports import free_port
from tests.support.program import DEADLINE_S, Daemon, chat_body, daemon, runner, succeed, until

MODEL = "localhost:5000/demo:1"
FIRST = questions()[0]
LONG_ANSWER = 1900
"""Tokens; the demo model's context holds 2048."""


@pytest.fixture
def packaged(home: Path) -> Path:
    succeed("package", "--gguf", str(gguf_path()), MODEL)
    return home


@pytest.fixture
def running(packaged: Path) -> Iterator[Daemon]:
    with daemon(packaged) as found:
        yield found


def _engine_pids(home: Path) -> list[int]:
    """Native engines of this home, by their command lines."""
    found = subprocess.run(
        ["pgrep", "-f", f"native_llamacpp.*{home}"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def test_the_demo_answers_every_question_word_for_word(running: Daemon) -> None:
    answers = {known.question: running.chat(MODEL, known.question) for known in questions()}
    assert not mismatches(answers)
    assert running.stream(MODEL, FIRST.question) == FIRST.answer


@pytest.mark.parametrize("prefix", ["/engines/llama.cpp", "/engines/llamacpp", "/engines", ""])
def test_each_path_reaches_the_same_instance(running: Daemon, prefix: str) -> None:
    with running.http() as client:
        path = f"{prefix}/v1/chat/completions"
        response = client.post(path, json=chat_body(MODEL, FIRST.question))
        assert response.status_code == 200
        assert response.headers["x-runner-engine"] == "llama.cpp"
        done = client.post(f"{prefix}/v1/completions", json={"model": MODEL, "prompt": "a"})
        assert done.json()["object"] == "text_completion"
        listed = client.get(f"{prefix}/v1/models").json()
        assert [model["id"] for model in listed["data"]] == [MODEL]
    assert len(running.instances()) == 1


def test_two_requests_for_one_cold_model_load_it_once(running: Daemon) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: running.chat(MODEL, FIRST.question), range(4)))
    assert set(answers) == {FIRST.answer}
    assert len(running.instances()) == 1


def test_a_load_outlives_the_client_that_asked_for_it(running: Daemon) -> None:
    body = json.dumps(chat_body(MODEL, FIRST.question))
    url = httpx.URL(running.url)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {url.netloc.decode()}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((url.host, url.port or 80)) as client:
        client.sendall((head + body).encode())
        until(lambda: bool(running.instances()), "the load began")
    until(lambda: [i["phase"] for i in running.instances()] == ["ready"], "the load went on")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/chat/completions", {"model": "nobody/nothing"}, 404, "model_not_found"),
        ("/engines/nope/v1/chat/completions", {"model": MODEL}, 404, "engine_not_found"),
        ("/engines/status/v1/chat/completions", {"model": MODEL}, 404, "engine_not_found"),
        ("/engines/vllm/v1/chat/completions", {"model": MODEL}, 412, "no_engine_fits"),
        ("/engines/llama.cpp:cuda12/v1/chat/completions", {"model": MODEL}, 412, "no_engine_fits"),
        ("/engines/llama.cpp:gpu/v1/chat/completions", {"model": MODEL}, 400, "bad_input"),
        ("/v1/chat/completions", {"messages": []}, 400, None),
        ("/v1/chat/completions", "{", 400, None),
        ("/engines/unload", {"everything?": 1}, 400, "bad_input"),
        ("/models/create", {"from": "UPPER CASE"}, 400, "bad_reference"),
        ("/nowhere", {}, 404, "not_found"),
    ],
)
def test_bad_requests_have_one_shape(
    running: Daemon, path: str, body: object, status: int, code: str | None
) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    with running.http() as client:
        response = client.post(path, content=content)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["message"]
    assert error["type"]
    if code:
        assert error["code"] == code


def test_a_body_that_is_too_large_is_refused(packaged: Path) -> None:
    with daemon(packaged, env={"RUNNER_MAX_BODY": "2000"}) as found, found.http() as client:
        response = client.post("/v1/chat/completions", content=b"x" * 5000)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


def test_other_hosts_and_origins_are_refused(running: Daemon) -> None:
    with running.http() as client:
        assert client.get("/version", headers={"Host": "evil.example"}).status_code == 403
        assert client.get("/version", headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.get("/version", headers={"Origin": "http://localhost:9"}).status_code == 200


def test_an_engine_that_dies_while_loading_is_told_with_its_last_words(packaged: Path) -> None:
    """Of a flag that nobody knows, and an operator allowed."""
    flags = "{llama.cpp: {flags: [--no-such-flag], allowed_flags: [--no-such-flag]}}"
    with daemon(packaged, env={"RUNNER_BACKENDS": flags}) as found, found.http() as client:
        response = client.post("/v1/chat/completions", json=chat_body(MODEL, "x"))
        assert response.status_code == 502
        error = response.json()["error"]
        assert error["code"] == "engine_failed"
        assert any("--no-such-flag" in line for line in error["log"])
        assert error["hint"]
        assert found.instances() == []


def test_an_engine_that_is_killed_is_told_and_loaded_again(running: Daemon) -> None:
    assert running.chat(MODEL, FIRST.question) == FIRST.answer
    (pid, *_) = _engine_pids(running.socket.parent.parent)
    os.kill(pid, signal.SIGKILL)
    until(lambda: running.instances() == [], "the end was noticed")
    assert running.chat(MODEL, FIRST.question) == FIRST.answer


def test_unload_frees_the_engine(running: Daemon) -> None:
    running.chat(MODEL, FIRST.question)
    home = running.socket.parent.parent
    assert _engine_pids(home)
    assert succeed("unload", MODEL) == "Unloaded 1 model.\n"
    assert not _engine_pids(home)
    assert succeed("unload", "--all") == "No models are running.\n"


def test_a_model_in_use_is_not_removed_unless_forced(running: Daemon) -> None:
    running.chat(MODEL, FIRST.question)
    refused = runner("rm", MODEL)
    assert refused.returncode == 4
    assert "loaded" in refused.stderr
    assert MODEL in succeed("rm", "--force", MODEL)
    assert running.get("/models") == []
    assert running.instances() == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_native_engines_end_with_the_daemon(running: Daemon, how: signal.Signals) -> None:
    running.chat(MODEL, FIRST.question)
    home = running.socket.parent.parent
    assert running.end(how) == 0
    until(lambda: not _engine_pids(home), "the engine ended")
    assert not running.socket.exists()


def test_native_engines_end_with_a_daemon_that_is_killed(running: Daemon) -> None:
    running.chat(MODEL, FIRST.question)
    home = running.socket.parent.parent
    running.end(signal.SIGKILL)
    until(lambda: not _engine_pids(home), "the engine ended")
    with daemon(home) as again:
        assert again.chat(MODEL, FIRST.question) == FIRST.answer


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stream_under_way_is_finished_before_the_daemon_ends(
    running: Daemon, how: signal.Signals
) -> None:
    """The answer fills the context and lists many candidates for each word: it takes seconds."""
    body = {
        **chat_body(MODEL, FIRST.question),
        "stream": True,
        "ignore_eos": True,
        "max_tokens": LONG_ANSWER,
        "n_probs": 100,
    }
    first_piece, told = threading.Event(), threading.Event()
    before: list[str] = []
    after: list[str] = []

    def ask() -> None:
        with (
            running.http() as client,
            client.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            for line in response.iter_lines():
                (after if told.is_set() else before).append(line)
                first_piece.set()

    asking = threading.Thread(target=ask)
    asking.start()
    assert first_piece.wait(30)
    running.process.send_signal(how)
    told.set()
    assert running.process.wait(DEADLINE_S) == 0
    asking.join(30)
    assert not asking.is_alive()
    pieces = [line for line in before + after if line]
    assert pieces[-1] == "data: [DONE]"
    assert len(pieces) > LONG_ANSWER
    assert len([line for line in after if line]) > LONG_ANSWER // 4


def test_log_level_debug_tells_more(packaged: Path) -> None:
    for level, expected in (("info", False), ("debug", True)):
        with daemon(packaged, env={"RUNNER_LOG_LEVEL": level}) as found:
            found.chat(MODEL, FIRST.question)
        lines = (packaged / "daemon.log").read_text().splitlines()
        debug = [line for line in lines if " DEBUG runner." in line]
        assert bool(debug) is expected
    assert any("--ctx-size 2048" in line for line in debug)


def test_the_users_own_binary_is_started(packaged: Path) -> None:
    binary = packaged / "my-server"
    binary.write_text("#!/bin/sh\necho marker-of-my-server $1 >&2\nexit 3\n")
    binary.chmod(0o755)
    backends = json.dumps({"llama.cpp": {"binary": str(binary)}})
    with daemon(packaged, env={"RUNNER_BACKENDS": backends}) as found, found.http() as client:
        response = client.post("/v1/chat/completions", json=chat_body(MODEL, "x"))
    assert response.status_code == 502
    error = response.json()["error"]
    assert error["code"] == "engine_failed"
    assert "marker-of-my-server --model" in error["log"]
    assert "3" in error["message"]


def test_followed_logs_tell_new_lines_and_end_with_the_daemon(running: Daemon) -> None:
    seen: list[str] = []
    begun, loading = threading.Event(), threading.Event()

    def follow() -> None:
        with running.http() as client, client.stream("GET", "/logs?follow=1") as response:
            for line in response.iter_lines():
                seen.append(line)
                begun.set()
                if "loading" in line:
                    loading.set()

    following = threading.Thread(target=follow)
    following.start()
    assert begun.wait(30)
    running.chat(MODEL, FIRST.question)
    assert loading.wait(30)
    assert running.end(signal.SIGINT) == 0
    following.join(30)
    assert not following.is_alive()
    assert all(line.startswith("runner | ") for line in seen)


def test_a_second_daemon_on_one_home_is_refused_in_one_line(running: Daemon) -> None:
    second = runner("serve", env={"RUNNER_PORT": str(free_port())})
    assert second.returncode == 4
    (line,) = [line for line in second.stderr.splitlines() if line.startswith("runner: a daemon")]
    assert f"pid {running.pid}" in line


def test_a_port_that_is_taken_is_named(packaged: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = runner("serve", env={"RUNNER_PORT": port})
        in_background = runner("start-runner", env={"RUNNER_PORT": port})
    assert refused.returncode == 4
    assert f"port {port} on 127.0.0.1 is taken" in refused.stderr
    assert "RUNNER_PORT" in refused.stderr
    assert in_background.returncode == 4
    assert f"port {port} on 127.0.0.1 is taken" in in_background.stderr


def test_the_socket_is_its_owners_alone(running: Daemon) -> None:
    assert stat.S_IMODE(running.socket.stat().st_mode) == 0o600


def test_two_homes_live_side_by_side(running: Daemon, session_folder: Path) -> None:
    other = session_folder / "other"
    with daemon(other, env={"RUNNER_PORT": str(free_port())}) as second:
        assert second.get("/models") == []
        assert len(running.get("/models")) == 1


def test_a_home_with_a_very_long_path_works(session_folder: Path) -> None:
    deep = session_folder / ("d" * 90) / "home"
    variables = {"RUNNER_HOME": str(deep), "RUNNER_PORT": str(free_port())}
    succeed("package", "--gguf", str(gguf_path()), MODEL, env=variables)
    with daemon(deep, env=variables) as found:
        assert found.chat(MODEL, FIRST.question) == FIRST.answer
        assert "is running" in succeed("status", env=variables)


def test_state_of_a_newer_program_is_refused(home: Path) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(home / "state.sqlite")) as db:
        db.execute("PRAGMA user_version = 99")
    for command in ("status", "serve", "start-runner"):
        refused = runner(command)
        assert refused.returncode == 4
        assert "newer runner" in refused.stderr


def test_the_daemon_starts_without_docker(running: Daemon) -> None:
    """The suite puts Docker out of reach for tests like this one."""
    assert "docker.sock" in os.environ["DOCKER_HOST"]
    refused = runner("install-runner", "--backend", "llama.cpp", "--gpu", "none")
    assert refused.returncode == 8
    assert "Docker" in refused.stderr
    assert running.get("/engines/status")["llama.cpp"].startswith("Running: llama.cpp")


def test_runner_works_as_a_module(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "version", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["daemon"] == ""


def test_stop_and_unload_take_over_engines_that_a_killed_daemon_left(running: Daemon) -> None:
    """A native engine ends with its daemon; what it leaves is swept by the next one."""
    running.chat(MODEL, FIRST.question)
    home = running.socket.parent.parent
    running.end(signal.SIGKILL)
    until(lambda: not _engine_pids(home), "the engine ended")
    assert "may still run" in runner("ps").stderr
    assert succeed("unload", "--all") == "No models are running.\n"
    assert list((home / "run" / "i").iterdir()) == []
    assert succeed("stop-runner") == "stopped the daemon and its engines\n"
    assert succeed("stop-runner") == "the daemon is not running\n"


def test_flags_that_are_the_runners_own_are_refused(packaged: Path) -> None:
    flags = "{llama.cpp: {flags: [--host, 0.0.0.0]}}"
    with daemon(packaged, env={"RUNNER_BACKENDS": flags}) as found, found.http() as client:
        response = client.post("/v1/chat/completions", json=chat_body(MODEL, "x"))
        assert response.status_code == 400
        assert "--host is set by the runner itself" in response.json()["error"]["message"]


def test_flags_that_the_engine_does_not_know_are_refused_with_the_nearest(packaged: Path) -> None:
    flags = "{llama.cpp: {flags: [--no-wramup]}}"
    with daemon(packaged, env={"RUNNER_BACKENDS": flags}) as found, found.http() as client:
        response = client.post("/v1/chat/completions", json=chat_body(MODEL, "x"))
        assert response.status_code == 400
        error = response.json()["error"]
        assert "--no-wramup is no flag of this engine" in error["message"]
        assert error["hint"] == "did you mean --no-warmup?"
        assert found.instances() == []


def test_removing_one_of_several_names_keeps_the_model(running: Daemon) -> None:
    running.chat(MODEL, FIRST.question)
    with running.http() as client:
        path = f"/models/{MODEL}/tag"
        assert client.post(path, params={"repo": "other/name", "tag": "2"}).status_code == 201
    assert "other/name:2" in succeed("rm", "--force", "other/name:2")
    assert running.get("/models")[0]["tags"] == [MODEL]
    assert len(running.instances()) == 1


def test_the_demo_model_needs_no_pull(home: Path) -> None:
    with daemon(home):
        assert succeed("run", "runner/demo", FIRST.question) == f"{FIRST.answer}\n"


def test_stalled_pulls_hold_up_nothing(packaged: Path) -> None:
    """A registry that takes connections and never answers."""
    with socket.socket() as stalled, ThreadPoolExecutor(8) as pool, daemon(packaged) as found:
        stalled.bind(("127.0.0.1", 0))
        stalled.listen()
        registry = f"localhost:{stalled.getsockname()[1]}"
        pulls = [pool.submit(runner, "pull", f"{registry}/m:{number}") for number in range(8)]
        waiting = [stalled.accept()[0] for _ in pulls]
        assert found.chat(MODEL, FIRST.question) == FIRST.answer
        assert "1 model loaded" in succeed("status")
        assert found.end(signal.SIGINT) == 0
        for pull in pulls:
            assert pull.result().returncode == 8
        for connection in waiting:
            connection.close()


def _open_in(process: int, file: Path) -> int:
    """How often a process has a file open."""
    return sum(
        os.path.realpath(link) == str(file) for link in Path(f"/proc/{process}/fd").iterdir()
    )


@contextmanager
def _plans_that_hang(found: Daemon, number: int) -> Iterator[None]:
    """Requests whose planning reads from a pipe that says nothing; it ends with the block."""
    (stored,) = found.get("/models")
    folder = found.socket.parent.parent / "models" / "bundles" / "sha256"
    pipe = folder / stored["id"].removeprefix("sha256:") / "bundle.json"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    with ThreadPoolExecutor(number) as pool:
        try:
            for _ in range(number):
                pool.submit(runner, "run", MODEL, FIRST.question)
            until(lambda: _open_in(found.pid, pipe) == number, "all of them hang")
            yield
        finally:
            pipe.unlink()
            os.close(held)


def test_plans_that_hang_hold_up_nothing_else(running: Daemon) -> None:
    with _plans_that_hang(running, 8):
        assert running.get("/version")["version"]
        assert "1 in the store" in succeed("status")
    until(lambda: len(running.instances()) == 1, "all go on once the pipe has ended")


def test_plans_that_hang_do_not_keep_the_daemon_from_ending(packaged: Path) -> None:
    with daemon(packaged, env={"RUNNER_DRAIN_TIMEOUT": "1"}) as found, _plans_that_hang(found, 2):
        assert found.end(signal.SIGINT) == 0
    assert "work that hangs" in (packaged / "daemon.log").read_text()
