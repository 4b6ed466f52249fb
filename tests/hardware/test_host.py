"""The facts of a host, and their file."""

from __future__ import annotations

import pytest

from runner.errors import BadInput
from runner.hardware.gpu import Vendor
from runner.hardware.host import HostFacts, from_json, to_json
from runner.names import Accelerator
from tests.hardware.hosts import MACHINES, gathered, recorded_host


@pytest.mark.parametrize("name", MACHINES)
def test_the_kept_hosts_are_what_their_machines_give(name: str) -> None:
    """If not on purpose otherwise: `python -m tests.hardware.hosts` writes them anew."""
    assert recorded_host(name) == gathered(name)


@pytest.mark.parametrize("name", MACHINES)
def test_facts_survive_their_file(name: str) -> None:
    facts = gathered(name)
    assert from_json(to_json(facts)) == facts
    assert to_json(from_json(to_json(facts))) == to_json(facts)


def test_a_short_file_is_enough() -> None:
    text = '{"system": "linux", "architecture": "arm64", "memory": 8}'
    assert from_json(text) == HostFacts("linux", "arm64", 8)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "truncated"),
        ("{}", "system"),
        ('{"system": "linux", "architecture": "arm64", "memory": "8"}', "$.memory"),
        (
            '{"system": "linux", "architecture": "arm64", "memory": 8,'
            ' "gpus": [{"vendor": "3dfx", "index": 0}]}',
            "$.gpus[0].vendor",
        ),
    ],
)
def test_a_bad_file_names_its_field(text: str, told: str) -> None:
    with pytest.raises(BadInput, match="not the facts of a host") as raised:
        from_json(text)
    assert told in raised.value.message


@pytest.mark.parametrize(
    ("name", "accelerator", "count"),
    [
        ("nvidia", Accelerator.CUDA, 1),
        ("nvidia", Accelerator.VULKAN, 1),
        ("nvidia", Accelerator.ROCM, 0),
        ("amd", Accelerator.ROCM, 1),
        ("amd", Accelerator.VULKAN, 1),
        ("mac", Accelerator.METAL, 1),
        ("mac", Accelerator.VULKAN, 0),
        ("cpu", Accelerator.CUDA, 0),
    ],
)
def test_devices_of_an_accelerator(name: str, accelerator: Accelerator, count: int) -> None:
    assert len(recorded_host(name).gpus_for(accelerator)) == count


def test_words() -> None:
    mac = recorded_host("mac")
    assert (mac.is_mac, mac.platform) == (True, "darwin/arm64")
    assert mac.vendors() == {Vendor.APPLE}
    assert mac.docker is not None
    assert (mac.docker.desktop, mac.docker.platform) == (True, "linux/arm64")
