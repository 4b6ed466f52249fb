"""`runner run`: one answer to a prompt, or a chat."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from runner.cli.options import AsJson, GpuWish


def run_model(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A name or ID, pulled where it is not here; or a file (./x.gguf)."
        ),
    ],
    prompt: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]...", help="Without one: from a pipe, or a chat."),
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", metavar="ENGINE", help="Only this engine.")
    ] = "",
    gpu: GpuWish = "auto",
    as_json: AsJson = False,
) -> None:
    """Ask a model, or chat with it.

    \b
    Examples:
      runner run ai/smollm2:360M-Q4_K_M "Why is the sky blue?"
      runner run --backend llama.cpp --gpu none ai/smollm2:360M-Q4_K_M
      runner run ./model.gguf "Why is the sky blue?"
      cat question.txt | runner run ai/smollm2:360M-Q4_K_M
    """
    from runner.cli.agreement import agree
    from runner.cli.background import running_client
    from runner.cli.chat import Chat, converse, say
    from runner.cli.models import this_store
    from runner.cli.options import engine_path
    from runner.cli.output import show_json

    engine = engine_path(backend, gpu)
    text = _prompt(prompt, as_json)
    name = _had(model, engine)
    client = running_client()
    agree(client, this_store())
    chat = Chat(client, name, engine)
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


def _had(model: str, engine: str) -> str:
    """Pulls or packages a model that is not in the store; the name it has there. An engine that
    there is not is refused before the pull."""
    from runner.cli.background import running_client, this_home
    from runner.cli.demo import NAME as DEMO_MODEL
    from runner.cli.local_model import packaged
    from runner.cli.models import package_demo, pull_model, this_store
    from runner.cli.output import note
    from runner.errors import ModelNotFound
    from runner.models.naming import LocalPath, read_name

    store = this_store()
    name = read_name(model, store.defaults)
    if isinstance(name, LocalPath):
        return packaged(store, this_home().root, name.path)
    try:
        store.get(model)
    except ModelNotFound:
        if model == DEMO_MODEL:
            package_demo()
            return model
        client = running_client()
        if engine:
            client.get(f"/engines/{engine}/v1/models")
        note(f"{model} is not in the store: pulling it")
        pull_model(client, model)
    return model
