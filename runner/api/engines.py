"""Routes for engines and instances: Docker Model Runner's, and our own under `/runner/v1/`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.api.body import Body, read_body
from runner.api.jobs import Line, Tell, in_own_thread, job
from runner.api.services import Services, services
from runner.engines.native import native_program
from runner.engines.registered import ENGINES
from runner.errors import BadReference, ModelNotFound, RunnerError, Unavailable
from runner.installs.installer import Outcome
from runner.launch.base import Identity
from runner.models.naming import model_id
from runner.names import accelerator, canonical_engine
from runner.registry.digest import PREFIX
from runner.scheduler.core import Phase
from runner.scheduler.live import InstanceStatus
from runner.state import Install
from runner.store.store import ModelStore
from runner.store.usage import disk_usage


class InstallBackend(Body):
    """`version` is accepted for compatibility: one version of each engine ships."""

    backend: str = "llama.cpp"
    version: str = ""
    gpu: str = "auto"
    force: bool = False


class UninstallBackend(Body):
    backend: str
    gpu: str = "auto"


class Unload(Body):
    everything: bool = Field(default=False, alias="all")
    backend: str = ""
    models: list[str] = Field(default_factory=list)


async def status(request: Request) -> Response:
    """Docker Model Runner's shape: engine → `Running: …` or `Not Installed: …`."""
    here = services(request)
    installed = await asyncio.to_thread(here.state.installs)
    return JSONResponse({name: _in_words(here, name, installed) for name in ENGINES})


async def ps(request: Request) -> Response:
    return JSONResponse([_ps(status) for status in services(request).instances.statuses()])


async def df(request: Request) -> Response:
    here = services(request)
    images = await asyncio.to_thread(here.state.installs)
    usage = await in_own_thread(lambda: disk_usage(here.store))
    return JSONResponse(
        {
            "models_disk_usage": usage.total,
            "default_backend_disk_usage": sum(install.size for install in images),
        }
    )


async def unload(request: Request) -> Response:
    body = await read_body(request, Unload)
    here = services(request)
    chosen = _chosen(here, body)
    drain = here.configuration.settings.drain_timeout
    count = await here.instances.unload(chosen, drain_timeout=drain)
    if count < len(chosen):
        late = len(chosen) - count
        raise Unavailable(
            f"{late} of {len(chosen)} engines did not stop yet", hint="see `runner ps`"
        )
    return JSONResponse({"unloaded_runners": count})


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
    engine, gpu = canonical_engine(body.backend), accelerator(body.gpu)
    leaving = await asyncio.to_thread(here.installer.leaving, engine, gpu)
    serving = _instances_of(here, engine, {install.variant for install in leaving})
    await here.instances.unload(serving, drain_timeout=here.configuration.settings.drain_timeout)
    for install in leaving:
        await asyncio.to_thread(here.installer.uninstall, install)
    # Requests that came meanwhile have started it again.
    again = _instances_of(here, engine, {install.variant for install in leaving})
    await here.instances.unload(again, drain_timeout=here.configuration.settings.drain_timeout)
    return JSONResponse({"uninstalled": [install_json(install) for install in leaving]})


async def instances(request: Request) -> Response:
    """Every instance with all that is known of it."""
    found = services(request).instances.statuses()
    return JSONResponse([instance_json(status) for status in found])


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


def instance_json(status: InstanceStatus) -> Line:
    identity = status.identity
    return {
        "instance": identity.instance,
        "backend": identity.engine,
        "variant": identity.variant,
        "version": identity.version,
        "model": identity.reference,
        "model_id": identity.model,
        "mode": identity.mode,
        "context_size": identity.context_size,
        "phase": status.phase,
        "users": status.users,
        "launcher": status.launcher,
        "started_at": status.started_at,
        "last_used": status.last_used,
    }


def _ps(status: InstanceStatus) -> Line:
    used = datetime.fromtimestamp(status.last_used, UTC)
    return {
        "backend_name": status.identity.engine,
        "model_name": status.identity.reference,
        "mode": status.identity.mode,
        "last_used": used.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "in_use": status.users > 0,
        "loading": status.phase is Phase.LOADING,
        "keep_alive": "-1",
    }


def _in_words(here: Services, name: str, installed: Iterable[Install]) -> str:
    for install in installed:
        if install.engine == name:
            return f"Running: {name} {install.version} ({install.variant})"
    try:
        native = native_program(name, here.configuration.settings.backend(name))
    except RunnerError as error:
        return f"Error: {error.message}"
    if native is not None:
        return f"Running: {name} {native.version} (native)"
    return f"Not Installed: runner install-runner --backend {name}"


def _install(
    here: Services, body: InstallBackend, tell: Tell, cancelled: threading.Event
) -> Outcome:
    return here.installer.install(
        canonical_engine(body.backend),
        accelerator(body.gpu),
        lambda text: tell({"type": "progress", "message": text}),
        cancelled,
        force=body.force,
    )


def _installed_message(outcome: Outcome) -> str:
    install = outcome.install
    what = f"{install.engine}/{install.variant} {install.version}"
    return f"installed {what}" if outcome.fresh else f"{what} is installed already"


def _silent(line: Line) -> None:
    """Nobody listens to the progress of Docker Model Runner's plain route."""


def _chosen(here: Services, body: Unload) -> list[str]:
    """The instances that an unload names; names that mean nothing here raise ModelNotFound."""
    identities = [status.identity for status in here.instances.statuses()]
    wanted = {named for name in body.models for named in _named(here.store, identities, name)}
    engine = canonical_engine(body.backend) if body.backend else None
    chosen = [
        identity.instance
        for identity in identities
        if (body.everything or identity.instance in wanted or (engine and not body.models))
        and (engine is None or identity.engine == engine)
    ]
    if not chosen and body.models:
        raise ModelNotFound("no such model is loaded", hint="see `runner ps`")
    return chosen


def _named(store: ModelStore, identities: Sequence[Identity], name: str) -> set[str]:
    """Instances by a name of their model, or by the one they were loaded under: that may have
    been removed from the store since, or belong to another model there."""
    loaded = {one.instance for one in identities if _is_called(store, one, name)}
    try:
        model = store.get(name).id
    except (ModelNotFound, BadReference):
        if loaded:
            return loaded
        raise
    return loaded | {one.instance for one in identities if one.model == model}


def _is_called(store: ModelStore, identity: Identity, name: str) -> bool:
    if name == identity.instance:
        return True
    if digits := model_id(name):
        return identity.model.removeprefix(PREFIX).startswith(digits)
    return _long(store, name) == _long(store, identity.reference)


def _long(store: ModelStore, name: str) -> str:
    try:
        return store.reference(name).long
    except BadReference:
        return name


def _instances_of(here: Services, engine: str, variants: set[str]) -> list[str]:
    return [
        status.identity.instance
        for status in here.instances.statuses()
        if status.identity.engine == engine and status.identity.variant in variants
    ]


ROUTES = [
    Route("/engines/status", status, methods=["GET"]),
    Route("/engines/ps", ps, methods=["GET"]),
    Route("/engines/df", df, methods=["GET"]),
    Route("/engines/unload", unload, methods=["POST"]),
    Route("/engines/install-backend", install_backend, methods=["POST"]),
    Route("/engines/uninstall-backend", uninstall_backend, methods=["POST"]),
    Route("/runner/v1/install", install, methods=["POST"]),
    Route("/runner/v1/instances", instances, methods=["GET"]),
]
