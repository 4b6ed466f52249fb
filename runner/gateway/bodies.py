"""What the data plane reads of a request's body: the model's name and nothing else; pure."""

from __future__ import annotations

import msgspec

from runner.errors import BadInput, BodyTooLarge, MissingModel


class _Named(msgspec.Struct):
    model: str = ""


_decoder = msgspec.json.Decoder(_Named)


def model_of(body: bytes | bytearray) -> str:
    """Raises BadInput where the body is not a JSON object, MissingModel where none is named."""
    try:
        model = _decoder.decode(body).model
    except msgspec.ValidationError as error:
        raise MissingModel(f"the request's body does not fit: {error}", hint=_HINT) from error
    except msgspec.DecodeError as error:
        raise BadInput(f"the request's body is not JSON: {error}", hint=_HINT) from error
    if not model:
        raise MissingModel("the request names no model", hint=_HINT)
    return model


_HINT = 'send a JSON object such as {"model": "…", "messages": […]}; `runner ls` lists the models'


def too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the request's body is larger than {limit} bytes",
        hint="raise max_body in the settings, or send less",
    )
