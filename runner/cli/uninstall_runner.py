"""`runner uninstall-runner`: stops an engine and removes its images and environments."""

from __future__ import annotations

from runner.cli.options import AsJson, Backend, Gpu, Variant, Version


def uninstall_runner(
    backend: Backend = "llama.cpp",
    gpu: Gpu = "auto",
    variant: Variant = "",
    version: Version = "",
    as_json: AsJson = False,
) -> None:
    """Stop an engine and remove it; models stay.

    \b
    Examples:
      runner uninstall-runner --backend vllm
      runner uninstall-runner --backend llama.cpp:cuda12
    """
    from runner.cli.background import running_client
    from runner.cli.output import show_json

    body = {"backend": backend, "gpu": gpu, "variant": variant, "version": version}
    gone = running_client().post("/engines/uninstall-backend", body)["uninstalled"]
    if as_json:
        show_json(gone)
        return
    for install in gone:
        print(f"uninstalled {install['backend']}/{install['variant']} {install['version']}")
