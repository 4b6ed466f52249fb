"""Routes for what engines do here: Docker Model Runner's, and our own under `/runner/v1/`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.api.body import Body, read_body
from runner.api.jobs import Line, in_own_thread
from runner.api.services import Services, services
from runner.engines.description import Form
from runner.engines.native import NATIVE_VARIANT, native_program
from runner.errors import BadReference, ModelNotFound, RunnerError, Unavailable
from runner.launch.base import Identity, Launcher
from runner.launch.code import CodeLauncher
from runner.models.naming import model_id
from runner.names import canonical_engine
from runner.registry.digest import PREFIX
from runner.scheduler.core import Phase
from runner.scheduler.live import InstanceStatus
from runner.state import Install
from runner.store.store import ModelStore
from runner.store.usage import disk_usage


class Unload(Body):
    everything: bool = Field(default=False, alias="all")
    backend: str = ""
    models: list[str] = Field(default_factory=list)


async def status(request: Request) -> Response:
    """Docker Model Runner's shape: engine → `Running: …` or `Not Installed: …`."""
    here = services(request)
    installed = await asyncio.to_thread(here.state.installs)
    return JSONResponse({name: _in_words(here, name, installed) for name in here.engines})


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


async def instances(request: Request) -> Response:
    """Every instance with all that is known of it."""
    here = services(request)
    found = here.instances.statuses()
    figures = await asyncio.to_thread(_figures, here.launchers.values(), found)
    return JSONResponse(
        [{**instance_json(one), "stats": figures[one.identity.instance]} for one in found]
    )


def _figures(
    launchers: Iterable[Launcher], found: Sequence[InstanceStatus]
) -> Mapping[str, Mapping[str, float]]:
    """What plug-ins tell of their instances; of others nothing is asked here."""
    telling = {one.kind: one for one in launchers if isinstance(one, CodeLauncher)}
    names = [(one.identity.instance, one.launcher) for one in found]
    return {name: telling[kind].stats(name) if kind in telling else {} for name, kind in names}


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
        "stands_in": _stands_in(status),
    }


def _stands_in(status: InstanceStatus) -> Line | None:
    """For whom it answers and why; `note` says the same in a sentence."""
    found = status.stands_in
    if found is None:
        return None
    return {
        "for": found.label,
        "why": found.why,
        "reason": found.reason,
        "note": found.told(status.label),
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
    found = [f"{one.version} ({one.variant})" for one in installed if one.engine == name]
    try:
        native = native_program(name, here.configuration.settings.backend(name))
    except RunnerError as error:
        return f"Error: {error.message}"
    if native is not None:
        found.append(f"{native.version} ({NATIVE_VARIANT})")
    found += [
        f"{variant.version} ({variant.name})"
        for variant in here.engines[name].description.variants
        if variant.form is Form.CODE
    ]
    if found:
        return f"Running: {name} {', '.join(found)}"
    return f"Not Installed: runner install-runner --backend {name}"


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
    if not chosen and body.models and not _forgiven(here, body.models):
        raise ModelNotFound("no such model is loaded", hint="see `runner ps`")
    return chosen


def _forgiven(here: Services, names: Iterable[str]) -> bool:
    """Whether an unload has done something where nothing is loaded: engines that kept failing get
    another chance."""
    forgiven = [here.instances.forgive(here.store.get(name).id) for name in names]
    return any(forgiven)


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


ROUTES = [
    Route("/engines/status", status, methods=["GET"]),
    Route("/engines/ps", ps, methods=["GET"]),
    Route("/engines/df", df, methods=["GET"]),
    Route("/engines/unload", unload, methods=["POST"]),
    Route("/runner/v1/instances", instances, methods=["GET"]),
]
