"""The command line: one file per command, each imported light; the heavy parts come late."""

from __future__ import annotations

import sys

import typer

from runner.cli import (
    config,
    demo,
    install_runner,
    logs,
    ls,
    package,
    ps,
    pull,
    push,
    restart_runner,
    rm,
    run_model,
    serve,
    status,
    stop_runner,
    uninstall_runner,
    unload,
    version,
)
from runner.cli.output import fail
from runner.errors import RunnerError, Unavailable

INTERRUPTED = 130

# Plain help: rendering it with rich would take longer than the rest of the program.
app = typer.Typer(
    name="runner",
    help="Runs local AI models: engines in containers, models as OCI artifacts, one endpoint.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("install-runner")(install_runner.install_runner)
app.command("uninstall-runner")(uninstall_runner.uninstall_runner)
app.command("demo")(demo.demo)
app.command("package")(package.package)
app.command("pull")(pull.pull)
app.command("push")(push.push)
app.command("ls")(ls.ls)
app.command("list", hidden=True)(ls.ls)
app.command("rm")(rm.rm)
app.command("run")(run_model.run_model)
app.command("ps")(ps.ps)
app.command("unload")(unload.unload)
app.command("stop", hidden=True)(unload.unload)
app.command("status")(status.status)
app.command("logs")(logs.logs)
app.command("serve")(serve.serve)
app.command("start-runner")(serve.start_runner)
app.command("stop-runner")(stop_runner.stop_runner)
app.command("restart-runner")(restart_runner.restart_runner)
app.add_typer(config.app, name="config")
app.command("version")(version.version)


def run() -> None:
    """Runs the command line; every expected error is one line and an honest exit status."""
    try:
        app()
    except RunnerError as error:
        sys.exit(fail(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        sys.exit(fail(_unusable(error)))


def _unusable(error: OSError) -> RunnerError:
    """A folder or a disk that can't be used, wherever it was met."""
    what = error.filename or "the output"
    return Unavailable(
        f"can't use {what}: {error.strerror}",
        hint="set RUNNER_HOME to a folder that you may use, or free some space",
    )
