"""The engines that there are, and what a user has chosen among them for good."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.api.body import Body, read_body
from runner.api.services import Services, services
from runner.artifacts.media import ModelFormat
from runner.engines.base import Engine
from runner.engines.candidate import Candidate
from runner.engines.configured_models import Subject, subject
from runner.engines.fields import nearest
from runner.engines.offer import candidates
from runner.engines.unknown_names import no_variant
from runner.errors import BadInput, RunnerError
from runner.names import canonical_engine, near_hint
from runner.state import ChoiceKind


class Choice(Body):
    """`subject` is a format's name for `format`, an engine for `variant`, a format or a model for
    `fallback`; `value` the engine, the variant, or engines by comma. Empty: taken back."""

    kind: ChoiceKind
    subject: str = Field(min_length=1)
    value: str = ""


async def list_engines(request: Request) -> Response:
    """Every engine with its variants, engines that could not be read, and the user's choices."""
    return JSONResponse(await asyncio.to_thread(_listed, services(request)))


async def choose(request: Request) -> Response:
    body = await read_body(request, Choice)
    return JSONResponse(await asyncio.to_thread(_choose, services(request), body))


async def chosen(request: Request) -> Response:
    """`?kind=&subject=`: the value is empty where nothing was chosen."""
    kind, about = (request.query_params.get(name, "") for name in ("kind", "subject"))
    if kind not in set(ChoiceKind) or not about:
        kinds = "|".join(ChoiceKind)
        raise BadInput("no choice is named", hint=f"?kind={kinds}&subject=NAME")
    body = Choice(kind=ChoiceKind(kind), subject=about)
    return JSONResponse(await asyncio.to_thread(_chosen, services(request), body))


def _listed(here: Services) -> dict[str, Any]:
    settings = here.configuration.settings
    offered = candidates(here.engines, here.state.installs(), settings, here.host())
    return {
        "engines": [
            _engine(engine, [one for one in offered if one.name == name])
            for name, engine in here.engines.items()
        ],
        "problems": [_problem(problem) for problem in here.engines.problems],
        "choices": {kind.value: dict(here.state.choices(kind)) for kind in ChoiceKind},
        "preference": list(settings.preference),
    }


def _engine(engine: Engine, offered: Sequence[Candidate]) -> dict[str, Any]:
    about = engine.description
    return {
        "backend": about.name,
        "title": about.title,
        "summary": about.summary,
        "licence": about.licence,
        "source": about.source,
        "origin": about.origin,
        "file": str(about.file) if about.file else "",
        "formats": {name: list(known) for name, known in about.formats.items()},
        "modes": sorted(about.modes),
        "priority": about.priority,
        "default_variant": about.default_variant,
        "variants": [_variant(candidate) for candidate in offered],
    }


def _variant(candidate: Candidate) -> dict[str, Any]:
    """`version` is that of what is installed, else of what would be."""
    variant = candidate.variant
    return {
        "variant": variant.name,
        "accelerator": variant.accelerator,
        "accelerator_version": variant.accelerator_version,
        "version": candidate.version,
        "installed": candidate.is_installed,
        "form": variant.form,
        "platforms": list(variant.platforms),
    }


def _problem(error: RunnerError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _choose(here: Services, body: Choice) -> dict[str, str]:
    about, value = _checked(here, body)
    here.state.choose(body.kind, about, value)
    return {"kind": body.kind, "subject": about, "value": value}


def _chosen(here: Services, body: Choice) -> dict[str, str]:
    about, _ = _checked(here, body)
    value = here.state.choices(body.kind).get(about, "")
    return {"kind": body.kind, "subject": about, "value": value}


def _checked(here: Services, body: Choice) -> tuple[str, str]:
    """Subject and value by the names that they are kept under. Raises BadInput, EngineNotFound,
    BadReference, ModelNotFound, each with the nearest name."""
    if body.kind is ChoiceKind.FORMAT:
        return _for_format(here, body)
    if body.kind is ChoiceKind.VARIANT:
        return _for_engine(here, body)
    return _for_fallback(here, body)


def _for_format(here: Services, body: Choice) -> tuple[str, str]:
    wanted = _format(body.subject)
    if wanted is None:
        names = [one.value for one in ModelFormat]
        hint = near_hint(body.subject.lower(), names, "formats")
        raise BadInput(f"{body.subject!r} is not a model format", hint=hint)
    return wanted, _reader(here, body.value, wanted) if body.value else ""


def _for_engine(here: Services, body: Choice) -> tuple[str, str]:
    """A choice for an engine that is gone can still be taken back."""
    if not body.value and body.subject in here.state.choices(ChoiceKind.VARIANT):
        return body.subject, ""
    about = _named(here, body.subject).description
    settings = here.configuration.settings
    offered = candidates({about.name: here.engines[about.name]}, (), settings, here.host())
    names = [one.variant.name for one in offered]
    if body.value and body.value not in names:
        raise no_variant(about.name, body.value, names)
    return about.name, body.value


def _for_fallback(here: Services, body: Choice) -> tuple[str, str]:
    """A word that is a format's is the format; the model of that name has a longer one too."""
    wanted = _format(body.subject)
    about = None if wanted else _for_model(here, body)
    reads = wanted or (about.model.config.format if about and about.model else None)
    names = [name.strip() for name in body.value.split(",") if name.strip()]
    engines = dict.fromkeys(_reader(here, name, reads) for name in names)
    return wanted or (about.name if about else body.subject), ",".join(engines)


def _for_model(here: Services, body: Choice) -> Subject:
    """Raises BadInput for a word that is nearly a format's and the name of no model here. One
    that was chosen for before, or is written with its organisation, is a model's."""
    about = subject(here.store, body.subject)
    if about.model is not None or about.name in here.state.choices(ChoiceKind.FALLBACK):
        return about
    bare = body.subject.strip().lower()
    near = nearest(bare, [one.value for one in ModelFormat])
    if near and not set("/:@") & set(bare):
        raise BadInput(
            f"{body.subject!r} is neither a model format nor a model in the store",
            hint=f"{near} For a model that is not here yet: its long name, {about.name}",
        )
    return about


def _format(text: str) -> ModelFormat | None:
    return next((one for one in ModelFormat if one.value == text.strip().lower()), None)


def _reader(here: Services, name: str, wanted: ModelFormat | None) -> str:
    """The engine's one name; raises BadInput where it does not read the format."""
    about = _named(here, name).description
    if wanted is not None and wanted not in about.formats:
        able = [one for one, engine in here.engines.items() if wanted in engine.description.formats]
        hint = f"engines that do: {', '.join(able) or 'none'}"
        raise BadInput(f"{about.name} does not read {wanted}", hint=hint)
    return about.name


def _named(here: Services, name: str) -> Engine:
    return here.engines.named(canonical_engine(name))


ROUTES = [
    Route("/runner/v1/engines", list_engines, methods=["GET"]),
    Route("/runner/v1/engines/choices", choose, methods=["POST"]),
    Route("/runner/v1/engines/choices", chosen, methods=["GET"]),
]
