"""`runner search`: models to pull."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.hubs.search import Found, SearchSource

_HEADER = ("NAME", "FORMAT", "PARAMETERS", "DOWNLOADS", "LIKES", "DESCRIPTION")


def search(
    term: Annotated[
        str, typer.Argument(metavar="[TERM]", help="A part of the name; none: what is used most.")
    ] = "",
    source: Annotated[
        str, typer.Option("--source", help="Where to look: all, huggingface or registry.")
    ] = "all",
    registry: Annotated[
        str, typer.Option("--registry", metavar="HOST", help="Look in this registry's catalogue.")
    ] = "",
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="At most so many of each source.")
    ] = 32,
    as_json: AsJson = False,
) -> None:
    """Search Hugging Face, and a registry that is named.

    \b
    Examples:
      runner search smollm2
      runner search --source registry --registry localhost:5000
    """
    from runner.cli.output import note, show_json, table
    from runner.configuration import load
    from runner.hubs.search import search as look

    results = look(term, load().settings, source=_source(source), registry=registry, limit=limit)
    for told in results.notes:
        note(told)
    if as_json:
        show_json([asdict(found) for found in results.found])
        return
    if not results.found:
        note(f"nothing is called {term!r}" if term else "nothing was found")
        return
    header, *rows = _told(results.found)
    table(header, rows)


def _source(text: str) -> SearchSource:
    from runner.errors import BadInput
    from runner.hubs.search import SearchSource

    try:
        return SearchSource(text)
    except ValueError as error:
        known = ", ".join(SearchSource)
        raise BadInput(f"{text!r} is no source", hint=f"one of {known}") from error


def _told(found: Sequence[Found]) -> list[tuple[str, ...]]:
    """Header and rows, without the columns of which nothing is known."""
    columns = zip(_HEADER, *map(_row, found), strict=True)
    return list(zip(*(c for c in columns if set(c[1:]) != {"-"}), strict=True))


def _row(found: Found) -> tuple[str, ...]:
    from runner.models.describe import count_text

    numbers = (found.parameters, found.downloads, found.likes)
    counts = (count_text(number) if number else "-" for number in numbers)
    return (found.name, found.format or "-", *counts, found.description or "-")
