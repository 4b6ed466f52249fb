"""The commands as a person sees them; a daemon starts only where one is needed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.demo import gguf_path, questions
from runner.errors import RunnerError
from runner.scheduler.misfortunes import TIMES
from tests.cli.terminal import on_a_terminal
from tests.registry.server import Registry, running
from tests.support.program import runner, succeed

MODEL = "localhost:5000/demo:1"
FIRST, SECOND = questions()[:2]


@pytest.fixture
def stopped_at_the_end(home: Path) -> Iterator[Path]:
    yield home
    succeed("stop-runner")


@pytest.mark.parametrize("command", ["ps", "ls", "unload --all", "logs", "config", "version"])
def test_quick_commands_never_start_the_daemon(home: Path, command: str) -> None:
    assert runner(*command.split()).returncode == 0
    assert not (home / "run" / "runner.sock").exists()


def test_status_says_that_nothing_runs_and_exits_with_1(home: Path) -> None:
    done = runner("status")
    assert done.returncode == 1
    assert "not running" in done.stdout
    assert json.loads(succeed("status", "--json"))["running"] is False
    assert not (home / "run" / "runner.sock").exists()


def test_a_command_that_needs_the_daemon_starts_it_and_says_so(stopped_at_the_end: Path) -> None:
    succeed("package", "--gguf", str(gguf_path()), MODEL)
    done = runner("run", MODEL, FIRST.question)
    assert done.stdout == f"{FIRST.answer}\n"
    assert "started the runner's daemon in the background" in done.stderr
    again = runner("run", MODEL, stdin=SECOND.question)
    assert again.stdout == f"{SECOND.answer}\n"
    assert "started" not in again.stderr
    whole = json.loads(succeed("run", "--json", MODEL, FIRST.question))
    assert whole["choices"][0]["message"]["content"] == FIRST.answer
    assert MODEL in succeed("ps")
    assert "1 model loaded, 1 in the store" in succeed("status")
    assert "llama.cpp" in succeed("logs", MODEL)


def test_a_file_is_run_by_its_path(stopped_at_the_end: Path, tmp_path: Path) -> None:
    file = tmp_path / "My Model.gguf"
    file.write_bytes(gguf_path().read_bytes())
    first = runner("run", str(file), FIRST.question)
    assert first.stdout == f"{FIRST.answer}\n"
    assert "as localhost/my-model" in first.stderr
    again = runner("run", str(file), SECOND.question)
    assert again.stdout == f"{SECOND.answer}\n"
    assert "packaged" not in again.stderr
    assert "localhost/my-model" in succeed("ls")


def test_a_file_that_is_no_model_is_refused_before_anything_starts(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.gguf").write_bytes(b"<html>")
    for name in (tmp_path / "x.gguf", tmp_path / "nowhere.gguf"):
        assert runner("run", str(name), "x").returncode == 2
    assert not (home / "run" / "runner.sock").exists()


def test_a_model_that_is_not_here_is_pulled(
    stopped_at_the_end: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(stopped_at_the_end / "docker"))
    with running(Registry()) as registry:
        name = f"{registry.address}/x/demo:1"
        succeed("package", "--gguf", str(gguf_path()), "--push", name)
        succeed("rm", name)
        assert succeed("ls", "--quiet") == ""
        first = runner("run", name, FIRST.question)
        assert first.stdout == f"{FIRST.answer}\n", first.stderr
        assert f"{name} is not in the store: pulling it\n" in first.stderr
        again = runner("run", name, SECOND.question)
        assert again.stdout == f"{SECOND.answer}\n"
        assert "pulling" not in again.stderr
        missing = runner("run", f"{registry.address}/x/nobody:1", FIRST.question)
        assert missing.stdout == ""
        assert missing.returncode != 0
        assert f"{registry.address}/x/nobody:1 is not in the store: pulling it" in missing.stderr


BROKEN = """\
schema: 1
name: broken
formats: [gguf]
modes: [completion]
health_path: /
command: ["-c", "raise SystemExit('no such device')", "{socket}"]
variants:
  - {name: cpu, accelerator: cpu, version: "1", platforms: [linux/amd64], form: environment}
"""


@pytest.fixture
def first_choice_broken(stopped_at_the_end: Path) -> Path:
    """The user's own engine goes before llama.cpp, and never starts."""
    folder = stopped_at_the_end / "engines.d" / "broken"
    (folder / "cpu").mkdir(parents=True)
    (folder / "cpu" / "requirements.txt").write_text("# nothing but Python's own library\n")
    (folder / "engine.yaml").write_text(BROKEN)
    succeed("package", "--gguf", str(gguf_path()), MODEL)
    succeed("install-runner", "--backend", "broken", "--gpu", "none")
    succeed("engines", "default-format", "gguf", "broken")
    succeed("engines", "fallback", "gguf", "llama.cpp")
    return stopped_at_the_end


TOOK_OVER = "broken/cpu did not start (broken ended with status 1): llama.cpp/native answers\n"


def test_a_fallback_is_told_wherever_it_shows(first_choice_broken: Path) -> None:
    """By the answer, by ps, and by explain once the first choice is passed over."""
    done = runner("run", MODEL, FIRST.question)
    assert done.stdout == f"{FIRST.answer}\n", done.stderr
    assert done.stderr == TOOK_OVER
    whole = runner("run", "--json", MODEL, FIRST.question)
    assert json.loads(whole.stdout)["choices"][0]["message"]["content"] == FIRST.answer
    assert whole.stderr == TOOK_OVER
    shown = runner("ps")
    assert " llama.cpp/native for broken/cpu " in shown.stdout
    assert shown.stderr == TOOK_OVER
    (told,) = json.loads(succeed("ps", "--json"))
    assert told["stands_in"] == {
        "for": "broken/cpu",
        "why": "did not start",
        "reason": "broken ended with status 1",
        "note": TOOK_OVER.strip(),
    }
    explained = " ".join(succeed("explain", MODEL).split())
    assert f"But {TOOK_OVER.strip()}. Next: `runner unload {MODEL}` gives it" in explained
    named = runner("run", "--backend", "llama.cpp", MODEL, FIRST.question)
    assert (named.stdout, named.stderr) == (f"{FIRST.answer}\n", "")
    screen = on_a_terminal(["run", MODEL], [FIRST.question, SECOND.question, "/bye"])
    assert screen.count(TOOK_OVER) == 1, "a chat tells it once"
    assert screen.index(TOOK_OVER) < screen.index(FIRST.answer) < screen.index(SECOND.answer)


def test_what_keeps_failing_goes_last_until_an_unload(first_choice_broken: Path) -> None:
    passed_over = "But llama.cpp/native answers until "
    assert passed_over not in succeed("explain", MODEL)
    for _ in range(TIMES):
        assert runner("run", "--backend", "broken", MODEL, "x").returncode == 7
    assert json.loads(succeed("ps", "--json")) == []
    told = " ".join(succeed("explain", MODEL).split())
    assert passed_over in told
    reason = "broken/cpu keeps failing (broken ended with status 1)."
    assert f"{reason} Next: `runner unload {MODEL}` gives it another chance now" in told
    succeed("unload", MODEL)
    assert passed_over not in succeed("explain", MODEL)
    assert runner("unload", MODEL).returncode == 3, "there is nothing left to unload"


def test_a_chat_on_a_terminal_keeps_its_history(stopped_at_the_end: Path) -> None:
    succeed("package", "--gguf", str(gguf_path()), MODEL)
    screen = on_a_terminal(["run", MODEL], [FIRST.question, SECOND.question, "/help", "/bye"])
    assert FIRST.answer in screen
    assert SECOND.answer in screen
    assert "/clear" in screen


def test_first_answer_leaves_nothing_running(home: Path) -> None:
    done = runner("demo", "--run")
    assert done.returncode == 0, done.stderr
    first = next(known for known in questions() if known.question == "What is an engine?")
    assert first.answer in done.stdout
    assert "as a native process" in done.stdout
    assert "What to try next:" in done.stdout
    assert "ai/smollm2" in done.stdout
    assert runner("status").returncode == 1


def test_demo_lists_and_exports(home: Path) -> None:
    listed = succeed("demo")
    assert all(known.question in listed for known in questions())
    target = home / "demo.gguf"
    succeed("demo", "--export", str(target))
    assert target.read_bytes() == gguf_path().read_bytes()
    refused = runner("demo", "--export", "/nowhere/at/all.gguf")
    assert refused.returncode == 2
    assert refused.stderr.startswith("runner: can't write")


def test_package_prints_the_digest_and_ls_shows_the_model(home: Path) -> None:
    digest = succeed("package", "--gguf", str(gguf_path()), MODEL).strip()
    assert digest.startswith("sha256:")
    assert succeed("package", "--gguf", str(gguf_path()), MODEL).strip() == digest
    (model,) = json.loads(succeed("ls", "--json"))
    assert model["id"] == digest
    assert model["config"]["format"] == "gguf"
    header, row = succeed("ls").splitlines()
    assert header.startswith("MODEL")
    assert row.startswith(MODEL)


def test_a_damaged_gguf_is_refused(home: Path) -> None:
    damaged = home / "damaged.gguf"
    damaged.write_bytes(gguf_path().read_bytes()[:100_000])
    refused = runner("package", "--gguf", str(damaged), MODEL)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "damaged.gguf" in refused.stderr
    assert succeed("ls", "--json").strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["install-runner", "--backend", "lama.cpp"], 3, "did you mean llama.cpp?"),
        (["install-runner", "--gpu", "cude"], 2, "did you mean cuda?"),
        (["install-runner", "--backend", "vllm", "--gpu", "cuda"], 8, "start Docker"),
        (["install-runner", "--backend", "mlx-lm", "--gpu", "metal"], 5, "can't run"),
        (["run", "Bad Name", "x"], 2, "runner: "),
        (["pull", "localhost:1/nobody"], 9, "localhost:1"),
        (["push", "localhost:1/nobody"], 3, "runner: "),
        (["unload"], 2, "--all"),
    ],
)
def test_errors_are_one_line_with_the_next_step(
    stopped_at_the_end: Path, arguments: list[str], status: int, said: str
) -> None:
    succeed("start-runner")
    done = runner(*arguments)
    assert done.returncode == status, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("runner: ")
    assert said in last
    assert "Traceback" not in done.stderr


def test_config_shows_origins_and_check_finds_faults(home: Path) -> None:
    (home / "config.yaml").write_text("log_level: debug\n")
    shown = succeed("config")
    assert str(home / "config.yaml") in shown
    assert "$RUNNER_PORT" in shown
    assert json.loads(succeed("config", "--json"))["log_level"]["value"] == '"debug"'
    assert "good" in succeed("config", "check")
    bad = home / "bad.yaml"
    bad.write_text("log_levl: debug\n")
    refused = runner("config", "check", str(bad))
    assert refused.returncode == 2
    assert "did you mean log_level?" in refused.stderr


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("preference: [vlm]", "preference: 'vlm' is not an engine. Next: did you mean vllm?"),
        ("backends: {lama.cpp: {}}", "did you mean llama.cpp?"),
        ("backends: {llama.cpp: {flags: [--nonsense]}}", "backends.llama.cpp: --nonsense is no"),
        ("backends: {llama.cpp: {options: {threads: many}}}", "threads is 'many'"),
    ],
)
def test_config_check_asks_the_engines(home: Path, settings: str, told: str) -> None:
    (home / "config.yaml").write_text(settings)
    for arguments in (("config", "check"), ("config", "check", str(home / "config.yaml"))):
        refused = runner(*arguments)
        assert refused.returncode == 2
        assert told in refused.stderr


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(home: Path, streams: str) -> None:
    program = f"exec {shlex.quote(sys.executable)} -m runner ls {streams}"
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_error_has_an_exit_status_of_its_own_kind() -> None:
    def kinds(kind: type[RunnerError]) -> Iterator[type[RunnerError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from kinds(child)

    for kind in kinds(RunnerError):
        assert kind.exit_code > 0
        assert 400 <= kind.status < 600
    codes = [kind.code for kind in kinds(RunnerError) if kind.__module__ == "runner.errors"]
    assert len(codes) == len(set(codes))


def test_every_command_of_the_readme_exists() -> None:
    import re

    from tests.support.images import ROOT

    text = (ROOT / "README.md").read_text()
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.S))
    told = set(re.findall(r"`runner ([a-z-]+)", text))
    told |= set(re.findall(r"(?:^|; )runner ([a-z-]+)", blocks, re.M))
    assert {"install-runner", "run", "unload"} <= told
    listed = succeed("--help")
    missing = {name for name in told if f"\n  {name} " not in listed}
    assert not missing
