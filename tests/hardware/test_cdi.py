"""CDI specs, as nvidia-ctk and others write them."""

from __future__ import annotations

import pytest

from runner.hardware.cdi import device_names
from runner.hardware.probe import Platform
from runner.hardware.recorded import RecordedProbe, Recording

FOLDERS = ("/etc/cdi", "/var/run/cdi")
NVIDIA = """\
---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- name: all
  containerEdits: {}
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
"""
AMD = '{"cdiVersion": "0.6.0", "kind": "amd.com/gpu", "devices": [{"name": "all"}]}'


def host(files: dict[str, str]) -> RecordedProbe:
    recorded = {path: tuple(text.split("\n")) for path, text in files.items()}
    return RecordedProbe(Recording(Platform("linux", "x86_64", 8, 1024**4), files=recorded))


def test_specs_of_all_folders_and_forms() -> None:
    probe = host({
        "/etc/cdi/nvidia.yaml": NVIDIA,
        "/var/run/cdi/nvidia.yml": NVIDIA,
        "/var/run/cdi/amd.json": AMD,
        "/etc/cdi/nvidia.yaml.bak": AMD.replace("all", "7"),
        "/etc/other/amd.json": AMD.replace("all", "8"),
    })  # fmt: skip
    assert device_names(probe, FOLDERS) == (
        "amd.com/gpu=all",
        "nvidia.com/gpu=0",
        "nvidia.com/gpu=all",
    )


@pytest.mark.parametrize(
    "broken",
    ["", "[", "- a", "devices: 3", "kind: x\ndevices: [1, {}]", "a: 2026-99-99", "{" * 5000],
)
def test_a_broken_spec_hides_no_other(broken: str) -> None:
    probe = host({"/etc/cdi/a.yaml": broken, "/etc/cdi/b.json": AMD})
    assert device_names(probe, FOLDERS) == ("amd.com/gpu=all",)
