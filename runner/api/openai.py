"""`/v1/models` under each of the gateway's prefixes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.api.services import Services, services
from runner.errors import ModelNotFound
from runner.names import ANY_ENGINE, target
from runner.store.stored import StoredModel

_PREFIXES = ("", "/engines", "/engines/{engine}")


async def list_models(request: Request) -> Response:
    models = [_openai(model) for model in _served(request)]
    return JSONResponse({"object": "list", "data": models})


async def get_model(request: Request) -> Response:
    wanted = services(request).store.get(request.path_params["name"])
    if all(model.id != wanted.id for model in _served(request)):
        engine = request.path_params["engine"]
        raise ModelNotFound(f"{engine} does not serve {wanted.config.format} models")
    return JSONResponse(_openai(wanted))


def _served(request: Request) -> list[StoredModel]:
    """All models, or those of a format that the path's engine serves."""
    here: Services = services(request)
    asked = target(request.path_params.get("engine", ANY_ENGINE))
    if not asked.engine:
        return list(here.store.list())
    formats = here.engines.named(asked.engine).description.formats
    return [model for model in here.store.list() if model.config.format in formats]


def _openai(model: StoredModel) -> dict[str, object]:
    """OpenAI's shape, with Docker Model Runner's `dmr` object for what OpenAI's has no word for."""
    config = model.config
    return {
        "id": model.tags[0] if model.tags else model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "runner",
        "dmr": {
            "context_window": config.context_size,
            "architecture": config.architecture,
            "parameters": config.parameters,
            "quantization": config.quantization,
            "size": config.size,
        },
    }


ROUTES = [
    route
    for prefix in _PREFIXES
    for route in (
        Route(f"{prefix}/v1/models", list_models, methods=["GET"]),
        Route(f"{prefix}/v1/models/{{name:path}}", get_model, methods=["GET"]),
    )
]
