"""The ends of instances: waited for, and brought about until they have really come."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from runner.errors import RunnerError
from runner.launch.base import Exit, Identity, Launcher
from runner.scheduler.live import Live

log = logging.getLogger(__name__)

STOP_GRACE_S = 5.0
RETRY_S = 1.0
READ_BACK = 400
"""Lines in which the cause is looked for: some engines print it long before their end."""


def watch(live: Live, tell: Callable[[Exit], None]) -> None:
    """Calls `tell`, in another thread, once the instance has ended by itself.

    A thread of its own: waits may last for days, a pool's threads are few.
    """

    def wait() -> None:
        ended = _end_of(live)
        if ended is not None:
            tell(ended)

    threading.Thread(target=wait, name=f"wait-{live.name}", daemon=True).start()


async def stop(live: Live, forget: Callable[[str], None]) -> None:
    """Returns when it has ended, however often Docker has to be asked; then `forget`s it."""
    # ASYNC110: what failed gives no event when it works again
    while not await try_to_stop(live, forget):  # noqa: ASYNC110
        await asyncio.sleep(RETRY_S)


async def try_to_stop(live: Live, forget: Callable[[str], None]) -> bool:
    def end() -> None:
        live.launcher.stop(live.name, grace_s=STOP_GRACE_S)
        forget(live.name)

    try:
        await asyncio.to_thread(end)
    except RunnerError as error:
        log.warning("could not stop %s: %s", live.name, error.message)
        return False
    except Exception:
        # Whatever it was, an instance that still runs must not be forgotten.
        log.exception("could not stop %s", live.name)
        return False
    return True


async def all_of(leaving: Sequence[Live], deadline_s: float) -> None:
    """Returns once all have ended, at the latest after the deadline."""
    waits = [asyncio.ensure_future(live.ended.wait()) for live in leaving]
    if waits:
        _, late = await asyncio.wait(waits, timeout=deadline_s)
        for wait in late:
            wait.cancel()


async def stop_stray(launcher: Launcher, identity: Identity) -> None:
    """What an earlier daemon left, and this one can't take over. One that can't be stopped just
    now must not keep the daemon from starting: the next one finds it again."""
    name = identity.instance
    log.warning("%s (%s) can't be taken over: stopping it", name, identity.engine)
    try:
        await asyncio.to_thread(launcher.stop, name, grace_s=STOP_GRACE_S)
    except RunnerError as error:
        log.warning("could not stop %s: %s", name, error.message)


async def last_lines(live: Live) -> tuple[str, ...]:
    """What it said last; nothing where its log can't be had."""
    try:
        lines = await asyncio.to_thread(live.launcher.logs, live.name, tail=READ_BACK)
    except RunnerError:
        return ()
    return tuple(lines)


def _end_of(live: Live) -> Exit | None:
    """Docker may restart meanwhile: it is asked again until it knows. None after a wanted end."""
    told = ""
    while not live.ended.is_set():
        try:
            return live.launcher.wait(live.name)
        except RunnerError as error:
            if error.message != told:
                log.warning("lost sight of %s: %s", live.name, error.message)
            told = error.message
            time.sleep(RETRY_S)
    return None
