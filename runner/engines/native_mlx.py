"""MLX LM's own server as a program: on a Unix socket or a port, for one model, by its names.

    python -I native_mlx.py --model FOLDER --uds SOCKET --served-model-name NAME... [its own flags]

Run by the Python of MLX LM's environment, where nothing of the runner can be imported. Nothing is
answered before the model is loaded. A SIGTERM ends it at once. Where it can't serve, the last line
that it prints says why.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, BinaryIO, TypeAlias

from mlx_lm import server
from mlx_lm.models.cache import LRUPromptCache

Theirs: TypeAlias = Any  # what MLX LM takes and gives

FAILED = 1
NOT_FOUND, BAD_REQUEST, UNAVAILABLE = 404, 400, 503
MODEL = "default_model"
"""What MLX LM calls the model that it was started with."""


class OneModel(server.ModelProvider):
    """Never another model, adapter or draft than those that it was started with, whatever a
    request names: that would be a path on this machine, or a download."""

    def __init__(self, cli_args: argparse.Namespace) -> None:
        self.settled = threading.Event()
        self.failure: Exception | None = None
        super().__init__(cli_args)

    def load_default(self) -> None:
        try:
            super().load_default()
        except Exception as error:
            self.failure = error
            raise
        finally:
            self.settled.set()

    def load(
        self, model_path: str, adapter_path: str | None = None, draft_model_path: str | None = None
    ) -> Theirs:
        return super().load(MODEL, None, MODEL)


class WithinContext(server.ResponseGenerator):
    """An answer ends where the context does; a prompt that leaves no room for one is refused."""

    context_size = 0

    def _tokenize(self, tokenizer: Theirs, request: Theirs, args: Theirs) -> Theirs:
        tokenized = super()._tokenize(tokenizer, request, args)
        if self.context_size:
            tokens = len(tokenized[0])
            room = self.context_size - tokens
            if room < 1:
                raise ValueError(
                    f"the prompt has {tokens} tokens, more than the context of {self.context_size}"
                )
            args.max_tokens = min(args.max_tokens, room)
        return tokenized


class Chunks:
    """A body in HTTP's chunks: one that was cut off can be told from one that ended."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        if data:
            self._file.write(b"%x\r\n%b\r\n" % (len(data), data))

    def flush(self) -> None:
        self._file.flush()

    def end(self) -> None:
        self._file.write(b"0\r\n\r\n")


class Handler(server.APIHandler):
    """MLX LM's own, for the names that it was given."""

    protocol_version = "HTTP/1.1"
    names: tuple[str, ...] = ()
    requested_model: str
    wfile: BinaryIO | Chunks
    _is_stream = False

    def validate_model_parameters(self) -> None:
        """Raises ValueError, which is answered with 400."""
        super().validate_model_parameters()
        if self.requested_model not in (*self.names, MODEL):
            raise ValueError(f"there is no model {self.requested_model!r}, but {self.names[0]!r}")
        if self.adapter is not None or self.requested_draft_model != MODEL:
            raise ValueError("`adapters` and `draft_model` are chosen when the model is started")
        messages = self.body.get("messages")
        if isinstance(messages, list) and any(_is_remote(part) for part in _images(messages)):
            raise ValueError("images are read from data URLs alone")
        self.requested_model = self.names[0]

    def do_POST(self) -> None:  # noqa: N802 - the base class's name
        plain = self.wfile
        try:
            super().do_POST()
            if isinstance(self.wfile, Chunks):
                self.wfile.end()
        finally:
            self.wfile = plain

    def end_headers(self) -> None:
        self.send_header("Connection", "close")
        super().end_headers()
        if self._is_stream and not isinstance(self.wfile, Chunks):
            self.wfile = Chunks(self.wfile)

    def handle_models_request(self) -> None:
        models = [{"id": n, "object": "model", "created": self.created} for n in self.names]
        self._set_completion_headers()
        self.end_headers()
        self.wfile.write(json.dumps({"object": "list", "data": models}).encode())

    def _set_stream_headers(self, status_code: int = 200) -> None:
        super()._set_stream_headers(status_code)
        self.send_header("Transfer-Encoding", "chunked")
        self._is_stream = True

    def _set_completion_headers(self, status_code: int = 200) -> None:
        """MLX LM calls every failure to generate a missing page."""
        if status_code == NOT_FOUND and hasattr(self, "body"):
            status_code = BAD_REQUEST if self.response_generator.is_healthy else UNAVAILABLE
        super()._set_completion_headers(status_code)


class UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        """Not HTTPServer's, which asks for a host's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "engine", 0

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, _ = super().get_request()
        return connection, ("engine", 0)


def main(arguments: Sequence[str]) -> int:
    """Serves until it is told to end; returns the exit status."""
    parser = _parser()
    own, others = parser.parse_known_args(arguments)
    if own.help:
        parser.print_help()
        print(flush=True)
        others = ["--help"]
    elif own.model is None:
        parser.error("the following arguments are required: --model")

    def run(host: str, port: int, provider: OneModel) -> None:
        sys.exit(serve(own, host, port, provider))

    server.run, server.ModelProvider = run, OneModel
    sys.argv = ["mlx_lm.server", *_passed_on(own), *others]
    try:
        server.main()
    except (OSError, ValueError) as error:
        return failed(error)
    return 0


def serve(own: argparse.Namespace, host: str, port: int, provider: OneModel) -> int:
    """Binds first, so that an address in use is told at once; listens once the model is loaded."""
    Handler.names = tuple(own.served_model_name or [own.model])
    WithinContext.context_size = own.context_size
    address = own.uds or (host, port)
    listener = (UnixServer if own.uds else ThreadingHTTPServer)(address, Handler, False)
    listener.server_bind()
    generator = WithinContext(provider, LRUPromptCache(provider.cli_args.prompt_cache_size))
    listener.RequestHandlerClass = lambda *request: Handler(generator, *request)
    provider.settled.wait()
    if provider.failure is not None:
        generator.join()
        end(own.uds, failed(provider.failure))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end(own.uds, 0))
    threading.Thread(target=_end_with, args=(generator, own.uds), daemon=True).start()
    listener.server_activate()
    print(f"ready on {own.uds or f'http://{host}:{port}'}", file=sys.stderr, flush=True)
    listener.serve_forever()
    return 0


def failed(error: Exception) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"error: {text}", file=sys.stderr, flush=True)
    return FAILED


def end(uds: str, status: int) -> None:
    """A generating thread would go on to its end: nothing here needs to be torn down in order."""
    if uds:
        Path(uds).unlink(missing_ok=True)
    os._exit(status)


def _end_with(generator: WithinContext, uds: str) -> None:
    """Without the thread that generates every request would fail: better to be started anew."""
    generator.join()
    end(uds, failed(RuntimeError("the thread that generates has died, see above")))


def _parser() -> argparse.ArgumentParser:
    """What MLX LM's own server has no flag for, or what is needed here before it reads its own."""
    parser = argparse.ArgumentParser(
        prog="native_mlx.py", allow_abbrev=False, add_help=False, description="Serves one model."
    )
    parser.add_argument("--model", help="the model's folder")
    parser.add_argument("--help", "-h", action="store_true", help="show this, and MLX LM's own")
    parser.add_argument("--uds", default="", help="listen on this Unix socket")
    parser.add_argument(
        "--served-model-name", nargs="+", help="names it answers to; the first one is reported"
    )
    parser.add_argument(
        "--context-size", type=int, default=0, help="most tokens of a prompt and its answer"
    )
    parser.add_argument(
        "--chat-template-file", type=Path, help="a Jinja file in the model's own's place"
    )
    return parser


def _passed_on(own: argparse.Namespace) -> list[str]:
    passed = ["--model", own.model] if own.model else []
    if own.chat_template_file:
        passed.append(f"--chat-template={own.chat_template_file.read_text(encoding='utf-8')}")
    return passed


def _images(messages: list[Theirs]) -> list[Theirs]:
    return list(server._image_parts([one for one in messages if isinstance(one, dict)]))


def _is_remote(part: Theirs) -> bool:
    return not str(server._image_url(part)).startswith("data:")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
