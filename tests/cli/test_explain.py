"""`runner explain` as an expert reads it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cli.explanation import WIDTH, command_lines, lines
from runner.errors import BadInput, ModelNotFound
from tests.api.control import MODEL, recorded
from tests.cli.in_process import Terminal, terminal


@pytest.fixture(params=["nvidia", "amd", "mac", "cpu"])
def shell(
    request: pytest.FixtureRequest,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Terminal]:
    with terminal(recorded(request.param), home, capsys, monkeypatch) as found:
        found.api.package_demo()
        yield found


def test_the_choice_comes_first_then_the_command_then_the_rest(shell: Terminal) -> None:
    lines = shell.run("explain", MODEL).splitlines()
    assert lines[0] == f"{MODEL}: gguf, F16, llama, 2.6 MB"
    assert lines[1].startswith("Served by llama.cpp/native ")
    assert " as a native process" in f"{lines[1]} {lines[2]}"
    table = next(n for n, line in enumerate(lines) if line.startswith("  VARIANT"))
    command = next(n for n, line in enumerate(lines) if "native_llamacpp" in line)
    assert command < table
    assert [line for line in lines if line.startswith("* ")] == [
        line for line in lines[table + 1 :] if line.startswith("* llama.cpp/native")
    ]
    assert lines[table + 1].endswith("nothing, it fits")
    assert any(line.startswith("format: the model is gguf; required: ") for line in lines)


def test_every_verdict_against_a_variant_is_there(shell: Terminal) -> None:
    document = json.loads(shell.run("explain", "--json", MODEL))
    text = " ".join(shell.run("explain", MODEL).split())
    against = [
        verdict
        for variant in document["variants"]
        for verdict in variant["verdicts"]
        if not verdict["ok"]
    ]
    assert against
    for verdict in against:
        told = f"{verdict['code']}: {verdict['found']}; required: {verdict['required']}"
        assert " ".join(told.split()) in text
        assert " ".join(verdict["hint"].split()) in text
        assert verdict["subject"] in text


def test_it_fits_eighty_columns_but_for_what_must_stay_whole(shell: Terminal) -> None:
    lines = shell.run("explain", MODEL).splitlines()
    long = [line for line in lines if len(line) > WIDTH]
    assert all(len(line.rstrip("\\").split()) <= 2 for line in long), long


def test_what_was_set_is_told_in_its_place(shell: Terminal) -> None:
    shell.run(
        *("configure", MODEL, "--context-size", "512", "--threads", "2", "--no-mmap"),
        *("--env", "LD_PRELOAD=x", "--set", "sampling.top_k=40"),
    )
    lines = shell.run("explain", MODEL).splitlines()
    assert any(line.startswith("  context   512 tokens, ") for line in lines)
    assert "  options   context_size=512 threads=2 mmap=false" in lines
    assert "  flags     --top-k 40" in lines
    assert any(line.startswith("  variable  LD_PRELOAD: dropped, because") for line in lines)
    assert any(line.startswith("  note      sampling.top_k is passed as") for line in lines)


def test_a_refusal_has_reasons_and_a_next_step(shell: Terminal) -> None:
    lines = shell.run("explain", MODEL, "--backend", "vllm", "--gpu", "none").splitlines()
    assert lines[1].startswith("Not served: ")
    assert next(line for line in lines if " variants can " in line).endswith("can serve it:")
    assert any(line.startswith("Next: ") for line in lines[:8])
    assert not any(line.startswith("* ") for line in lines)


def test_a_model_that_is_not_quantized_has_no_word_for_it() -> None:
    model = {"name": "m", "format": "safetensors", "quantization": "none", "size": 2_700_000}
    found: dict[str, object] = {
        "model": {**model, "architecture": "LlamaForCausalLM"},
        **dict.fromkeys(("choice", "problem", "start", "command", "fallbacks")),
        "variants": [],
    }
    assert next(lines(found)) == "m: safetensors, LlamaForCausalLM, 2.7 MB"


def test_bad_words_are_refused(shell: Terminal) -> None:
    with pytest.raises(ModelNotFound):
        shell.run("explain", "ai/nobody")
    with pytest.raises(BadInput) as caught:
        shell.run("explain", MODEL, "--gpu", "cude")
    assert caught.value.hint == "did you mean cuda?"


@pytest.mark.parametrize(
    "command",
    [
        ["docker", "run", "--rm", "--env", "A=1 2", "image", "--model", "/m", "-c", "1"] * 4,
        ["/bin/x", "--a", "it's", "--b"],
        ["docker", "run", *(f"--flag-{n}={'x' * 70}" for n in range(3))],
        ["one"],
    ],
)
def test_a_command_can_be_pasted(command: list[str]) -> None:
    lines = list(command_lines(command))
    assert shlex.split("\n".join(lines).replace("\\\n", " ")) == command
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert all(len(line) <= WIDTH or len(line.split()) <= 3 for line in lines)
