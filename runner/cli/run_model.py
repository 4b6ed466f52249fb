"""`runner run`: one answer to a prompt, or a chat."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from runner.cli.options import AsJson


def run_model(
    model: Annotated[str, typer.Argument(help="A model; pulled where it is not here.")],
    prompt: Annotated[
        list[str] | None, typer.Argument(help="Without one: from a pipe, or a chat.")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", help="Only this engine.")] = "",
    as_json: AsJson = False,
) -> None:
    """Ask a model, or chat with it."""
    from runner.cli.background import running_client
    from runner.cli.chat import Chat, converse, say
    from runner.cli.output import show_json

    text = _prompt(prompt, as_json)
    client = running_client()
    _have(client, model)
    chat = Chat(client, model, backend)
    if text is None:
        converse(chat)
    elif as_json:
        answer: Mapping[str, Any] = chat.whole(text)
        show_json(answer)
    else:
        say(chat, text)


def _prompt(words: list[str] | None, as_json: bool) -> str | None:
    """None means a chat; raises BadInput where there is nothing to ask."""
    from runner.errors import BadInput

    if words:
        return " ".join(words)
    if sys.stdin.isatty() and not as_json:
        return None
    text = sys.stdin.read().strip()
    if not text:
        raise BadInput("the prompt is empty", hint='runner run MODEL "your question"')
    return text


def _have(client: Any, model: str) -> None:  # noqa: ANN401 - a Client, imported late
    """Pulls a model that is not in the store."""
    from runner.cli.demo import NAME as DEMO_MODEL
    from runner.cli.models import model_path, package_demo, pull_model
    from runner.cli.output import note
    from runner.errors import ModelNotFound

    try:
        client.get(model_path(model))
    except ModelNotFound:
        if model == DEMO_MODEL:
            package_demo()
            return
        note(f"{model} is not in the store: pulling it")
        pull_model(client, model)
