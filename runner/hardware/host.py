"""Facts of the machine where engines run as native processes."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostFacts:
    """`system` is such as Linux or Darwin; memory in bytes."""

    system: str
    memory: int

    @property
    def is_mac(self) -> bool:
        return self.system == "Darwin"


def host_facts() -> HostFacts:
    return HostFacts(
        system=platform.system(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
