"""What was configured for a model: merged field by field, kept as a document."""

from __future__ import annotations

import pytest

from runner.engines.configured import Change, Configured, from_document, to_document
from runner.engines.options import Options, Switch
from runner.errors import BadInput


def test_a_change_leaves_what_it_does_not_name() -> None:
    first = Change({"context-size": "4096", "threads": 4}, {"sampling.top_k": "40"}, ["--x"],
                   {"A": "1"}).applied(Configured())  # fmt: skip
    second = Change({"threads": 8}, environment={"B": "2"}).applied(first)
    assert second.options == Options(context_size=4096, threads=8)
    assert second.parameters == {"sampling.top_k": "40"}
    assert second.flags == ("--x",)
    assert second.environment == {"A": "1", "B": "2"}


def test_none_takes_out_again() -> None:
    full = Configured(Options(threads=4, seed=1), {"n": "1"}, ("--x",), {"A": "1"})
    change = Change({"threads": None}, {"n": None}, [], {"A": None})
    assert change.applied(full) == Configured(Options(seed=1))


def test_a_bad_value_leaves_everything_as_it_was() -> None:
    with pytest.raises(BadInput, match="context_size"):
        Change({"threads": 2, "context_size": 0}).applied(Configured())
    with pytest.raises(BadInput, match="twice"):
        Change({"n_ctx": 1, "context_size": 2}).applied(Configured())


def test_over_merges_singly() -> None:
    below = Configured(Options(threads=4, seed=1), {"a": "1"}, ("--below",), {"A": "1", "B": "1"})
    above = Configured(Options(threads=8), {"b": "2"}, (), {"B": "2"})
    merged = above.over(below)
    assert merged.options == Options(threads=8, seed=1)
    assert merged.parameters == {"a": "1", "b": "2"}
    assert merged.flags == ("--below",)
    assert merged.environment == {"A": "1", "B": "2"}


def test_a_document_comes_back_as_it_was() -> None:
    full = Configured(
        Options(flash_attention=Switch.ON, gpus=("0", "GPU-1"), hf_overrides={"a": {"b": 1}}),
        {"sampling.top_k": "40"},
        ("--flag", "v"),
        {"A": "1"},
    )
    assert from_document(to_document(full)) == full
    assert to_document(Configured()) == ""
    with pytest.raises(BadInput, match="not readable"):
        from_document("{")
