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
from runner.api.engines import instance_json
from runner.api.installs import install_json
from runner.api.jobs import Line
from runner.api.services import Services, services
from runner.engines.description import Form
from runner.engines.native import NATIVE_VARIANT, native_program
from runner.launch.base import LauncherKind
from runner.models.surroundings import all_around
from runner.state import InstallKind

_LAUNCHERS = {
    InstallKind.IMAGE: LauncherKind.DOCKER,
    InstallKind.ENVIRONMENT: LauncherKind.PROCESS,
}


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
    """What is installed, what came with the runner or the user's settings, and plug-ins."""
    installed: list[Line] = [
        {**install_json(install), "launcher": _LAUNCHERS[install.kind]}
        for install in here.state.installs()
    ]
    settings = here.configuration.settings
    native = [
        _line(name, NATIVE_VARIANT, program.version, LauncherKind.PROCESS)
        for name in here.engines
        if (program := native_program(name, settings.backend(name))) is not None
    ]
    plugged = [
        _line(name, variant.name, variant.version, LauncherKind.CODE)
        for name, engine in here.engines.items()
        for variant in engine.description.variants
        if variant.form is Form.CODE
    ]
    return [*installed, *native, *plugged]


def _line(engine: str, variant: str, version: str, launcher: LauncherKind) -> Line:
    return {"backend": engine, "variant": variant, "version": version, "launcher": launcher}


ROUTES = [
    Route("/", root, methods=["GET"]),
    Route("/version", version, methods=["GET"]),
    Route("/runner/v1/status", status, methods=["GET"]),
    Route("/runner/v1/stop", stop, methods=["POST"]),
]
