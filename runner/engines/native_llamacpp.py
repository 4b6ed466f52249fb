"""llama.cpp out of the `xllamacpp` wheel, as a program that takes `llama-server`'s arguments.

    python -m runner.engines.native_llamacpp --model FILE --host SOCKET_OR_ADDRESS [--port N] …

It serves `llama-server`'s own HTTP API, and 503 while the model loads. A SIGTERM ends it at once.
Where it can't serve, the last line that it prints says why.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xllamacpp import CommonParams, Server

FAILED = 1
STDERR = 2
LOG_LAG_S = 1.0
"""llama.cpp writes its log in a thread of its own, a little later."""

ERROR_LINE = re.compile(r"^[\d.]+ E (?P<text>\S.*)$", re.M)
"""The first one tells the cause, those after it who passed it on."""
LAST_ERROR = "exiting due to"

POOLING = ("none", "mean", "cls", "last", "rank")
FLASH_ATTENTION = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}


class CannotServe(Exception):
    """What llama.cpp said is why."""


def main(arguments: Sequence[str]) -> int:
    """Serves until it is told to end; returns the exit status."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unknown argument: {unknown[0]}")
    # While the model loads no Python code runs, not even a signal's handler.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with _logged_to_file() as log:
            server = _serve(options, log)
    except (CannotServe, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return FAILED
    told, _teller = _end_signals()
    print(f"ready on {server.listening_address}", file=sys.stderr, flush=True)
    told.recv(1)
    if options.host.endswith(".sock"):
        Path(options.host).unlink(missing_ok=True)
    # Nothing here needs to be torn down in order, and a busy server would take its time for it.
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    """llama-server's names for what the runner sets, and for what people set most."""
    parser = argparse.ArgumentParser(prog="llama.cpp", allow_abbrev=False, add_help=False)
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--alias", "-a", default="")
    parser.add_argument("--ctx-size", "-c", type=int, default=0)
    parser.add_argument("--parallel", "-np", type=int, default=-1)
    parser.add_argument("--threads", "-t", type=int, default=-1)
    parser.add_argument("--batch-size", "-b", type=int, default=2048)
    parser.add_argument("--ubatch-size", "-ub", type=int, default=512)
    parser.add_argument("--n-gpu-layers", "--gpu-layers", "-ngl", type=int, default=-1)
    parser.add_argument("--flash-attn", "-fa", choices=sorted(FLASH_ATTENTION), default="auto")
    parser.add_argument("--jinja", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--webui", "--ui", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--warmup", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--slots", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--chat-template-file")
    parser.add_argument("--embeddings", "--embedding", action="store_true")
    parser.add_argument("--reranking", "--rerank", action="store_true")
    parser.add_argument("--pooling", choices=POOLING)
    return parser


def _serve(options: argparse.Namespace, log: Path) -> Server:
    from xllamacpp import CommonParams, Server

    parameters = CommonParams()
    _apply(options, parameters)
    try:
        return Server(parameters)
    except RuntimeError as error:
        raise CannotServe(_cause(log) or str(error)) from error


def _apply(options: argparse.Namespace, parameters: CommonParams) -> None:
    from xllamacpp import llama_flash_attn_type, llama_pooling_type

    parameters.model.path = options.model
    parameters.hostnames = [options.host]
    parameters.port = options.port
    parameters.model_alias = {name for name in options.alias.split(",") if name}
    parameters.n_ctx = options.ctx_size
    parameters.n_parallel = options.parallel
    parameters.cpuparams.n_threads = options.threads
    parameters.n_batch = options.batch_size
    parameters.n_ubatch = options.ubatch_size
    parameters.n_gpu_layers = options.n_gpu_layers
    flash_attention = FLASH_ATTENTION[options.flash_attn]
    parameters.flash_attn_type = llama_flash_attn_type[f"LLAMA_FLASH_ATTN_TYPE_{flash_attention}"]
    parameters.use_jinja = options.jinja
    parameters.ui = options.webui
    parameters.warmup = options.warmup
    parameters.endpoint_slots = options.slots
    parameters.endpoint_metrics = options.metrics
    if options.chat_template_file:
        parameters.chat_template = Path(options.chat_template_file).read_text(encoding="utf-8")
    parameters.embedding = options.embeddings or options.reranking
    pooling = "rank" if options.reranking else options.pooling
    if pooling:
        parameters.pooling_type = llama_pooling_type[f"LLAMA_POOLING_TYPE_{pooling.upper()}"]


@contextmanager
def _logged_to_file() -> Iterator[Path]:
    """Copies what llama.cpp prints to a file: its exceptions don't tell what its log does.

    A program of its own copies, because no thread of this one runs while a model loads.
    """
    own = os.dup(STDERR)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        with subprocess.Popen(["tee", log], stdin=subprocess.PIPE, stdout=own) as tee:
            assert tee.stdin is not None
            os.dup2(tee.stdin.fileno(), STDERR)
            try:
                yield log
            finally:
                os.dup2(own, STDERR)
                os.close(own)


def _cause(log: Path) -> str:
    """The log's first error; waits until its last one has been written."""
    deadline = time.monotonic() + LOG_LAG_S
    text = ""
    while LAST_ERROR not in text and time.monotonic() < deadline:
        time.sleep(0.01)
        text = log.read_text(encoding="utf-8", errors="replace")
    found = ERROR_LINE.search(text)
    return " ".join(found["text"].split()) if found else ""


def _end_signals() -> tuple[socket.socket, socket.socket]:
    """A signal may arrive in any of llama.cpp's threads: its number comes through the first
    socket, for as long as both are kept."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader, writer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
