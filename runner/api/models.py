"""Routes for models, as Docker Model Runner has them."""

from __future__ import annotations

import asyncio
import threading

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.api.body import Body, read_body
from runner.api.jobs import Line, Tell, job
from runner.api.services import Services, services
from runner.errors import BadInput, InUse
from runner.models.listing import model_json
from runner.models.progress import Progress, ProgressEvent, ProgressKind
from runner.models.store import StoredModel
from runner.models.transfer import pull, push


class Create(Body):
    """`from` is the reference to pull."""

    source: str = Field(alias="from", min_length=1)


async def list_models(request: Request) -> Response:
    return JSONResponse([model_json(model) for model in services(request).store.list()])


async def get_model(request: Request) -> Response:
    return JSONResponse(model_json(services(request).store.get(request.path_params["name"])))


async def create_model(request: Request) -> Response:
    """Pulls a model, telling the progress as JSON lines."""
    body = await read_body(request, Create)
    here = services(request)
    reference = here.store.reference(body.source)

    def work(tell: Tell, cancelled: threading.Event) -> Line:
        model = pull(
            here.store,
            reference,
            here.configuration.settings,
            _forward(tell),
            cancelled,
        )
        return {"type": "success", "message": f"pulled {reference.short}", "id": model.id}

    return await job(work, here.ending)


async def push_model(request: Request) -> Response:
    here = services(request)
    name = request.path_params["name"]
    here.store.get(name)

    def work(tell: Tell, cancelled: threading.Event) -> Line:
        digest = push(
            here.store,
            name,
            here.configuration.settings,
            _forward(tell),
            cancelled=cancelled,
        )
        return {"type": "success", "message": f"pushed {name}", "digest": digest}

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


async def delete_model(request: Request) -> Response:
    here = services(request)
    force = request.query_params.get("force", "").lower() in {"1", "true"}
    name = request.path_params["name"]
    model = await asyncio.to_thread(here.store.get, name)
    if _goes(here, model, name):
        await _free(here, model, force=force)
    removal = await asyncio.to_thread(here.store.remove, name, force=force)
    return JSONResponse(
        [
            *({"Untagged": tag} for tag in removal.untagged),
            *({"Deleted": digest} for digest in removal.deleted),
        ]
    )


def _goes(here: Services, model: StoredModel, name: str) -> bool:
    """Whether removing this name removes the model: it is its last one, or its ID."""
    return len(model.tags) <= 1 or not here.store.names_a_tag(name)


async def _free(here: Services, model: StoredModel, *, force: bool) -> None:
    """A model that an engine serves is refused, or unloaded first where forced."""
    serving = [
        status.identity.instance
        for status in here.instances.statuses()
        if status.identity.model == model.id
    ]
    if serving and not force:
        raise InUse(
            "the model is loaded", hint="`runner unload MODEL` first, or remove it with --force"
        )
    if serving:
        drain = here.configuration.settings.drain_timeout
        await here.instances.unload(serving, drain_timeout=drain)


def _forward(tell: Tell) -> Progress:
    """Progress goes on as lines; the end is told by the job itself, with its result."""

    def progress(event: ProgressEvent) -> None:
        if event.kind is not ProgressKind.SUCCESS:
            tell(event.document())

    return progress


ROUTES = [
    Route("/models", list_models, methods=["GET"]),
    Route("/models/create", create_model, methods=["POST"]),
    Route("/models/{name:path}/push", push_model, methods=["POST"]),
    Route("/models/{name:path}/tag", tag_model, methods=["POST"]),
    Route("/models/{name:path}", get_model, methods=["GET"]),
    Route("/models/{name:path}", delete_model, methods=["DELETE"]),
]
