"""A real llama.cpp in a process of its own, for as long as standard input stays open.

Run as a script: python llama_server.py MODEL. Prints its address once it is ready.
"""

from __future__ import annotations

import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_START_SECONDS = 60
_ANSWER_SECONDS = 60


@contextmanager
def served(model: Path) -> Iterator[httpx.Client]:
    """A client of an engine that serves `model` on a free loopback port; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, __file__, model],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        with httpx.Client(
            base_url=_address(process),
            timeout=_ANSWER_SECONDS,
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as client:
            yield client
    finally:
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(_START_SECONDS), "the engine did not start in time"
    address = process.stdout.readline().strip()
    assert address, "the engine died while loading"
    return address


def _serve(model: str) -> None:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx = 2048
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve(sys.argv[1])
