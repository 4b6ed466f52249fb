"""`GET /logs`: the daemon's own lines and those of its engines, each with its source in front."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from runner.api.ending import until_set
from runner.api.services import Services, services
from runner.errors import RunnerError
from runner.launch.base import NO_LINES, LogLines
from runner.launch.filelog import FileLog, tail_of
from runner.scheduler.live import InstanceStatus

TAIL = 200
_QUEUE = 1000

Tell = Callable[[str], None]


async def logs(request: Request) -> Response:
    """`?follow=1` goes on until the client leaves; `?no-engines=1` and `?model=` narrow it down."""
    here = services(request)
    asked = request.query_params
    model = asked.get("model", "")
    engines = [] if _true(asked.get("no-engines")) else _engines(here, model)
    own = None if model else here.configuration.home.log_file
    if _true(asked.get("follow")):
        return StreamingResponse(_following(here, own, engines), media_type="text/plain")
    text = await asyncio.to_thread(_tails, here, own, engines)
    return PlainTextResponse(text)


def _engines(here: Services, model: str) -> list[InstanceStatus]:
    found = here.instances.statuses()
    if not model:
        return found
    wanted = here.store.get(model).id
    return [status for status in found if status.identity.model == wanted]


def _tails(here: Services, own: Path | None, engines: list[InstanceStatus]) -> str:
    lines = [f"runner | {line}" for line in tail_of(own, TAIL)] if own else []
    for status in engines:
        launcher = here.instances.launcher_of(status.identity.instance)
        tail = launcher.logs(status.identity.instance, tail=TAIL)
        lines += [f"{_source(status)} | {line}" for line in tail]
    return "".join(f"{line}\n" for line in lines)


async def _following(
    here: Services, own: Path | None, engines: list[InstanceStatus]
) -> AsyncIterator[str]:
    lines: asyncio.Queue[str] = asyncio.Queue(maxsize=_QUEUE)
    left = threading.Event()
    followed: list[LogLines] = []
    loop = asyncio.get_running_loop()

    def tell(line: str) -> None:
        """A reader that is too slow loses lines, never the daemon's memory."""
        if not lines.full():
            lines.put_nowait(line)

    def pump(source: str, found: Iterator[str]) -> None:
        try:
            for line in found:
                if left.is_set() or loop.is_closed():
                    return
                loop.call_soon_threadsafe(tell, f"{source} | {line}\n")
        except RunnerError as error:
            loop.call_soon_threadsafe(tell, f"{source} | {error.message}\n")

    def start(source: str, found: Iterator[str]) -> None:
        threading.Thread(target=pump, args=(source, found), daemon=True).start()

    if own is not None:
        daemon = await asyncio.to_thread(_lines_of_daemon, own, left)
        followed.append(daemon)
        start("runner", daemon)
    for status in engines:
        start(_source(status), logs_of_engine(here, status, followed))
    try:
        async for line in until_set(here.ending, lines.get):
            yield line
    finally:
        left.set()
        for found in followed:
            await asyncio.to_thread(found.close)


def _lines_of_daemon(file: Path, left: threading.Event) -> LogLines:
    try:
        return FileLog(file, TAIL, left)
    except FileNotFoundError:  # somebody removed it
        return NO_LINES


def logs_of_engine(here: Services, status: InstanceStatus, followed: list[LogLines]) -> LogLines:
    """An engine's lines, remembered so that their reader's thread can be ended."""
    name = status.identity.instance
    lines = here.instances.launcher_of(name).follow(name, tail=TAIL)
    followed.append(lines)
    return lines


def _source(status: InstanceStatus) -> str:
    return f"{status.identity.engine} {status.identity.reference}"


def _true(text: str | None) -> bool:
    return (text or "").lower() in {"1", "true"}


ROUTES = [Route("/logs", logs, methods=["GET"])]
