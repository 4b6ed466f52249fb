"""Apple: a chip whose graphics share the Mac's memory. Intel Macs have none that engines use."""

from __future__ import annotations

from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.probe import Probe
from runner.hardware.text import first_line

ROSETTA = (
    "this Python is an Intel build under Rosetta: native engines can't use Metal from it;"
    " install the runner with a Python for arm64"
)


def apple(probe: Probe) -> Found:
    platform = probe.platform()
    if platform.system != "darwin":
        return Found()
    chip = _said(probe, "sysctl", "-n", "machdep.cpu.brand_string")
    if not chip.startswith("Apple"):
        return Found()
    gpu = Gpu(
        vendor=Vendor.APPLE,
        index=0,
        name=chip,
        memory=platform.memory,
        driver=_said(probe, "sw_vers", "-productVersion"),
        unified=True,
    )
    return Found((gpu,), () if platform.machine == "arm64" else (ROSETTA,))


def _said(probe: Probe, *command: str) -> str:
    answer = probe.run(*command)
    return first_line(answer.text) if answer is not None and answer.ok else ""
