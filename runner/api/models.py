"""Routes for models, as Docker Model Runner has them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.api.body import Body, read_body
from runner.api.jobs import Line, Tell, in_own_thread, job
from runner.api.services import Services, services
from runner.errors import BadInput, InUse
from runner.models.inspection import inspect_local, inspect_remote
from runner.models.listing import model_json, removal_json
from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.models.progress import ProgressEvent, ProgressKind
from runner.models.transfer import pull, push
from runner.store.stored import StoredModel


class Create(Body):
    """`from` is the reference to pull; the token is for a hub, in place of the daemon's own."""

    source: str = Field(alias="from", min_length=1)
    token: str = Field(default="", alias="bearer-token")


class Push(Body):
    """The token is accepted for compatibility: registries get the credentials of this machine.
    `id` is the model to push under the path's name, in place of the one that has it."""

    id: str = ""
    token: str = Field(default="", alias="bearer-token")


class Repackage(Body):
    target: str = Field(min_length=1)
    context_size: int | None = Field(default=None, ge=1)


async def list_models(request: Request) -> Response:
    store = services(request).store
    models = await asyncio.to_thread(store.list)
    return JSONResponse([model_json(model, store.defaults) for model in models])


async def get_model(request: Request) -> Response:
    """`?remote=true` asks the registry or hub instead of the store."""
    here, name = services(request), request.path_params["name"]
    if _flag(request, "remote"):
        reference, settings = here.store.reference(name), here.configuration.settings
        found = await in_own_thread(lambda: inspect_remote(here.store, reference, settings))
        return JSONResponse(found)
    return JSONResponse(await asyncio.to_thread(inspect_local, here.store, name))


async def create_model(request: Request) -> Response:
    """Pulls a model, telling the progress as JSON lines."""
    body = await read_body(request, Create)
    here = services(request)
    reference = here.store.reference(body.source)

    def work(tell: Tell, cancelled: threading.Event) -> Line:
        told = _Told(tell)
        settings = here.configuration.settings
        model = pull(here.store, reference, settings, told, cancelled, token=body.token)
        return {"type": "success", "message": told.outcome, "id": model.id}

    return await job(work, here.ending)


async def push_model(request: Request) -> Response:
    body = await read_body(request, Push)
    here = services(request)
    name = request.path_params["name"]
    target = here.store.reference(name) if body.id else None
    model = body.id or name
    here.store.get(model)

    def work(tell: Tell, cancelled: threading.Event) -> Line:
        told = _Told(tell)
        settings = here.configuration.settings
        digest = push(here.store, model, settings, told, target, cancelled)
        return {"type": "success", "message": told.outcome, "digest": digest}

    return await job(work, here.ending)


async def tag_model(request: Request) -> Response:
    """`?repo=&tag=`: one more name for a model."""
    here = services(request)
    repo, tag = request.query_params.get("repo"), request.query_params.get("tag")
    if not repo or not tag:
        raise BadInput("missing repo or tag query parameter", hint="POST …/tag?repo=NAME&tag=TAG")
    target = here.store.reference(f"{repo}:{tag}")
    await asyncio.to_thread(here.store.tag, request.path_params["name"], target)
    return JSONResponse({"message": "tagged", "target": target.long}, status_code=201)


async def repackage_model(request: Request) -> Response:
    """The same layers under another name, with another context size."""
    body = await read_body(request, Repackage)
    here, name = services(request), request.path_params["name"]
    target = here.store.reference(body.target)
    order = PackageOrder(target, from_model=name, context_size=body.context_size)
    await in_own_thread(lambda: package(here.store, order))
    told = {"message": "repackaged", "source": name, "target": target.long}
    return JSONResponse(told, status_code=201)


async def delete_model(request: Request) -> Response:
    here, name = services(request), request.path_params["name"]
    force = _flag(request, "force")
    model = await asyncio.to_thread(here.store.get, name)
    if _goes(here, model, name):
        await _free(here, {model.id}, force=force)
    removed = await asyncio.to_thread(here.store.remove, name, force=force)
    return JSONResponse(removal_json(removed))


async def purge_models(request: Request) -> Response:
    """Every model of the store; what is loaded is refused, or unloaded first where forced."""
    here = services(request)
    loaded = {status.identity.model for status in here.instances.statuses()}
    await _free(here, loaded, force=_flag(request, "force"))
    return JSONResponse(removal_json(await in_own_thread(here.store.purge)))


def _flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in {"1", "true"}


def _goes(here: Services, model: StoredModel, name: str) -> bool:
    """Whether removing this name removes the model: it is its last one, or its ID."""
    return len(model.tags) <= 1 or not here.store.names_a_tag(name)


async def _free(here: Services, models: Iterable[str], *, force: bool) -> None:
    """Models that an engine serves are refused, or unloaded first where forced."""
    going = frozenset(models)
    serving = [status for status in here.instances.statuses() if status.identity.model in going]
    if serving and not force:
        names = sorted({status.identity.reference for status in serving})
        raise InUse(
            f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} loaded",
            hint=f"runner unload {' '.join(names)}; or remove with --force, which unloads",
        )
    if serving:
        drain = here.configuration.settings.drain_timeout
        instances = [status.identity.instance for status in serving]
        await here.instances.unload(instances, drain_timeout=drain)


class _Told:
    """Progress goes on as lines; what the end says is kept for the job's own last line."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.outcome = ""

    def __call__(self, event: ProgressEvent) -> None:
        if event.kind is ProgressKind.SUCCESS:
            self.outcome = event.message
        else:
            self._tell(event.document())


ROUTES = [
    Route("/models", list_models, methods=["GET"]),
    Route("/models/create", create_model, methods=["POST"]),
    Route("/models/purge", purge_models, methods=["DELETE"]),
    Route("/models/{name:path}/push", push_model, methods=["POST"]),
    Route("/models/{name:path}/tag", tag_model, methods=["POST"]),
    Route("/models/{name:path}/repackage", repackage_model, methods=["POST"]),
    Route("/models/{name:path}", get_model, methods=["GET"]),
    Route("/models/{name:path}", delete_model, methods=["DELETE"]),
]
