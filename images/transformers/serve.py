"""`transformers serve` for one model, on a Unix socket or a port, under the names it is given.

    python3 serve.py MODEL_FOLDER --uds SOCKET --served-model-name NAME... [transformers' own flags]

It is transformers' own server: this adds where it listens, the model's names, a chat template of
one's own and a limit on the context. Nothing is answered before the model is loaded, and nothing
where its weights are incomplete. A SIGTERM ends it at once. Where it can't serve, the last line
that it prints says why.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias

import typer
from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from transformers import PreTrainedModel
from transformers.cli.serve import Serve
from transformers.cli.serving.utils import BaseHandler

Theirs: TypeAlias = Any  # what transformers takes and gives
Function: TypeAlias = Callable[..., Any]

FAILED = 1
DONE = "data: [DONE]\n\n"
LIMITS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})
SHORTEST_ANSWER = 1
"""Tokens that must be left of the context for an answer."""
SHOWN = 3
"""So many of the tensors that are missing are named."""


class IncompleteWeights(Exception):
    """Tensors of the model are not among its weights."""


@dataclass(frozen=True)
class Order:
    """What `transformers serve` has no flag for. An empty `uds` leaves it to its host and port."""

    model: str
    names: tuple[str, ...]
    uds: str
    context_size: int
    chat_template: Path | None


class NamedServe(Serve):
    """transformers' server, told to listen elsewhere and to answer to other names."""

    order: Order

    def start_server(self) -> None:
        """Called, with everything loaded, in the place of serving in a thread of its own."""
        self._set_template()
        for handler in (self._chat_handler, self._completion_handler, self._response_handler):
            handler._resolve_model = self._named(handler._resolve_model)
            handler._streaming = self._within_context(handler._streaming)
            handler._non_streaming = self._within_context(handler._non_streaming)
        for handler in (self._chat_handler, self._completion_handler):
            handler._streaming = _ended(handler._streaming)
            handler.chunk_to_sse = _with_nulls
        self._model_manager.get_gen_models = self._listed
        if self.order.uds:
            self.server.config.uds = self.order.uds
        signal.signal(signal.SIGTERM, self._end)
        self.server.capture_signals = nullcontext
        self.server.run()

    def _set_template(self) -> None:
        if self.order.chat_template is None:
            return
        (loaded,) = self._model_manager.loaded_models.values()
        loaded.processor.chat_template = self.order.chat_template.read_text(encoding="utf-8")

    def _named(self, resolve: Function) -> Function:
        """The model by any of its names; answers tell the first one."""
        names = self.order.names

        def resolved(body: dict[str, object]) -> tuple[str, Theirs, Theirs]:
            asked = body.get("model")
            if asked is not None and asked not in names:
                raise HTTPException(404, f"there is no model {asked!r} here, but {names[0]!r}")
            _, model, processor = resolve({**body, "model": None})
            self._lengthen(body)
            return names[0], model, processor

        return resolved

    def _lengthen(self, body: dict[str, object]) -> None:
        """Without a limit of its own an answer may fill the context, not transformers' 1,024."""
        if self.order.context_size and not LIMITS.union({"generation_config"}).intersection(body):
            body.update(dict.fromkeys(LIMITS, self.order.context_size))

    def _within_context(self, generate: Function) -> Function:
        """An answer ends where the context does; a prompt that leaves no room is refused."""
        size = self.order.context_size

        def bounded(inputs: Theirs, gen_config: Theirs, **rest: Theirs) -> Theirs:
            room = size - _length(inputs["input_ids"])
            if room < SHORTEST_ANSWER:
                raise HTTPException(
                    400, f"the prompt has {size - room} tokens, more than the context of {size}"
                )
            gen_config.max_new_tokens = min(gen_config.max_new_tokens or room, room)
            return generate(inputs=inputs, gen_config=gen_config, **rest)

        return _keywords(generate, bounded) if size else generate

    def _listed(self) -> list[dict[str, str]]:
        return [{"id": name, "object": "model", "owned_by": "runner"} for name in self.order.names]

    def _end(self, *_: object) -> None:
        """Generating threads would go on to their end: nothing here needs to be torn down."""
        if self.order.uds:
            Path(self.order.uds).unlink(missing_ok=True)
        os._exit(0)


def _complete(load: Function) -> Function:
    """`from_pretrained`, where transformers fills what the weights lack at random: refused here.

    What is tied to another tensor, or what the model itself says may be missing, is not lacking.
    """

    def loaded(
        cls: type, *arguments: Theirs, output_loading_info: bool = False, **named: Theirs
    ) -> Theirs:
        model, found = load(cls, *arguments, output_loading_info=True, **named)
        missing = sorted(found["missing_keys"])
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise IncompleteWeights(
                f"the weights lack {len(missing)} of the model's tensors: "
                f"{', '.join(missing[:SHOWN])}{more}"
            )
        return (model, found) if output_loading_info else model

    return loaded


def _with_nulls(chunk: str | BaseModel) -> str:
    """OpenAI's schema has `finish_reason` in every chunk; transformers leaves out what is null."""
    return BaseHandler.chunk_to_sse(chunk if isinstance(chunk, str) else chunk.model_dump_json())


def _ended(stream: Callable[..., StreamingResponse]) -> Callable[..., StreamingResponse]:
    """A stream that came to its end says so, as OpenAI's do."""

    async def with_mark(parts: Theirs) -> AsyncIterator[str | bytes]:
        async with aclosing(parts):
            async for part in parts:
                yield part
        yield DONE

    def marked(*arguments: Theirs, **named: Theirs) -> StreamingResponse:
        response = stream(*arguments, **named)
        response.body_iterator = with_mark(response.body_iterator)
        return response

    return marked


def _keywords(function: Function, wrapper: Function) -> Function:
    """`wrapper`, with arguments by name however it is called: handlers differ in their order."""
    shape = signature(function)
    return lambda *args, **kwargs: wrapper(**shape.bind(*args, **kwargs).arguments)


def _length(ids: Theirs) -> int:
    return len(ids) if isinstance(ids, list) else int(ids.shape[-1])


def main(arguments: Sequence[str]) -> int:
    """Serves until it is told to end; returns the exit status."""
    parser = _parser()
    own, others = parser.parse_known_args(arguments)
    own.served_model_name = own.served_model_name or [own.model]
    program = typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    program.command()(NamedServe)
    if own.help:
        parser.print_help()
        print(flush=True)
        program(["--help"], prog_name="transformers serve", standalone_mode=False)
        return 0
    NamedServe.order = Order(
        own.model, tuple(own.served_model_name), own.uds, own.context_size, own.chat_template
    )
    PreTrainedModel.from_pretrained = classmethod(
        _complete(PreTrainedModel.from_pretrained.__func__)
    )
    try:
        program([own.model, *others, "--non-blocking"], prog_name="serve.py", standalone_mode=False)
    except Exception as error:  # whatever the cause: its text is the last line
        print(f"error: {_said(error)}", file=sys.stderr, flush=True)
        return FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serve.py", allow_abbrev=False, add_help=False, description="Serves one model."
    )
    parser.add_argument("model", nargs="?", default="", help="the model's folder")
    parser.add_argument("--help", action="store_true", help="show this, and transformers' own help")
    parser.add_argument("--uds", default="", help="listen on this Unix socket")
    parser.add_argument(
        "--served-model-name", nargs="+", help="names it answers to; the first one is reported"
    )
    parser.add_argument(
        "--context-size", type=int, default=0, help="most tokens of a prompt and its answer"
    )
    parser.add_argument(
        "--chat-template", type=Path, help="a Jinja file in the model's own's place"
    )
    return parser


def _said(error: Exception) -> str:
    """One line; click's usage errors keep their text elsewhere."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    return " ".join(text.split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
