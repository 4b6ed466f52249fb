"""Long work as a stream of JSON lines: done in a thread, told as it goes, cancelled by leaving."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

from starlette.responses import Response, StreamingResponse

from runner.api.ending import until_set
from runner.errors import InternalError, RunnerError, ShuttingDown
from runner.gateway.render import envelope

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Line = Mapping[str, object]
Tell = Callable[[Line], None]
Work = Callable[[Tell, threading.Event], Line]
"""Does the job: told lines go out at once, the returned one last; the event says: give up."""

_END = None
MAX_WAITING = 1000
"""Lines kept for a client that reads slowly."""


async def job(work: Work, ending: asyncio.Event) -> Response:
    """Streams a job's lines. One that fails before its first line is an ordinary HTTP error.

    It is told to give up when its client leaves or the daemon ends.
    """
    lines: asyncio.Queue[Line | RunnerError | None] = asyncio.Queue()
    cancelled = threading.Event()
    task = asyncio.ensure_future(_run(work, lines, cancelled))
    watch = asyncio.ensure_future(_cancel_at(ending, cancelled))
    task.add_done_callback(lambda _: watch.cancel())
    first = await _first(lines, ending)
    if isinstance(first, RunnerError):
        raise first
    return StreamingResponse(
        _told(first, lines, cancelled, ending), media_type="application/x-ndjson"
    )


async def _first(
    lines: asyncio.Queue[Line | RunnerError | None], ending: asyncio.Event
) -> Line | RunnerError | None:
    async for line in until_set(ending, lines.get):
        return line
    raise _ended()


def _ended() -> ShuttingDown:
    return ShuttingDown("the daemon is ending", hint="run the same command again")


async def in_own_thread(work: Callable[[], Result]) -> Result:
    """Jobs may last for hours: the pool's threads are few, and the program's end waits for them."""
    done: concurrent.futures.Future[Result] = concurrent.futures.Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            # The top of a thread: whatever it was, it is raised where it is waited for.
            done.set_exception(error)

    threading.Thread(target=run, name="job", daemon=True).start()
    return await asyncio.wrap_future(done)


async def _cancel_at(ending: asyncio.Event, cancelled: threading.Event) -> None:
    await ending.wait()
    cancelled.set()


async def _run(
    work: Work, lines: asyncio.Queue[Line | RunnerError | None], cancelled: threading.Event
) -> None:
    loop = asyncio.get_running_loop()

    def tell(line: Line) -> None:
        loop.call_soon_threadsafe(_put, lines, line)

    try:
        tell(await in_own_thread(lambda: work(tell, cancelled)))
    except RunnerError as error:
        lines.put_nowait(error)
    except Exception:
        # The top of a task: the client must hear that it failed.
        log.exception("a job failed")
        lines.put_nowait(InternalError())
    finally:
        loop.call_soon(lines.put_nowait, _END)


def _put(lines: asyncio.Queue[Line | RunnerError | None], line: Line) -> None:
    """A client that reads slowly misses progress, and never the result."""
    if lines.qsize() < MAX_WAITING or line.get("type") != "progress":
        lines.put_nowait(line)


async def _told(
    first: Line | None,
    lines: asyncio.Queue[Line | RunnerError | None],
    cancelled: threading.Event,
    ending: asyncio.Event,
) -> AsyncIterator[bytes]:
    try:
        if first is _END:
            return
        yield _encoded(first)
        async for line in until_set(ending, lines.get):
            if line is _END:
                return
            yield _encoded(line)
        yield _encoded(_ended())
    finally:
        cancelled.set()


def _encoded(line: Line | RunnerError) -> bytes:
    return json.dumps(_rendered(line)).encode() + b"\n"


def _rendered(line: Line | RunnerError) -> Line:
    if isinstance(line, RunnerError):
        return {"type": "error", "message": line.message, **envelope(line)}
    return line
