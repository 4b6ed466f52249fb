"""`runner login` and `runner logout`: credentials for registries."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runner.cli.options import RegistryHost

_NOW = {
    True: "it answers without a login, or with one that Podman keeps",
    False: "it asks for a login",
    None: "it can't be reached now",
}
_EMPTY = {
    True: 'pipe it: echo "$TOKEN" | runner login REGISTRY -u NAME --password-stdin',
    False: "try again, and type it or paste it; it is not shown",
}


def login(
    registry: RegistryHost = "docker.io",
    username: Annotated[
        str, typer.Option("--username", "-u", metavar="NAME", help="Asked for where not given.")
    ] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password or token from a pipe.")
    ] = False,
) -> None:
    """Log in to a registry.

    The registry is asked first; the login is kept where Docker keeps its own.

    \b
    Examples:
      runner login
      echo "$TOKEN" | runner login registry.example -u anna --password-stdin
    """
    from runner.cli.output import note
    from runner.configuration import load
    from runner.errors import BadInput
    from runner.registry.login import login as log_in
    from runner.registry.reference import parse_registry

    parse_registry(registry)  # before anybody types a password for what is none
    name = username or _asked("Username: ", "-u NAME")
    secret = sys.stdin.readline().rstrip("\r\n") if password_stdin else _secret()
    if not secret:
        raise BadInput("the password or token is empty", hint=_EMPTY[password_stdin])
    log_in(registry, name, secret, load().settings)
    note(f"logged in to {registry} as {name}")


def logout(registry: RegistryHost = "docker.io") -> None:
    """Forget the credentials for a registry, and ask it whether it still lets us in.

    \b
    Example:
      runner logout registry.example
    """
    from runner.cli.output import note
    from runner.configuration import load
    from runner.registry.login import lets_in
    from runner.registry.login import logout as log_out

    done = log_out(registry)
    now = _NOW[lets_in(registry, load().settings)]
    note(f"{'logged out of' if done else 'not logged in to'} {registry}: {now}")


def _asked(question: str, option: str) -> str:
    """A line from the terminal; raises BadInput where there is none."""
    from runner.errors import BadInput

    if not sys.stdin.isatty():
        raise BadInput("nobody is there to be asked", hint=f"give {option} and --password-stdin")
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _secret() -> str:
    """Typed without being shown."""
    from getpass import getpass

    from runner.errors import BadInput

    if not sys.stdin.isatty():
        raise BadInput("nobody is there to type the password", hint="give --password-stdin")
    return getpass("Password or token (not shown): ", sys.stderr)
