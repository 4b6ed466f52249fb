"""Routes for the daemon itself: is it there, which version, how is it, stop."""

from __future__ import annotations

import asyncio
import os
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from runner import __version__
from runner.api.body import Body, read_body
from runner.api.engines import install_json, instance_json
from runner.api.jobs import Line
from runner.api.services import Services, services
from runner.engines.native import native_program
from runner.engines.registered import ENGINES
from runner.engines.selection import NATIVE_VARIANT
from runner.launch.base import LauncherKind
from runner.models.surroundings import all_around


class Stop(Body):
    """`leave_engines`: containers go on and are adopted by the next daemon of this home."""

    leave_engines: bool = False


async def root(request: Request) -> Response:
    return PlainTextResponse("runner is running\n")


async def version(request: Request) -> Response:
    """Which daemon this is, and what it stands on, which commands compare with their own."""
    here = services(request)
    around = await asyncio.to_thread(all_around, here.store, here.configuration.settings)
    return JSONResponse({"version": __version__, "surroundings": around})


async def status(request: Request) -> Response:
    """Everything that `runner status` shows."""
    here = services(request)
    configuration = here.configuration
    settings = configuration.settings
    url = f"http://{settings.host}:{settings.port}"
    engines = await asyncio.to_thread(_engines, here)
    return JSONResponse(
        {
            "running": True,
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(time.time() - here.started_at, 1),
            "endpoint": f"{url}/engines/v1/",
            "socket": str(configuration.home.socket),
            "home": str(configuration.home.root),
            "models": len(here.store.list()),
            "engines": engines,
            "instances": [instance_json(found) for found in here.instances.statuses()],
        }
    )


async def stop(request: Request) -> Response:
    """Answers, then drains and ends the daemon."""
    body = await read_body(request, Stop)
    services(request).stop(body.leave_engines)
    drain = services(request).configuration.settings.drain_timeout
    return JSONResponse({"pid": os.getpid(), "drain_timeout": drain}, status_code=202)


def _engines(here: Services) -> list[Line]:
    installed: list[Line] = [
        {**install_json(install), "launcher": LauncherKind.DOCKER}
        for install in here.state.installs()
    ]
    settings = here.configuration.settings
    native: list[Line] = [
        {
            "backend": name,
            "variant": NATIVE_VARIANT,
            "version": program.version,
            "launcher": LauncherKind.PROCESS,
        }
        for name in ENGINES
        if (program := native_program(name, settings.backend(name))) is not None
    ]
    return [*installed, *native]


ROUTES = [
    Route("/", root, methods=["GET"]),
    Route("/version", version, methods=["GET"]),
    Route("/runner/v1/status", status, methods=["GET"]),
    Route("/runner/v1/stop", stop, methods=["POST"]),
]
