"""Stands in for an engine: serves HTTP on a Unix socket or a port, keeps a count in its cache."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/say/"):
            print(self.path.removeprefix("/say/"), flush=True)
        if self.path == "/die":
            print("last words", file=sys.stderr, flush=True)
            os._exit(7)
        facts = {"starts": STARTS, "pid": os.getpid(), "uid": os.getuid(), "env": dict(os.environ)}
        body = json.dumps(facts).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        return


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True


class UnixServer(Server):
    address_family = socket.AF_UNIX


def count_starts() -> int:
    """How often this ran with the same cache folder."""
    counter = Path(os.environ["XDG_CACHE_HOME"]) / "starts"
    starts = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(starts))
    return starts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--child", help="serve there too, in a child process")
    options = parser.parse_args()
    handler = signal.SIG_IGN if options.ignore_sigterm else lambda *_: os._exit(0)
    signal.signal(signal.SIGTERM, handler)
    if options.child:
        subprocess.Popen([sys.executable, __file__, "--host", options.child])
    server: Server
    if options.host.endswith(".sock"):
        server = UnixServer(options.host, Handler)
    else:
        server = Server((options.host, options.port), Handler)
    print("serving", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    STARTS = count_starts()
    main()
