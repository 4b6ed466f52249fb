"""The key that tells configurations apart: whatever an instance is started with changes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.engines.candidate import Candidate
from runner.engines.native import NativeProgram
from runner.engines.options import Options
from runner.scheduler.order import Settled, configuration
from tests.engines.stage import LLAMA, RTX, installed

INSTALL = installed("llama.cpp/cuda12")[0]
CANDIDATE = Candidate(LLAMA, LLAMA.description.variants[1], INSTALL)
SECOND = replace(RTX, index=1, uuid="GPU-2")
PLAIN: dict[str, Any] = {
    "candidate": CANDIDATE,
    "context": 2048,
    "settled": Settled(),
    "gpus": (RTX,),
    "others": (),
}


def key(**changes: Any) -> str:  # noqa: ANN401 - as many types as parameters
    given = {**PLAIN, **changes}
    others = given.pop("others")
    return configuration(*given.values(), *others)


@pytest.mark.parametrize(
    "changes",
    [
        {"gpus": ()},
        {"gpus": (SECOND,)},
        {"gpus": (RTX, SECOND)},
        {"gpus": (SECOND, RTX)},
        {"gpus": (replace(RTX, uuid=""),)},
        {"gpus": (replace(RTX, uuid="", index=1),)},
        {"context": 4096},
        {"settled": Settled(options=Options(threads=2))},
        {"settled": Settled(flags=("--verbose",))},
        {"settled": Settled(environment={"A": "1"})},
        {"others": ("sha256:draft",)},
        {"candidate": replace(CANDIDATE, install=replace(INSTALL, config_digest="sha256:d"))},
        {"candidate": replace(CANDIDATE, install=None)},
        {
            "candidate": replace(
                CANDIDATE, install=None, program=NativeProgram(("/bin/llama-server",), "2.0")
            )
        },
    ],
)
def test_each_part_of_a_start_has_a_key_of_its_own(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_the_order_of_gpus_counts() -> None:
    """An engine counts them as they are handed in: `main_gpu` and `split` speak of that order."""
    assert key(gpus=(RTX, SECOND)) != key(gpus=(SECOND, RTX))


def test_gpus_without_a_uuid_are_told_apart_by_their_index() -> None:
    bare = [replace(RTX, uuid="", index=index) for index in range(2)]
    keys = {key(gpus=gpus) for gpus in ((bare[0],), (bare[1],), tuple(bare))}
    assert len(keys) == 3


def test_what_is_not_part_of_a_start_leaves_the_key_as_it_is() -> None:
    """A driver's update, a message or another slot for the same card start nothing anew."""
    moved = replace(RTX, index=3, driver="590.1", name="renamed")
    assert key(gpus=(moved,)) == key()
    assert key(settled=Settled(messages=("told",))) == key()
    assert key(settled=Settled(environment={"A": "1", "B": "2"})) == key(
        settled=Settled(environment={"B": "2", "A": "1"})
    )
