"""Options from plain values, typed and bounded, and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runner.engines.option_values import (
    ALIASES,
    option_name,
    option_names,
    options_from,
    options_json,
)
from runner.engines.options import Options, SplitMode, Switch
from runner.errors import BadInput


def test_texts_of_a_command_line_become_values() -> None:
    found = options_from(
        {
            "n_ctx": "4096",
            "mmap": "off",
            "split": "0.5,0.5",
            "flash-attention": True,
            "split_mode": "ROW",
            "hf_overrides": '{"a": 1}',
            "gpus": [0, 1],
            "gpu-memory-utilization": "0.8",
            "threads": None,
        }
    )
    assert found == Options(
        context_size=4096,
        mmap=False,
        split=(0.5, 0.5),
        flash_attention=Switch.ON,
        split_mode=SplitMode.ROW,
        hf_overrides={"a": 1},
        gpus=("0", "1"),
        gpu_memory_utilization=0.8,
    )
    assert options_from(options_json(found)) == found


@pytest.mark.parametrize(
    ("value", "switch"),
    [
        *((word, Switch.ON) for word in (True, "true", "True", "yes", "on", "ON")),
        *((word, Switch.OFF) for word in (False, "false", "no", "off")),
        ("auto", Switch.AUTO),
    ],
)
def test_true_is_on_for_a_switch(value: object, switch: Switch) -> None:
    assert options_from({"flash_attention": value}).flash_attention is switch


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flash_attention": "maybe"}, "one of on, off, auto"),
        ({"split_mode": "false"}, "one of none, layer"),
        ({"ctxsize": 1}, "not an option"),
        ({"context_size": 0}, "not from 1"),
        ({"context_size": 1.5}, "whole number"),
        ({"context_size": True}, "number"),
        ({"context_size": "many"}, "whole number"),
        ({"context_size": 10**30}, "not from 1"),
        ({"gpu_memory_utilization": "nan"}, "number"),
        ({"gpu_memory_utilization": 1.5}, "not from 0.01 to 1"),
        ({"context_size": -5}, "not from 1 to 2147483647"),
        ({"mmap": "maybe"}, "on or off"),
        ({"split_mode": "rows"}, "one of none, layer"),
        ({"hf_overrides": "{"}, "no JSON"),
        ({"hf_overrides": [1]}, "JSON object"),
        ({"hf_overrides": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"}, "no JSON"),
        ({"hf_overrides": '{"a": NaN}'}, "no JSON can say"),
        ({"hf_overrides": '{"a": "\\ud800"}'}, "no JSON can say"),
        ({"hf_overrides": '{"a": "\\u0000", "b": 1e999}'}, "no JSON can say"),
        ({"hf_overrides": {"a": "x" * 200_000}}, "longer than an argument"),
        ({"split": "inf,1"}, "not a number"),
        ({"rope_scale": float("inf")}, "not a number"),
        ({"dtype": "f\0"}, "a text"),
        ({"dtype": "\ud800"}, "a text"),
        ({"dtype": ""}, "a text"),
        ({"n_ctx": 1, "context_size": 1}, "both given"),
    ],
)
def test_what_can_not_be_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        options_from(values)
    assert caught.value.hint


def test_every_alias_means_an_option() -> None:
    assert {option_name(alias) for alias in ALIASES} <= set(option_names())
    assert not set(ALIASES) & set(option_names())


one = some.booleans() | some.integers() | some.floats() | some.text()
anything = some.none() | one | some.lists(some.integers() | some.text())
names = some.sampled_from([*option_names(), *ALIASES])


@given(some.dictionaries(names, anything, max_size=4))
def test_any_values_are_read_or_refused(values: dict[str, Any]) -> None:
    try:
        found = options_from(values)
    except BadInput:
        return
    assert options_from(options_json(found)) == found
