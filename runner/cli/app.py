"""The command line: one file per command, each imported light; the heavy parts come late."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from runner.cli.next_step import unusable, with_next_step
from runner.cli.output import fail
from runner.cli.sections import Sections
from runner.errors import RunnerError

INTERRUPTED = 130
CLOSED_PIPE = 141
"""As a shell tells of programs that SIGPIPE ended: nobody reads on, the output is not whole."""

GROUPS_HEADING = "Engines and the daemon"

COMMANDS: dict[str, dict[str, str]] = {
    "Models": {
        "run": "run_model:run_model",
        "search": "search:search",
        "pull": "pull:pull",
        "push": "push:push",
        "package": "package:package",
        "ls": "ls:ls",
        "inspect": "inspect_model:inspect_model",
        "tag": "tag:tag",
        "rm": "rm:rm",
        "ps": "ps:ps",
        "unload": "unload:unload",
        "configure": "configure:configure",
        "configure show": "configure:show",
        "explain": "explain:explain",
        "demo": "demo:demo",
    },
    "The model store": {
        "df": "df:df",
        "export": "export_models:export_models",
        "import": "import_models:import_models",
        "check": "check:check",
        "prune": "prune:prune",
        "purge": "purge:purge",
    },
    "Registries": {
        "login": "login:login",
        "logout": "login:logout",
    },
    GROUPS_HEADING: {
        "status": "status:status",
        "logs": "logs:logs",
        "install-runner": "install_runner:install_runner",
        "uninstall-runner": "uninstall_runner:uninstall_runner",
        "serve": "serve:serve",
        "start-runner": "serve:start_runner",
        "stop-runner": "stop_runner:stop_runner",
        "restart-runner": "restart_runner:restart_runner",
        "version": "version:version",
    },
}
"""Each command under its heading, in the order in which help lists them: the module in this folder
and the function in it. One that is named is imported alone, which a person notices."""

GROUPS = {"engines": "engines:app", "config": "config:app"}

CLASSES = {"configure": "option_flags:OptionsCommand"}
"""Commands with more to them than their function's parameters."""

ALIASES = {"list": "ls:ls", "stop": "unload:unload"}


def run() -> None:
    """Runs the command line; every expected error is one line and an honest exit status."""
    _open_what_is_closed()
    try:
        _run_and_flush()
    except RunnerError as error:
        sys.exit(fail(with_next_step(error)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _drop(sys.__stdout__)
        _drop(sys.__stderr__)
        sys.exit(CLOSED_PIPE)
    except OSError as error:
        if not error.filename:
            _drop(sys.__stdout__)
        sys.exit(fail(unusable(error)))


def _open_what_is_closed() -> None:
    """A shell may start us with streams closed (`>&-`), which Python then has not."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - until the end
            setattr(sys, name, stream)


def _run_and_flush() -> None:
    """What a reader or a disk refuses shows here, not when the interpreter ends."""
    try:
        program(sys.argv[1:])()
    except SystemExit as ended:
        # Typer has an exit status of its own for a closed pipe.
        if isinstance(ended.__context__, BrokenPipeError):
            raise ended.__context__ from None
        sys.stdout.flush()
        raise


def program(arguments: Sequence[str]) -> TyperGroup:
    """The program with the one command that these arguments name, else with all of them, and then
    with Typer's own options, such as --install-completion."""
    first = arguments[0] if arguments else ""
    one = _app(lambda name: name.partition(" ")[0] == first)
    if one.registered_commands or one.registered_groups:
        return get_group(one)
    whole = get_command(_app(lambda name: True))
    assert isinstance(whole, TyperGroup)
    return whole


def _app(wanted: Callable[[str], bool]) -> typer.Typer:
    # Plain help: rendering it with rich would take longer than the rest of the program.
    app = typer.Typer(
        name="runner",
        help="Runs local AI models: engines in containers, models as OCI artifacts, one endpoint.",
        cls=Sections,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for heading, commands in COMMANDS.items():
        for name in filter(wanted, commands):
            cls = _imported(CLASSES[name]) if name in CLASSES else None
            app.command(name, cls=cls, rich_help_panel=heading)(_imported(commands[name]))
    for name in filter(wanted, ALIASES):
        app.command(name, hidden=True)(_imported(ALIASES[name]))
    for name in filter(wanted, GROUPS):
        app.add_typer(_imported(GROUPS[name]), name=name, rich_help_panel=GROUPS_HEADING)
    return app


def _imported(place: str) -> Any:  # noqa: ANN401 - a function, a class or an application
    module, _, name = place.partition(":")
    return getattr(import_module(f"runner.cli.{module}"), name)


def _drop(stream: TextIO | None) -> None:
    """Nothing more is written, also not what waits in a buffer."""
    if stream:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
