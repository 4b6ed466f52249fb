"""Help that lists commands under headings, in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter

_BESIDES_HELP = 6
"""Columns that click's own layout takes beside a command's name and its help."""


class Sections(TyperGroup):
    """A command's `rich_help_panel` is its heading, also where rich does not render.

    A command may be two words, such as `configure show`, beside one that is the first alone.
    """

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        two = " ".join(args[:2])
        if len(args) > 1 and two in self.commands:
            return two, self.commands[two], args[2:]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        shown = {name: command for name, command in self.commands.items() if not command.hidden}
        widest = max(map(len, shown), default=0)
        limit = formatter.width - _BESIDES_HELP - widest
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in shown.items():
            heading = getattr(command, "rich_help_panel", None) or "Commands"
            row = (name.ljust(widest), command.get_short_help_str(limit))
            sections.setdefault(heading, []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
