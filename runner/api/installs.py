"""Routes that install engines and take them away: Docker Model Runner's, and our own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.api.body import Body, read_body
from runner.api.jobs import Line, Tell, in_own_thread, job
from runner.api.services import Services, services
from runner.errors import EngineNotInstalled
from runner.installs.installer import Outcome
from runner.installs.wanted import Wanted, wanted
from runner.names import near_hint
from runner.state import Install


class InstallBackend(Body):
    """`variant` is one of the engine's own, such as cuda12; empty: what `gpu` says. `backend` may
    name it too, or the accelerator: llama.cpp:cuda12."""

    backend: str = "llama.cpp"
    gpu: str = "auto"
    variant: str = ""
    version: str = ""
    force: bool = False


class UninstallBackend(Body):
    backend: str
    gpu: str = "auto"
    variant: str = ""
    version: str = ""


async def install_backend(request: Request) -> Response:
    body = await read_body(request, InstallBackend)
    here = services(request)
    never = threading.Event()
    await in_own_thread(lambda: _install(here, body, _silent, never))
    return Response(status_code=200)


async def install(request: Request) -> Response:
    """The same as a stream of JSON lines."""
    body = await read_body(request, InstallBackend)
    here = services(request)

    def work(tell: Tell, cancelled: threading.Event) -> Line:
        outcome = _install(here, body, tell, cancelled)
        return {
            "type": "success",
            "message": _installed_message(outcome),
            "install": install_json(outcome.install),
        }

    return await job(work, here.ending)


async def uninstall_backend(request: Request) -> Response:
    """Stops the engine's instances, then removes its images."""
    body = await read_body(request, UninstallBackend)
    here = services(request)
    asked = wanted(here.engines, body.backend, body.gpu, body.variant)
    leaving = await asyncio.to_thread(_leaving, here, asked, body.version)
    serving = _instances_of(here, asked.engine, {install.variant for install in leaving})
    await here.instances.unload(serving, drain_timeout=here.configuration.settings.drain_timeout)
    for install in leaving:
        await asyncio.to_thread(here.installer.uninstall, install)
    # Requests that came meanwhile have started it again.
    again = _instances_of(here, asked.engine, {install.variant for install in leaving})
    await here.instances.unload(again, drain_timeout=here.configuration.settings.drain_timeout)
    return JSONResponse({"uninstalled": [install_json(install) for install in leaving]})


def install_json(install: Install) -> Line:
    return {
        "backend": install.engine,
        "variant": install.variant,
        "version": install.version,
        "image": install.image,
        "manifest_digest": install.manifest_digest,
        "config_digest": install.config_digest,
        "diff_ids": list(install.diff_ids),
        "source": install.source,
        "size": install.size,
        "installed_at": install.installed_at,
    }


def _install(
    here: Services, body: InstallBackend, tell: Tell, cancelled: threading.Event
) -> Outcome:
    asked = wanted(here.engines, body.backend, body.gpu, body.variant)
    return here.installer.install(
        asked.engine,
        asked.gpu,
        lambda text: tell({"type": "progress", "message": text}),
        cancelled,
        variant=asked.variant,
        version=body.version,
        force=body.force,
    )


def _installed_message(outcome: Outcome) -> str:
    install = outcome.install
    what = f"{install.engine}/{install.variant} {install.version}"
    return f"installed {what}" if outcome.fresh else f"{what} is installed already"


def _silent(line: Line) -> None:
    """Nobody listens to the progress of Docker Model Runner's plain route."""


def _leaving(here: Services, asked: Wanted, version: str) -> Sequence[Install]:
    """Raises EngineNotInstalled, also for another version than the one that is here."""
    leaving = here.installer.leaving(asked.engine, asked.gpu, asked.variant)
    found = [one for one in leaving if version in ("", one.version)]
    if not found:
        there = [one.version for one in leaving]
        raise EngineNotInstalled(
            f"{asked.engine} {version} is not installed",
            hint=near_hint(version, there, "installed"),
        )
    return found


def _instances_of(here: Services, engine: str, variants: set[str]) -> list[str]:
    return [
        status.identity.instance
        for status in here.instances.statuses()
        if status.identity.engine == engine and status.identity.variant in variants
    ]


ROUTES = [
    Route("/engines/install-backend", install_backend, methods=["POST"]),
    Route("/engines/uninstall-backend", uninstall_backend, methods=["POST"]),
    Route("/runner/v1/install", install, methods=["POST"]),
]
