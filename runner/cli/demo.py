"""`runner demo`: the model that ships with the runner, and a first answer from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.options import AsJson

NAME = "runner/demo"
FIRST_QUESTION = "What is an engine?"


def demo(
    export: Annotated[
        Path | None, typer.Option("--export", help="Write the demo model to this file.")
    ] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Load it, ask it one question, leave nothing running.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the demo model's questions, or see it answer."""
    from runner.demo import questions
    from runner.errors import BadInput

    if as_json and (export is not None or run):
        raise BadInput("--json goes with the list of questions alone")
    if export is not None:
        _export(export)
    elif run:
        from runner.cli.first_answer import first_answer

        first_answer(FIRST_QUESTION)
    elif as_json:
        from runner.cli.output import show_json

        show_json([{"question": q.question, "answer": q.answer} for q in questions()])
    else:
        print("The demo model answers these questions, and knows nothing else:\n")
        for known in questions():
            print(f"  {known.question}")
        print(f'\nAsk one:  runner demo --run\nOr:       runner run {NAME} "{FIRST_QUESTION}"')


def _export(target: Path) -> None:
    import shutil

    from runner.cli.output import note, size
    from runner.demo import gguf_path
    from runner.errors import BadInput

    try:
        shutil.copyfile(gguf_path(), target)
    except OSError as error:
        raise BadInput(f"can't write {target}: {error.strerror}") from error
    note(f"wrote {target} ({size(target.stat().st_size)})")
