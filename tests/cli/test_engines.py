"""`runner engines` and its choices, `run` and `install-runner` with an engine and a GPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cli.options import engine_path
from runner.engines.custom import described
from runner.errors import BadInput, EngineNotFound, RunnerError
from runner.state import ChoiceKind, Install
from tests.api.control import PROBLEM, recorded
from tests.cli.in_process import Terminal, terminal
from tests.cli.terminal import on_a_terminal
from tests.support.program import succeed

DIGEST = "sha256:" + "a" * 64
CUDA = Install("llama.cpp", "cuda12", "v1", DIGEST, "", DIGEST, (), "built", 1, 1)


@pytest.fixture
def shell(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    with terminal(recorded("nvidia"), home, capsys, monkeypatch) as found:
        found.api.services.state.record(CUDA)
        yield found


def test_engines_are_a_table_of_variants(shell: Terminal) -> None:
    lines = shell.run("engines").splitlines()
    assert lines[0].split() == [
        "ENGINE",
        "VARIANT",
        "FOR",
        "VERSION",
        "HERE",
        "AS",
        "FORMATS",
        "FROM",
    ]
    rows = {tuple(line.split()[:2]): line.split() for line in lines[1:]}
    cuda = rows["llama.cpp", "cuda12"]
    assert cuda[2:7] == ["cuda", "v1", "installed", "container", "gguf"]
    assert cuda[-1] == "built-in"
    assert rows["llama.cpp", "native"][4:6] == ["installed", "process"]
    assert rows["vllm", "rocm"][4] == "available"
    assert len(rows) == len(lines) - 1
    document = json.loads(shell.run("engines", "--json"))
    assert [engine["backend"] for engine in document["engines"]] == ["llama.cpp", "vllm"]


def test_an_engine_that_is_not_readable_is_told_of(shell: Terminal) -> None:
    told = shell.errors("engines")
    assert f"left out: {PROBLEM.message}. Next: {PROBLEM.hint}" in told


BROKEN = """\
schema: 1
name: Mine
formts: [gguf]
modes: [completoin]
health_path: /health
command: [--uds, "{sockt}"]
variants:
  - {name: cpu, accelerator: cpu, version: "1", platforms: [linux/amd64], form: image}
"""


def test_every_mistake_of_an_engine_yaml_has_a_line_of_its_own(
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "mine" / "engine.yaml"
    file.parent.mkdir()
    file.write_text(BROKEN)
    (problem,) = described(tmp_path)
    monkeypatch.setattr("tests.api.control.PROBLEM", problem)
    with terminal(recorded("nvidia"), home, capsys, monkeypatch) as shell:
        told = shell.errors("engines").splitlines()
        (document,) = json.loads(shell.run("engines", "--json"))["problems"]
    mark = f"{file}:"
    assert told[0] == "runner: left out:"
    assert told[-1] == f"Next: correct {file}: its fields are in docs/engines.md"
    lines = told[1:-1]
    assert [line.removeprefix(mark).split(": ")[:2] for line in lines] == [
        ["1", "formats"],
        ["2", "name"],
        ["3", "formts"],
        ["4", "modes[0]"],
        ["6", "command"],
        ["6", "command"],
        ["8", "variants[0].name"],
    ]
    hints = (
        *("such as [gguf]", "allowed: small letters", "did you mean formats?"),
        *("did you mean completion?", "did you mean socket?", "or set `listens_on_tcp: true`"),
        "the file cpu/Dockerfile is missing: add it",
    )
    for line, hint in zip(lines, hints, strict=True):
        assert hint in line
    assert document["message"].splitlines() == lines


def test_a_format_gets_an_engine_of_its_own(shell: Terminal) -> None:
    choices = shell.api.services.state
    shown = shell.run("engines", "default-format", "gguf")
    assert shown == "gguf: no choice, the usual order holds\n"
    assert shell.run("engines", "default-format", "gguf", "llamacpp") == "gguf: llama.cpp\n"
    assert choices.choices(ChoiceKind.FORMAT) == {"gguf": "llama.cpp"}
    assert shell.run("engines", "default-format", "GGUF") == "gguf: llama.cpp\n"
    assert "your engine for gguf: llama.cpp" in shell.run("engines")
    shell.run("engines", "default-format", "gguf", "--reset")
    assert choices.choices(ChoiceKind.FORMAT) == {}
    assert "your engine" not in shell.run("engines")


def test_an_engine_gets_a_default_variant(shell: Terminal) -> None:
    assert shell.run("engines", "default", "llama.cpp", "cuda12") == "llama.cpp: cuda12\n"
    assert " cuda12* " in shell.run("engines")
    document = json.loads(shell.run("engines", "default", "llamacpp", "--json"))
    assert document == {"kind": "variant", "subject": "llama.cpp", "value": "cuda12"}


def test_fallbacks_are_kept_in_their_order(shell: Terminal) -> None:
    told = shell.run("engines", "fallback", "ai/m", "vllm,llama.cpp")
    assert told == "docker.io/ai/m:latest: vllm,llama.cpp\n"
    shell.run("engines", "default-format", "gguf", "llama.cpp")
    assert shell.run("engines").endswith(
        "\n\nyour engine for gguf: llama.cpp\nfallback for docker.io/ai/m:latest: vllm,llama.cpp\n"
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (["default-format", "gguf", "lama.cpp"], "did you mean llama.cpp?"),
        (["default-format", "gguf", "vllm", "--reset"], "keep one"),
        (["default", "llama.cpp", "cdua"], "did you mean cuda"),
        (["fallback", "safetensors", "vllm,vlm"], "did you mean vllm?"),
    ],
)
def test_a_wrong_name_gets_the_nearest(shell: Terminal, written: list[str], said: str) -> None:
    with pytest.raises(RunnerError) as caught:
        shell.run("engines", *written)
    assert said in caught.value.hint


@pytest.mark.parametrize(
    ("backend", "gpu", "path"),
    [
        ("", "auto", ""),
        ("vllm", "auto", "vllm"),
        ("llamacpp", "none", "llama.cpp:cpu"),
        ("vllm", "cuda", "vllm:cuda"),
        ("", "hip", "any:rocm"),
        ("any", "cuda", "any:cuda"),
        ("llama.cpp:cuda12", "auto", "llama.cpp:cuda12"),
    ],
)
def test_backend_and_gpu_are_one_word_of_a_path(backend: str, gpu: str, path: str) -> None:
    assert engine_path(backend, gpu) == path


@pytest.mark.parametrize(
    ("backend", "gpu", "kind", "said"),
    [
        ("", "cude", BadInput, "did you mean cuda?"),
        ("llama.cpp:cuda12", "cuda", BadInput, "leave out :cuda12"),
        ("status", "auto", EngineNotFound, "runner engines"),
    ],
)
def test_what_cannot_be_asked_for(
    backend: str, gpu: str, kind: type[RunnerError], said: str
) -> None:
    with pytest.raises(kind) as caught:
        engine_path(backend, gpu)
    assert said in caught.value.hint


def test_status_at_rest_shows_every_variant(home: Path, shell: Terminal) -> None:
    shown = json.loads(succeed("status", "--json"))["engines"]
    assert [(one["variant"], one["launcher"]) for one in shown] == [
        ("cuda12", "docker"),
        ("native", "process"),
    ]


def test_the_table_fits_a_narrow_terminal(home: Path) -> None:
    try:
        screen = on_a_terminal(["engines"], [], columns=80).splitlines()
    finally:
        succeed("stop-runner")
    table = [line for line in screen if line.startswith(("ENGINE", "llama.cpp", "vllm"))]
    assert len(table) > 5
    assert max(map(len, table)) <= 80
