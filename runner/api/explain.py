"""Why a model would be served as it would be: `GET /runner/v1/explain`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.api.configurations import fate_json
from runner.api.services import services
from runner.engines.base import Mode
from runner.engines.candidate import Candidate
from runner.engines.environment import shown
from runner.engines.option_values import options_json
from runner.engines.selection import Decision, Judged
from runner.engines.verdicts import Verdict
from runner.errors import BadInput, MissingModel, RunnerError
from runner.names import near_hint
from runner.scheduler.explanation import Explanation
from runner.scheduler.explanation import explain as explain_start
from runner.scheduler.live import InstanceStatus
from runner.scheduler.order import Order
from runner.scheduler.planning import Inquiry
from runner.scheduler.succession import Succession


async def explain(request: Request) -> Response:
    """`?model=&engine=&mode=`: `engine` as a path names it, such as vllm or any:cuda."""
    here, query = services(request), request.query_params
    model = query.get("model", "")
    if not model:
        raise MissingModel("no model is named", hint="GET /runner/v1/explain?model=MODEL")
    engine, mode = query.get("engine") or None, _mode(query.get("mode", ""))
    found = await asyncio.to_thread(
        explain_start, here.planner, here.launchers, engine, model, mode
    )
    line = here.instances.succession(found.orders) if found.orders else None
    told = explanation_json(found)
    told["passed_over"] = _passed_over(line) if line else None
    told["standing_in"] = _standing_in(found, here.instances.statuses())
    return JSONResponse(told)


def _mode(text: str) -> Mode:
    if text and text not in set(Mode):
        raise BadInput(f"{text!r} is not a mode", hint=near_hint(text, list(Mode), "modes"))
    return Mode(text) if text else Mode.COMPLETION


def explanation_json(found: Explanation) -> dict[str, Any]:
    """Everything that was looked at. `command` is empty where nothing can serve: `problem` says
    why. `variants` are in the order of preference."""
    decision = found.inquiry.decision
    return {
        "model": _model(found.inquiry),
        "choice": _variant(decision.choice) if decision.choice else None,
        "reason": decision.reason,
        "problem": _problem(found.problem) if found.problem else None,
        "preparation": [list(command) for command in found.preparation],
        "command": list(found.command),
        "start": _start(found.order) if found.order else None,
        "variants": [_judged(one, decision) for one in decision.judged],
        "unused_gpu": _unused(decision.unused_gpu),
        "fallbacks": [candidate.label for candidate in decision.fallbacks],
        "host": msgspec.to_builtins(found.inquiry.host),
    }


def _model(inquiry: Inquiry) -> dict[str, Any]:
    traits = inquiry.traits
    return {
        "name": inquiry.reference,
        "id": inquiry.model.id,
        "format": traits.format,
        "quantization": traits.quantization,
        "architecture": traits.architecture,
        "context_size": traits.context_size,
        "size": traits.size,
    }


def _start(order: Order) -> dict[str, Any]:
    """What was decided for the start beside the engine."""
    settled = order.settled
    return {
        "mode": order.key.mode,
        "launcher": order.launcher,
        "context_size": order.context_size,
        "kv_bytes": order.kv_bytes,
        "gpus": [msgspec.to_builtins(gpu) for gpu in order.gpus],
        "options": options_json(settled.options),
        "flags": list(settled.flags),
        "environment": dict(shown(settled.environment)),
        "fates": [fate_json(fate) for fate in settled.fates],
        "messages": list(settled.messages),
    }


def _passed_over(line: Succession) -> dict[str, Any] | None:
    """A first choice that goes last just now: who answers instead, why, and until when, in seconds
    since the epoch."""
    trouble = line.passed_over
    if trouble is None:
        return None
    left = trouble.until - asyncio.get_running_loop().time()
    return {
        "label": line.first.candidate.label,
        "by": line.turns[0].candidate.label,
        "why": trouble.why,
        "reason": trouble.reason,
        "until": time.time() + left,
    }


def _standing_in(found: Explanation, statuses: Sequence[InstanceStatus]) -> str | None:
    """Who is loaded in the choice's place, and why."""
    choice = found.inquiry.decision.choice
    wanted = (found.inquiry.model.id, choice.label if choice else "")
    for status in statuses:
        stand_in = status.stands_in
        if stand_in and (status.identity.model, stand_in.label) == wanted:
            return stand_in.told(status.label)
    return None


def _unused(judged: Judged | None) -> dict[str, str] | None:
    """A variant that would use the host's GPU: what is in its way, and the next step."""
    if judged is None:
        return None
    found = judged.hard[0]
    return {"label": judged.candidate.label, "found": found.found, "hint": found.hint}


def _judged(judged: Judged, decision: Decision) -> dict[str, Any]:
    return {
        **_variant(judged.candidate),
        "chosen": judged.candidate is decision.choice,
        "can_serve": judged.can_serve,
        "could_serve": judged.could_serve,
        "verdicts": [_verdict(verdict) for verdict in judged.verdicts],
    }


def _variant(candidate: Candidate) -> dict[str, Any]:
    variant = candidate.variant
    return {
        "label": candidate.label,
        "backend": candidate.name,
        "variant": variant.name,
        "version": candidate.version,
        "accelerator": variant.accelerator,
        "accelerator_version": variant.accelerator_version,
        "form": variant.form,
        "origin": candidate.engine.description.origin,
        "installed": candidate.is_installed,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "code": verdict.code,
        "ok": verdict.ok,
        "subject": verdict.subject,
        "found": verdict.found,
        "required": verdict.required,
        "hint": "" if verdict.ok else verdict.hint,
    }


def _problem(error: RunnerError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


ROUTES = [Route("/runner/v1/explain", explain, methods=["GET"])]
