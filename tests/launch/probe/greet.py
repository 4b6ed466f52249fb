"""A TCP service that greets everybody who connects: python greet.py HOST [PORT]."""

from __future__ import annotations

import socketserver
import sys


class Greeting(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"hello")


class Greeter(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), Greeting)

    @property
    def port(self) -> int:
        port = self.server_address[1]
        assert isinstance(port, int)
        return port


def main() -> None:
    with Greeter(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0) as greeter:
        print(greeter.port, flush=True)
        greeter.serve_forever()


if __name__ == "__main__":
    main()
