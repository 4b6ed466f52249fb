"""How long a client's connection may take for what it does; pure."""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """What a connection is doing, as seen by the parser of its requests."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()
    REFUSED = auto()


LIMITS = {Phase.HEAD: 30, Phase.BODY: 60, Phase.REFUSED: 5}
"""Ticks: for a whole head, since a body's last bytes, for a refused client to go away."""

STALL_LIMIT = 300
"""Ticks that a client may take nothing of an answer that waits for it."""


def overdue(phase: Phase, spent: int, *, keep_alive: int, answering: bool, paused: bool) -> bool:
    """`answering`: an earlier request still is; `paused`: we ourselves do not read now."""
    if phase is Phase.IDLE:
        return spent > keep_alive
    if paused or (answering and phase is Phase.REFUSED):
        return False
    return phase in LIMITS and spent > LIMITS[phase]
