"""What a report says of the machine that it was written on."""

from __future__ import annotations

import platform


def kernel() -> str:
    """Major and minor number: what follows them names a machine more than its speed."""
    return ".".join(platform.release().split(".")[:2])
