"""Hints that several engines share: what their containers lack, and how it comes there."""

from __future__ import annotations

from runner.engines.loghints import Hint
from runner.hardware.devices import HOW_TO_GRANT
from runner.hardware.gpu import Vendor

NO_DRIVER = (
    f"the container was given no NVIDIA driver, which comes from the host: "
    f"{HOW_TO_GRANT[Vendor.NVIDIA]}; --gpu none takes the CPU"
)
"""An advice, with braces for none."""

NO_DRIVER_LIBRARY = Hint(
    r"(?:lib(?:cuda\.so|nvidia-)[\w.+-]*): cannot open shared object file|"
    r"error while loading shared libraries: lib(?:cuda\.so|nvidia-)",
    NO_DRIVER,
)
"""No image holds these: NVIDIA's toolkit puts the host's own into each container. It goes before
any hint for other libraries."""

NO_GPU = Hint(
    r"Found no NVIDIA driver|No CUDA GPUs are available|No HIP GPUs are available|"
    r"Failed to infer device type",
    "the engine sees no GPU: `runner explain MODEL` tells which GPUs this host has and can give to "
    "containers; --gpu none takes the CPU",
)


def anew(engine: str) -> str:
    """The command that installs the engine once more."""
    return f"`runner install-runner --backend {engine} --force`"


def library_missing(engine: str, lacking: str = "image") -> Hint:
    """As the dynamic linker says it, and as Python does. `lacking` is what the engine is in."""
    return Hint(
        r"error while loading shared libraries: (?P<library>[\w.+-]+)|"
        r"(?P<library_too>[\w.+-]+\.so[\w.]*): cannot open shared object file",
        f"the engine's {lacking} lacks the library {{library}}{{library_too}}: {anew(engine)}",
    )
