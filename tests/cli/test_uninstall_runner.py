"""The words of `install-runner` and `uninstall-runner`: taken, or refused with the nearest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import (
    BadInput,
    DockerUnavailable,
    EngineNotFound,
    EngineNotInstalled,
    RunnerError,
    Unsupported,
)
from runner.state import Install
from tests.api.control import recorded
from tests.cli.in_process import Terminal, terminal

DIGEST = "sha256:" + "a" * 64
BOTH = ("install-runner", "uninstall-runner")


def own(variant: str) -> Install:
    """An image that the user's engine.yaml named: uninstalling it asks Docker for nothing but
    whether it is there."""
    return Install("llama.cpp", variant, "v1", DIGEST, "", DIGEST, (), "example.org/x", 1, 1)


@pytest.fixture
def shell(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    with terminal(recorded("nvidia"), home, capsys, monkeypatch) as found:
        yield found


def refused(shell: Terminal, command: str, *words: str) -> RunnerError:
    with pytest.raises(RunnerError) as caught:
        shell.run(command, *words)
    return caught.value


@pytest.mark.parametrize("command", BOTH)
@pytest.mark.parametrize(
    ("words", "kind", "said", "hint"),
    [
        ("--backend vlm", EngineNotFound, "'vlm' is not an engine", "did you mean vllm?"),
        ("--backend lama.cpp:cuda12", EngineNotFound, "'lama.cpp'", "did you mean llama.cpp?"),
        ("--backend any:cuda", EngineNotFound, "'any' is not an engine", "runner engines"),
        ("--backend vllm --variant cudaa", BadInput, "no variant 'cudaa'", "did you mean cuda?"),
        ("--backend vllm:cudaa", BadInput, "vllm has no variant 'cudaa'", "did you mean cuda?"),
        ("--backend llama.cpp:cuda14", BadInput, "no variant 'cuda14'", "did you mean cuda1"),
        ("--gpu cude", BadInput, "'cude' is not an accelerator", "did you mean cuda?"),
    ],
)
def test_a_wrong_name_gets_the_nearest(
    shell: Terminal, command: str, words: str, kind: type[RunnerError], said: str, hint: str
) -> None:
    error = refused(shell, command, *words.split())
    assert type(error) is kind
    assert said in error.message
    assert hint in error.hint


@pytest.mark.parametrize("command", BOTH)
@pytest.mark.parametrize(
    ("words", "one", "other"),
    [
        ("llama.cpp:cuda12 --variant cuda13", "--backend llama.cpp:cuda12", "--variant cuda13"),
        ("llama.cpp:cuda12 --gpu none", "--backend llama.cpp:cuda12", "--gpu none"),
        ("llama.cpp:cuda --gpu rocm", "--backend llama.cpp:cuda", "--gpu rocm"),
        ("llama.cpp:cuda --variant cpu", "--backend llama.cpp:cuda", "--variant cpu"),
        ("llamacpp --gpu none --variant cuda12", "--gpu none", "--variant cuda12"),
    ],
)
def test_words_that_contradict_each_other_are_refused(
    shell: Terminal, command: str, words: str, one: str, other: str
) -> None:
    error = refused(shell, command, "--backend", *words.split())
    assert type(error) is BadInput
    assert error.message == f"{one} and {other} contradict each other"
    assert error.hint == "keep one of them"


@pytest.mark.parametrize(
    "words",
    [
        "--backend llama.cpp:cuda12",
        "--backend llamacpp:cuda12 --variant cuda12 --gpu cuda",
        "--backend llama.cpp:cuda --variant cuda12",
    ],
)
def test_an_engine_and_its_variant_are_one_word(shell: Terminal, words: str) -> None:
    """Docker is out of reach here: the install comes as far as to say what it will make."""
    with pytest.raises(DockerUnavailable):
        shell.run("install-runner", *words.split())
    assert "installing llama.cpp/cuda12 " in shell.capture.readouterr().err
    for name in ("cpu", "cuda12"):
        shell.api.services.state.record(own(name))
    error = refused(shell, "uninstall-runner", *words.split())
    assert type(error) is DockerUnavailable
    shell.api.services.state.forget(own("cuda12"))
    error = refused(shell, "uninstall-runner", *words.split())
    assert (type(error), error.message, error.hint) == (
        EngineNotInstalled,
        "llama.cpp for cuda12 is not installed",
        "installed of it: cpu",
    )


@pytest.mark.parametrize(
    "words", [[], ["--variant", "native"], ["--backend", "llama.cpp:native"], ["--gpu", "none"]]
)
def test_what_comes_with_the_runner_says_why_it_stays(shell: Terminal, words: list[str]) -> None:
    assert "native" in shell.run("engines")
    error = refused(shell, "uninstall-runner", *words)
    assert type(error) is Unsupported
    assert error.message == (
        "llama.cpp/native can't be uninstalled: it comes with the runner, in its own Python "
        "environment"
    )
    assert error.hint == (
        "to have another variant go first: `runner engines default llama.cpp VARIANT`"
    )
