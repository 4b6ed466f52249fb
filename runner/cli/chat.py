"""A conversation with a model over the daemon's socket."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from runner.cli.client import Client, remote_error
from runner.cli.output import fail, note
from runner.errors import RunnerError

if TYPE_CHECKING:
    from http.client import HTTPMessage

FALLBACK_HEADER = "x-runner-fallback"
"""Says who stands in for whom. The gateway names it too: its modules take long to import."""
_DATA, _DONE = "data: ", "[DONE]"
_WELCOME = "chat with {model}; /clear forgets the history, /bye or Ctrl-D ends"
_HELP = "/clear  forget the history\n/bye    end (or Ctrl-D)\n/help   this list"


class Chat:
    """One model and the messages so far. `backend` is an engine as paths name it, "" for any."""

    def __init__(self, client: Client, model: str, backend: str) -> None:
        self.model = model
        self.messages: list[dict[str, str]] = []
        self._client = client
        self._client.on_head = self._hear
        self._heard = ""
        engine = f"/{backend}" if backend else ""
        self._path = f"/engines{engine}/v1/chat/completions"

    def ask(self, text: str) -> Iterator[str]:
        """The answer in pieces; question and answer join the history once it is whole."""
        messages = [*self.messages, {"role": "user", "content": text}]
        pieces: list[str] = []
        for chunk in self._chunks(messages):
            piece = _piece(chunk)
            pieces.append(piece)
            yield piece
        self.messages = [*messages, {"role": "assistant", "content": "".join(pieces)}]

    def whole(self, text: str) -> Mapping[str, Any]:
        """The engine's whole response object."""
        body = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        response: Mapping[str, Any] = self._client.post(self._path, body)
        return response

    def _hear(self, head: HTTPMessage) -> None:
        """Says who stands in for the first choice, and why; in a chat only when that changes."""
        told, before = head.get(FALLBACK_HEADER, ""), self._heard
        self._heard = told
        if told and told != before:
            if sys.stderr.isatty():
                _clear_line()
            note(told)

    def _chunks(self, messages: list[dict[str, str]]) -> Iterator[Mapping[str, Any]]:
        body = {"model": self.model, "messages": messages, "stream": True}
        for line in self._client.lines("POST", self._path, body):
            if not line.startswith(_DATA):
                continue
            data = line[len(_DATA) :]
            if data == _DONE:
                return
            chunk = json.loads(data)
            if "error" in chunk:
                raise remote_error(chunk, HTTPStatus.BAD_GATEWAY)
            yield chunk
        raise RunnerError("the answer was cut short", hint="see `runner logs`")


def say(chat: Chat, text: str) -> None:
    """Prints the answer as it comes; says on a terminal that the model is being loaded."""
    waiting = sys.stderr.isatty()
    if waiting:
        print("waiting for the model …", end="", file=sys.stderr, flush=True)
    try:
        for piece in chat.ask(text):
            if waiting and piece:
                waiting = _clear_line()
            print(piece, end="", flush=True)
    finally:
        if waiting:
            _clear_line()
    print()


def converse(chat: Chat) -> None:
    """Questions and answers until the user ends it. Ctrl-C stops an answer, not the chat."""
    import readline  # noqa: F401 - gives input() its line editing and history

    note(_WELCOME.format(model=chat.model))
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            continue
        if text == "/bye":
            return
        _turn(chat, text)


def _turn(chat: Chat, text: str) -> None:
    if text == "/clear":
        chat.messages = []
    elif text == "/help":
        print(_HELP)
    elif text:
        try:
            say(chat, text)
        except KeyboardInterrupt:
            print()
        except RunnerError as error:
            fail(error)


def _piece(chunk: Mapping[str, Any]) -> str:
    choices = chunk.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


def _clear_line() -> bool:
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return False
