"""`runner uninstall-runner`: stops an engine and removes its images."""

from __future__ import annotations

from runner.cli.options import AsJson, Backend, Gpu


def uninstall_runner(
    backend: Backend = "llama.cpp", gpu: Gpu = "auto", as_json: AsJson = False
) -> None:
    """Stop an engine and remove its images; models stay."""
    from runner.cli.background import running_client
    from runner.cli.output import show_json

    body = {"backend": backend, "gpu": gpu}
    gone = running_client().post("/engines/uninstall-backend", body)["uninstalled"]
    if as_json:
        show_json(gone)
        return
    for install in gone:
        print(f"uninstalled {install['backend']}/{install['variant']} {install['version']}")
