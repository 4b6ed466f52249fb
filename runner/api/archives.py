"""Models as tar archives: out of the store and into it, without a registry."""

from __future__ import annotations

import asyncio
import io
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from runner.api.jobs import in_own_thread
from runner.api.pipes import PIECE, Upload, written
from runner.api.services import services
from runner.store.archive import export_models, import_models

TAR = "application/x-tar"


async def load(request: Request) -> Response:
    """Takes an archive of models into the store, as it comes."""
    here = services(request)
    upload = Upload()
    filling = asyncio.ensure_future(upload.fill(request.stream()))
    try:
        models = await in_own_thread(
            lambda: import_models(here.store, io.BufferedReader(upload, PIECE))
        )
    finally:
        filling.cancel()
    tags = [tag for model in models for tag in model.tags]
    return JSONResponse(
        {
            "type": "success",
            "message": f"loaded {', '.join(tags) or 'the model'}",
            "ids": [model.id for model in models],
        }
    )


async def export(request: Request) -> Response:
    """An OCI layout in a tar archive."""
    here, name = services(request), request.path_params["name"]
    await asyncio.to_thread(here.store.get, name)

    def work(target: BinaryIO) -> None:
        export_models(here.store, (name,), target)

    return StreamingResponse(written(work), media_type=TAR)


ROUTES = [
    Route("/models/load", load, methods=["POST"]),
    Route("/models/{name:path}/export", export, methods=["GET"]),
]
