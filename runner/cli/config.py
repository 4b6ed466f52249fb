"""`runner config`: the settings as they hold, each with where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from runner.home import Home
    from runner.settings import Settings

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

    configuration = load()
    if file is not None:
        _check_engines(check_file(file), configuration.home)
        print(f"{file} is good")
        return
    _check_engines(configuration.settings, configuration.home)
    where = configuration.file if configuration.file.exists() else f"no {configuration.file}"
    print(f"the settings are good ({where})")


def _check_engines(settings: Settings, home: Home) -> None:
    """Raises BadSettings for engines that there are not, and for what an engine refuses."""
    from runner.engines.configured import Configured
    from runner.engines.registered import check_settings, engines
    from runner.errors import BadInput, BadSettings
    from runner.scheduler.settling import settled

    found = engines(home.custom_engines)
    check_settings(found, settings)
    for name, backend in settings.backends.items():
        try:
            settled(found[name], backend, Configured(), native=True)
        except BadSettings:
            raise
        except BadInput as error:
            raise BadSettings(f"backends.{name}: {error.message}", hint=error.hint) from error
