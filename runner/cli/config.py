"""`runner config`: the settings as they hold, each with where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.options import AsJson

app = typer.Typer(help="Show the settings and where each came from.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def config(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the settings and where each came from."""
    if context.invoked_subcommand is not None:
        return
    from runner.cli.output import show_json, table
    from runner.configuration import load

    configuration = load()
    rows = [("home", str(configuration.home.root), configuration.home_origin)]
    rows += [(name, _shown(value), origin) for name, value, origin in configuration.rows()]
    if as_json:
        show_json({name: {"value": value, "from": origin} for name, value, origin in rows})
    else:
        table(("SETTING", "VALUE", "FROM"), rows)


def _shown(value: object) -> str:
    """As YAML would take it, without the password in a proxy's URL."""
    import json
    import re

    return re.sub(r"(://[^/@:]+):[^/@]+@", r"\1:***@", json.dumps(value))


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="Default: the one in use.")] = None,
) -> None:
    """Validate a settings file, or the settings in use."""
    from runner.configuration import check_file, load

    if file is not None:
        check_file(file)
        print(f"{file} is good")
        return
    configuration = load()
    where = configuration.file if configuration.file.exists() else f"no {configuration.file}"
    print(f"the settings are good ({where})")
