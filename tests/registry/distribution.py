"""CNCF Distribution as Debian packages it, run as a program on a free port."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.tools import tool

_CONFIG = """version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/storage}}}}
http: {{addr: "127.0.0.1:{port}"}}
{auth}
"""
_AUTH = "auth: {{htpasswd: {{realm: here, path: {file}}}}}"


@contextmanager
def distribution(folder: Path, htpasswd: str = "") -> Iterator[str]:
    """The address of a registry, which asks for a login where lines of htpasswd are given."""
    port, auth = free_port(), ""
    if htpasswd:
        accounts = folder / "htpasswd"
        accounts.write_text(htpasswd)
        auth = _AUTH.format(file=accounts)
    config = folder / "registry.yml"
    config.write_text(_CONFIG.format(folder=folder, port=port, auth=auth))
    command = [tool("docker-registry"), "serve", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    listening = threading.Event()
    reader = threading.Thread(target=_read, args=(process, listening))
    reader.start()
    try:
        assert listening.wait(30), "docker-registry does not listen"
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(30)
        reader.join()


def _read(process: subprocess.Popen[str], listening: threading.Event) -> None:
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            if "listening on" in line:
                listening.set()
