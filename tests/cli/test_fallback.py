"""For what `runner engines fallback` is kept: a format, a model, and no slip of the pen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import BadInput
from runner.state import ChoiceKind
from tests.api.control import recorded
from tests.cli.in_process import Terminal, terminal

LONG = "docker.io/ai/gguff:latest"


@pytest.fixture
def shell(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    with terminal(recorded("nvidia"), home, capsys, monkeypatch) as found:
        yield found


def kept(shell: Terminal) -> dict[str, str]:
    return dict(shell.api.services.state.choices(ChoiceKind.FALLBACK))


@pytest.mark.parametrize("rest", [["llama.cpp"], ["--reset"], []])
@pytest.mark.parametrize(
    ("word", "nearest"), [("gguff", "gguf"), ("GGUFF", "gguf"), ("safe-tensors", "safetensors")]
)
def test_a_word_that_is_nearly_a_format_is_not_taken_for_a_model(
    shell: Terminal, word: str, nearest: str, rest: list[str]
) -> None:
    with pytest.raises(BadInput) as caught:
        shell.run("engines", "fallback", word, *rest)
    assert caught.value.message == f"{word!r} is neither a model format nor a model in the store"
    assert caught.value.hint.startswith(f"did you mean {nearest}? ")
    assert kept(shell) == {}


def test_a_model_of_the_store_may_have_such_a_name(shell: Terminal) -> None:
    shell.api.package_demo(LONG)
    assert shell.run("engines", "fallback", "gguff", "llama.cpp") == f"{LONG}: llama.cpp\n"
    assert kept(shell) == {LONG: "llama.cpp"}


@pytest.mark.parametrize("name", ["ai/gguff", "gguff:latest", LONG])
def test_the_hints_way_out_is_one(shell: Terminal, name: str) -> None:
    """A longer name is a model's, also of one that is not here yet; then the short one is too."""
    assert shell.run("engines", "fallback", name, "llama.cpp") == f"{LONG}: llama.cpp\n"
    assert shell.run("engines", "fallback", "gguff") == f"{LONG}: llama.cpp\n"
    shell.run("engines", "fallback", "gguff", "--reset")
    assert kept(shell) == {}


def test_a_word_like_no_format_is_a_models(shell: Terminal) -> None:
    told = shell.run("engines", "fallback", "smollm2", "llama.cpp")
    assert told == "docker.io/ai/smollm2:latest: llama.cpp\n"
