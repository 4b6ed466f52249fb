"""Stands between a client and an engine, and ends streams early without a sign of an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@contextmanager
def cutting(engine: httpx.Client, *, events: int) -> Iterator[httpx.Client]:
    """A client whose streams end cleanly after so many events; counted from the end if negative."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            response = engine.post(self.path, content=body)
            self.send_response(response.status_code)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            kept = response.text.split("\n\n")[:-1][:events]
            self.wfile.write("".join(event + "\n\n" for event in kept).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
                yield client
        finally:
            server.shutdown()
            thread.join()
