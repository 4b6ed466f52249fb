"""Engines that a user describes: what is read, and what their commands come to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from runner.engines.base import Endpoint, Plan, TcpEndpoint, UnixEndpoint
from runner.engines.custom import DescribedEngine, described
from runner.engines.description import Origin
from runner.engines.environment import COMMON_RULES, Outcome, settle
from runner.engines.flags import checked
from runner.engines.options import Options
from runner.engines.registered import engines
from runner.errors import BadEngineFile, BadInput, RunnerError

YAML = """\
schema: 1
name: {name}
health_path: /health
formats: [gguf]
modes: [completion]
command: {command}
environment: {environment}
listens_on_tcp: {tcp}
variants:
  - name: cpu
    accelerator: cpu
    version: "1"
    platforms: [linux/amd64]
    form: image
    image: my/server:1
"""

SOCKET = UnixEndpoint("/run/engine/engine.sock")
PORT = TcpEndpoint("0.0.0.0", 8080)


def write(
    folder: Path,
    name: str = "mine",
    command: str = "[--uds, '{socket}']",
    environment: str = "{}",
    tcp: str = "false",
) -> Path:
    own = folder / name
    own.mkdir(parents=True)
    file = own / "engine.yaml"
    text = YAML.format(name=name, command=command, environment=environment, tcp=tcp)
    file.write_text(text)
    return file


def engine(
    folder: Path, command: str, environment: str = "{}", tcp: str = "false"
) -> DescribedEngine:
    write(folder, command=command, environment=environment, tcp=tcp)
    (found,) = described(folder)
    assert isinstance(found, DescribedEngine), found
    return found


def plan(listen: Endpoint = SOCKET, **options: int) -> Plan:
    return Plan(
        model_file=PurePosixPath("/model/a b/weights.gguf"),
        model_folder=PurePosixPath("/model/a b"),
        listen=listen,
        context_size=4096,
        names=("localhost:5000/{threads}:1", "other"),
        gpu_count=2,
        options=Options(**options),  # type: ignore[arg-type]
    )


def arguments(folder: Path, command: str, of: Plan, tcp: str = "false") -> Sequence[str]:
    return engine(folder, command, tcp=tcp).command(of).arguments


# Reading


def test_every_folder_is_an_engine_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write(tmp_path, name)
    found = list(described(tmp_path))
    assert [one.description.name for one in found if isinstance(one, DescribedEngine)] == [*"abc"]
    assert {one.description.origin for one in found if isinstance(one, DescribedEngine)} == {
        Origin.USER
    }


@pytest.mark.parametrize("folder", [None, Path("/nonexistent/engines.d")])
def test_no_folder_is_no_engine(folder: Path | None) -> None:
    assert list(described(folder)) == []


def test_what_is_broken_is_its_error_and_takes_no_other_with_it(tmp_path: Path) -> None:
    write(tmp_path, "good")
    write(tmp_path, "broken", command="[--uds, '{sockt}']")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "engine.yaml").mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "engine.yaml")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").write_text("not a folder")
    broken, empty, good, odd, pipe = described(tmp_path)
    assert isinstance(good, DescribedEngine)
    assert isinstance(broken, BadEngineFile)
    assert "{sockt}" in broken.message
    assert "did you mean socket?" in broken.message
    assert str(tmp_path / "broken" / "engine.yaml") in broken.message
    for error, name in ((empty, "empty"), (odd, "odd"), (pipe, "pipe")):
        assert isinstance(error, BadEngineFile)
        assert error.message == f"{tmp_path / name} has no file engine.yaml"


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    file = tmp_path / "engines.d"
    file.write_text("")
    (error,) = described(file)
    assert isinstance(error, BadEngineFile)
    assert str(file) in error.message


def test_a_name_that_is_taken_is_told_and_left_out(tmp_path: Path) -> None:
    write(tmp_path, "mine")
    write(tmp_path, "llama.cpp")
    found = engines(tmp_path)
    assert isinstance(found["mine"], DescribedEngine)
    assert not isinstance(found["llama.cpp"], DescribedEngine)
    told = [problem.message for problem in found.problems]
    assert any("there is an engine llama.cpp already" in message for message in told)


# Commands


def test_placeholders_are_filled_in_argument_by_argument(tmp_path: Path) -> None:
    command = (
        "[serve, --model, '{model_file}', '--dir={model_path}', --name, '{model_name}', --uds,"
        " '{socket}', -c, '{context_size}', --gpus, '{gpu_count}', --cache, '{cache}/x',"
        " '{\"a\": {}}', '$(id); `id`']"
    )
    assert arguments(tmp_path, command, plan()) == (
        *("serve", "--model", "/model/a b/weights.gguf", "--dir=/model/a b"),
        *("--name", "localhost:5000/{threads}:1", "--uds", "/run/engine/engine.sock"),
        *("-c", "4096", "--gpus", "2", "--cache", "/cache/x", '{"a": {}}', "$(id); `id`"),
    )


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("[--uds, '{socket}', --threads, '{threads}']", ("--uds", SOCKET.path)),
        ("[--threads, '{threads}', --uds, '{socket}']", ("--uds", SOCKET.path)),
        ("[--verbose, '--threads={threads}', '{socket}']", ("--verbose", SOCKET.path)),
        ("[run, '{threads}', '{socket}']", ("run", SOCKET.path)),
        ("[--host, '{host}', --port, '{port}', --uds, '{socket}']", ("--uds", SOCKET.path)),
        ("['{host}:{port}', '{socket}']", (SOCKET.path,)),
    ],
)
def test_what_has_no_value_is_left_out_with_its_flag(
    tmp_path: Path, command: str, expected: tuple[str, ...]
) -> None:
    assert arguments(tmp_path, command, plan()) == expected


def test_options_that_are_set_are_filled_in(tmp_path: Path) -> None:
    command = "[--uds, '{socket}', --threads, '{threads}']"
    assert arguments(tmp_path, command, plan(threads=3))[2:] == ("--threads", "3")


def test_an_engine_that_listens_on_tcp_is_given_host_and_port(tmp_path: Path) -> None:
    command = "[--uds, '{socket}', --listen, '{host}:{port}']"
    assert arguments(tmp_path, command, plan(PORT), "true") == ("--listen", "0.0.0.0:8080")


def test_the_users_own_flags_come_last(tmp_path: Path) -> None:
    of = replace(plan(), flags=("--more", "1"))
    assert arguments(tmp_path, "['{socket}']", of) == (SOCKET.path, "--more", "1")


def test_what_has_a_placeholder_is_supported(tmp_path: Path) -> None:
    found = engine(tmp_path, "['{socket}', '{context_size}']")
    assert found.supported == {"gpus", "context_size"}


def test_the_cache_of_a_native_process_is_a_folder_of_this_host(tmp_path: Path) -> None:
    of = replace(plan(), cache_folder=PurePosixPath("/home/me/cache"))
    assert arguments(tmp_path, "['{socket}', '{cache}']", of)[1] == "/home/me/cache"


# Flags and environment


def test_unknown_flags_wait_for_the_operator(tmp_path: Path) -> None:
    rules = engine(tmp_path, "[--uds, '{socket}', --fixed, '1', '--ctx={context_size}']").flag_rules
    with pytest.raises(BadInput, match="--more is no flag of this engine"):
        checked(["--more", "1"], rules)
    assert checked(["--more", "1"], rules, allowed=frozenset({"--more"})) == ("--more", "1")


@pytest.mark.parametrize("flag", ["--uds", "--ctx"])
def test_flags_that_the_runner_fills_in_are_its_own(tmp_path: Path, flag: str) -> None:
    rules = engine(tmp_path, "[--uds, '{socket}', '--ctx={context_size}']").flag_rules
    with pytest.raises(BadInput, match="set by the runner itself"):
        checked([flag, "x"], rules, allowed=frozenset({flag}))


def test_the_descriptions_environment_is_a_default_for_the_user(tmp_path: Path) -> None:
    text = "{LEVEL: low, LD_LIBRARY_PATH: /opt/lib, THREADS: 'n={gpu_count}'}"
    found = engine(tmp_path, "['{socket}']", text)
    asked = {"LEVEL": "high", "LD_LIBRARY_PATH": "/evil", "THREADS": "9", "LD_PRELOAD": "x"}
    done = settle(asked, (*found.environment_rules, *COMMON_RULES), {})
    assert done.environment == {"LEVEL": "high", "LD_LIBRARY_PATH": "/opt/lib"}
    outcomes = {fate.name: fate.outcome for fate in done.fates}
    assert outcomes == {
        "LEVEL": Outcome.KEPT,
        "LD_LIBRARY_PATH": Outcome.OVERRIDDEN,
        "THREADS": Outcome.DROPPED,
        "LD_PRELOAD": Outcome.DROPPED,
    }
    assert found.command(plan()).environment == {"THREADS": "n=2"}


def test_a_variable_whose_placeholder_has_no_value_is_left_out(tmp_path: Path) -> None:
    found = engine(tmp_path, "['{socket}']", "{THREADS: '{threads}'}")
    assert found.command(plan()).environment == {}
    assert found.command(plan(threads=2)).environment == {"THREADS": "2"}


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "memory"),
        ("libc++abi: terminating: std::bad_alloc", "memory"),
        ("CUDA driver version is insufficient for CUDA runtime version", "driver"),
        ("server: error while loading shared libraries: libfoo.so.1: cannot open", "libfoo.so.1"),
        ("ModuleNotFoundError: No module named 'flask'", "flask"),
        ("OSError: [Errno 30] Read-only file system: '/root/.cache'", "/cache"),
        ("PermissionError: [Errno 13] Permission denied: '/app'", "10001"),
        ("all is well", ""),
    ],
)
def test_common_troubles_have_a_hint(tmp_path: Path, line: str, hint: str) -> None:
    found = engine(tmp_path, "['{socket}']").hint(["before", line])
    assert hint in found
    assert bool(found) is bool(hint)


def test_problems_are_errors_of_the_one_tree(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert all(isinstance(problem, RunnerError) for problem in described(tmp_path))
