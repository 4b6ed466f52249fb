"""The control plane as one ASGI application."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from runner.api import (
    archives,
    choices,
    configure,
    engines,
    explain,
    installs,
    logs,
    models,
    openai,
    system,
)
from runner.api.services import Services
from runner.errors import InternalError, MethodNotAllowed, NotFound, RunnerError
from runner.gateway.guard import GuardMiddleware
from runner.gateway.render import error_body

log = logging.getLogger(__name__)


def application(services: Services) -> Starlette:
    app = Starlette(
        routes=[
            *system.ROUTES,
            *logs.ROUTES,
            *archives.ROUTES,
            *models.ROUTES,
            *engines.ROUTES,
            *installs.ROUTES,
            *choices.ROUTES,
            *configure.ROUTES,
            *explain.ROUTES,
            *openai.ROUTES,
        ],
        middleware=[Middleware(GuardMiddleware, settings=services.configuration.settings)],
        exception_handlers={
            RunnerError: _runner_error,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    app.state.services = services
    return app


async def _runner_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RunnerError)
    return _rendered(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own: no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == MethodNotAllowed.status:
        return _rendered(MethodNotAllowed(f"{where} is not possible"))
    return _rendered(NotFound(f"no such path: {where}", hint="see the README's table of routes"))


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _rendered(InternalError())


def _rendered(error: RunnerError) -> Response:
    return Response(error_body(error), status_code=error.status, media_type="application/json")
