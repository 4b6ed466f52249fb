"""`runner check`: is the local store sound?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.cli.progress import Tell
    from runner.store.check import Findings, Problem

_UNSOUND = 1


def check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged, mend the list of models.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read every file of the store and verify it.

    Ends with status 1 where something is wrong. A repair makes the store
    sound again; models that lost files are named, to be pulled again.

    \b
    Example:
      runner check --repair
    """
    from runner.cli.models import this_store
    from runner.cli.output import show_json
    from runner.cli.progress import shown
    from runner.store.check import check as look

    with shown() as tell:
        findings = look(this_store(), repair=repair, progress=_bytes(tell))
    if as_json:
        show_json({**asdict(findings), "sound": findings.is_sound})
    else:
        _show(findings, repair=repair)
    if not findings.is_sound:
        raise typer.Exit(_UNSOUND)


def _bytes(tell: Tell) -> Callable[[int, int], None]:
    def told(done: int, total: int) -> None:
        layer = {"id": "files", "size": total, "current": done}
        tell({"type": "progress", "total": total, "layer": layer})

    return told


def _show(findings: Findings, *, repair: bool) -> None:
    from runner.cli.output import note, size

    for problem in findings.problems:
        print(_line(problem))
    read = f"checked {findings.blobs_checked} files ({size(findings.bytes)})"
    count = len(findings.problems)
    if not count:
        note(f"{read}: all is well")
        return
    found = f"{read}: {count} problem{'' if count == 1 else 's'}"
    if not repair:
        note(f"{found}. Next: runner check --repair")
    elif findings.lost:
        note(f"{found}, repaired; pull or package again what was lost")
    else:
        note(f"{found}, repaired")


def _line(problem: Problem) -> str:
    from runner.cli.output import short_id
    from runner.registry.digest import is_digest

    subject = short_id(problem.subject) if is_digest(problem.subject) else problem.subject
    return f"{problem.kind.value}: {subject}: {problem.message}"
