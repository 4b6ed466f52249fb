"""Reads a management request's JSON body into a pydantic model, with errors that name the field."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from runner.errors import BadInput, BodyTooLarge

MAX_BODY = 1024 * 1024


class Body(BaseModel):
    """Unknown fields are refused: a misspelt one would else do nothing, silently."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


BodyType = TypeVar("BodyType", bound=Body)


async def read_body(request: Request, kind: type[BodyType]) -> BodyType:
    """An empty body stands for `{}`; raises BadInput, BodyTooLarge."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise BodyTooLarge(f"the body is larger than {MAX_BODY} bytes")
    try:
        return kind.model_validate_json(bytes(raw) or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{where}: {first['msg']}" if where else str(first["msg"])) from error
