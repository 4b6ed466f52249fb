"""Routes that configure models: our own, and Docker Model Runner's `_configure`."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.api.body import Body, read_body
from runner.api.configurations import Configurations, outcome_json
from runner.api.services import services
from runner.engines.base import Mode
from runner.engines.configured_models import rows, subject
from runner.errors import BadInput
from runner.names import canonical_engine, target
from runner.scheduler.configuring import Asked
from runner.state import State
from runner.store.store import ModelStore

LLAMA_CPP, VLLM = "llama.cpp", "vllm"
_FOR_EVER = "-1"


class Configure(Body):
    """`values` are options and parameters by any of their names; None takes one out."""

    model: str = Field(min_length=1)
    backend: str = ""
    values: dict[str, Any] = Field(default_factory=dict)
    flags: list[str] | None = None
    raw_flags: str = ""
    environment: dict[str, str | None] = Field(default_factory=dict)
    unset: list[str] = Field(default_factory=list)
    reset: bool = False


class Speculative(Body):
    draft_model: str = ""
    num_tokens: int | None = None
    min_acceptance_rate: float | None = None


class OfVllm(Body):
    hf_overrides: dict[str, Any] | None = Field(default=None, alias="hf-overrides")
    gpu_memory_utilization: float | None = Field(default=None, alias="gpu-memory-utilization")


class OfLlamaCpp(Body):
    reasoning_budget: int | None = Field(default=None, alias="reasoning-budget")


class DockerConfigure(Body):
    """Docker Model Runner's. A model has one configuration for all of its modes here, and stays
    loaded: `mode` is read and changes nothing, `keep_alive` may only say so."""

    model: str = Field(min_length=1)
    mode: Mode | None = None
    context_size: int | None = Field(default=None, alias="context-size")
    runtime_flags: list[str] | None = Field(default=None, alias="runtime-flags")
    raw_runtime_flags: str = Field(default="", alias="raw-runtime-flags")
    speculative: Speculative | None = None
    keep_alive: str | None = None
    vllm: OfVllm | None = None
    llamacpp: OfLlamaCpp | None = None


async def configure(request: Request) -> Response:
    """Answers with what is kept, and what each engine that would serve makes of it."""
    body = await read_body(request, Configure)
    kept = Configurations.of(services(request))
    asked = Asked(
        values=body.values,
        flags=_flags(body.flags, body.raw_flags),
        environment=body.environment,
        unset=body.unset,
        reset=body.reset,
    )
    engine = canonical_engine(body.backend) if body.backend else ""
    done = await asyncio.to_thread(kept.configure, body.model, {engine: asked})
    return JSONResponse(outcome_json(done))


async def configured(request: Request) -> Response:
    """`?model=` for one."""
    return JSONResponse(await _rows(request))


async def configure_docker(request: Request) -> Response:
    body = await read_body(request, DockerConfigure)
    kept = Configurations.of(services(request))
    named = request.path_params.get("engine")
    engine = target(named).engine if named else ""
    done = await asyncio.to_thread(kept.configure, body.model, _asked(body, engine))
    return JSONResponse(outcome_json(done), status_code=202)


async def configured_docker(request: Request) -> Response:
    here = services(request)
    found = await _rows(request)
    return JSONResponse([_docker(row, here.store) for row in found])


async def _rows(request: Request) -> list[dict[str, Any]]:
    model = request.query_params.get("model", "")
    here = services(request)
    return await asyncio.to_thread(_stored, here.store, here.state, model)


def _stored(store: ModelStore, state: State, model: str) -> list[dict[str, Any]]:
    names = subject(store, model).names if model else None
    return rows(state.configurations(), names)


def _flags(flags: list[str] | None, raw: str) -> list[str] | None:
    """Raises BadInput for quotes that do not close."""
    try:
        more = shlex.split(raw)
    except ValueError as error:
        raise BadInput(f"the flags {raw!r} can't be read: {error}", hint="close it") from error
    return [*(flags or ()), *more] if more or flags is not None else None


def _asked(body: DockerConfigure, engine: str) -> Mapping[str, Asked]:
    """By engine: a section of one engine counts for that one alone."""
    if body.keep_alive not in (None, "", _FOR_EVER):
        raise BadInput(
            f"keep_alive: {body.keep_alive!r} is not possible: models stay loaded",
            hint="leave it out, and `runner unload` what is no longer used",
        )
    own = Asked(
        values={**_context(body.context_size), **_draft(body.speculative)},
        flags=_flags(body.runtime_flags, body.raw_runtime_flags),
    )
    sections = {
        LLAMA_CPP: body.llamacpp.model_dump() if body.llamacpp else {},
        VLLM: body.vllm.model_dump() if body.vllm else {},
    }
    asked = {name: Asked(_set(values)) for name, values in sections.items() if _set(values)}
    if engine in asked:
        return {**asked, engine: Asked({**asked[engine].values, **own.values}, own.flags)}
    says = own.values or own.flags is not None or not asked
    return {**asked, engine: own} if says else asked


def _context(size: int | None) -> Mapping[str, Any]:
    """Less than one token leaves it to the runner: nothing is set any more."""
    return {} if size is None else {"context_size": size if size > 0 else None}


def _draft(given: Speculative | None) -> Mapping[str, Any]:
    if given is None:
        return {}
    return _set(
        {
            "draft_model": given.draft_model or None,
            "draft_tokens": given.num_tokens,
            "speculative.p_min": given.min_acceptance_rate,
        }
    )


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _docker(row: Mapping[str, Any], store: ModelStore) -> dict[str, Any]:
    """As `GET /engines/_configure` of Docker Model Runner lists it."""
    options: Mapping[str, Any] = row.get("options", {})
    speculative = _pick(options, draft_model="draft_model", num_tokens="draft_tokens")
    vllm = _pick(
        options,
        **{"hf-overrides": "hf_overrides", "gpu-memory-utilization": "gpu_memory_utilization"},
    )
    sections = {
        "runtime-flags": row.get("flags"),
        "speculative": speculative,
        "vllm": vllm,
        "llamacpp": _pick(options, **{"reasoning-budget": "reasoning_budget"}),
    }
    return {
        "Backend": row["backend"],
        "Model": row["model"],
        "ModelID": _id(store, row["model"]),
        "Mode": Mode.COMPLETION,
        "Config": {
            **_pick(options, **{"context-size": "context_size"}),
            **{name: values for name, values in sections.items() if values},
        },
    }


def _id(store: ModelStore, name: str) -> str:
    """A configuration may outlive its model, or come before it: then there is none."""
    return next((one.id for one in store.list() if name == one.id or name in one.tags), "")


def _pick(options: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {theirs: options[ours] for theirs, ours in names.items() if ours in options}


ROUTES = [
    Route("/runner/v1/configure", configure, methods=["POST"]),
    Route("/runner/v1/configure", configured, methods=["GET"]),
    Route("/engines/_configure", configure_docker, methods=["POST"]),
    Route("/engines/_configure", configured_docker, methods=["GET"]),
    Route("/engines/{engine}/_configure", configure_docker, methods=["POST"]),
]
