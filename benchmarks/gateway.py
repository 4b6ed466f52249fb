"""The gateway beside nginx: requests per second, and CPU for each streamed event.

    python -m benchmarks.gateway [--rounds 5] [--seconds 5]

Each proxy has the first core for itself, the load and the engines the second one. Both are
measured in one run, in turns; medians count. Needs Linux with two cores, wrk, nginx and taskset:
apt-get install --no-install-recommends wrk nginx-light
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benchmarks._machine import kernel

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / "benchmarks" / "_gateway_parts.py"
RESULTS = ROOT / "benchmarks" / "results" / "gateway.md"

PROXY_CORE, OTHER_CORE = "0", "1"
CONNECTIONS = 64
STREAMS, CHUNKS = 256, 200
START_SECONDS = 20.0
SETTLE_SECONDS = 1

REQUEST = (
    '{"model":"json","messages":[{"role":"system","content":"You are a helpful assistant that '
    'answers in one word."},{"role":"user","content":"What is an engine, and which of them can '
    'serve this model here?"}],"stream":false}'
)
ANSWER = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"json","choices":[{"index":'
    '0,"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}],"usage":'
    '{"prompt_tokens":21,"completion_tokens":42,"total_tokens":63}}'
) % ("An engine loads models and answers. " * 6)

TEMPORARY = "".join(
    f"{kind}_temp_path {{folder}}/{kind}; "
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
NGINX = (
    "daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;\n"
    "events {{ worker_connections 4096; }}\n"
    "http {{ access_log off; keepalive_requests 1000000000; " + TEMPORARY + "\n{servers} }}\n"
)
ENGINE = (
    "default_type application/json;\n"
    "server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 '{answer}'; }} }}"
)
PROXY = (
    "upstream engine_{port} {{ server 127.0.0.1:{engine}; keepalive 512;"
    " keepalive_requests 1000000000; }}\n"
    "server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ proxy_pass http://engine_{port};"
    ' proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}\n'
)
LUA = (
    'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [[{body}]]\n'
)


Figures = dict[str, dict[str, list[float]]]
"""What was measured → proxy → one figure for each round."""

RATE = "requests/s"
CPU = "CPU µs per request"
BUSY = "% of its core used meanwhile"
STREAM_CPU = f"CPU s for {STREAMS * CHUNKS:,} streamed events"
EVENT_CPU = "CPU µs per event"


@dataclass(frozen=True)
class Proxy:
    """What is measured: its process, and its ports for plain and for streamed answers."""

    name: str
    pid: int
    plain: int
    streaming: int


def main() -> None:
    options = arguments()
    require("wrk", "nginx", "taskset")
    if (os.cpu_count() or 1) < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    started = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        script = folder / "post.lua"
        script.write_text(LUA.format(body=REQUEST))
        engine, proxies = start_all(stack, folder)
        plain = alternate(
            options.rounds, proxies, lambda proxy: plain_load(proxy, script, options.seconds)
        )
        direct, _ = load(engine, script, options.seconds)
        streamed = alternate(options.rounds, proxies, stream_load)
    report = render(options, {**plain, **streamed}, direct, started)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(report)
    print(report)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of load in each round")
    return parser.parse_args()


def require(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        sys.exit(
            f"not found: {', '.join(missing)}; on Debian: "
            "apt-get install --no-install-recommends wrk nginx-light util-linux"
        )


# Processes


def start_all(stack: ExitStack, folder: Path) -> tuple[int, list[Proxy]]:
    """The port of the engine that answers plainly, and both proxies."""
    engine, stream, nginx_plain, nginx_streaming, ours = free_ports(5)
    stack.enter_context(nginx(folder / "e", ENGINE.format(port=engine, answer=ANSWER), OTHER_CORE))
    stack.enter_context(running(OTHER_CORE, *part("stream", stream)))
    servers = PROXY.format(port=nginx_plain, engine=engine)
    servers += PROXY.format(port=nginx_streaming, engine=stream)
    master = stack.enter_context(nginx(folder / "p", servers, PROXY_CORE))
    gateway = stack.enter_context(running(PROXY_CORE, *part("ours", ours, engine, stream)))
    for port in (engine, stream, nginx_plain, nginx_streaming, ours):
        await_port(port)
    return engine, [
        Proxy("nginx", worker_of(master.pid), nginx_plain, nginx_streaming),
        Proxy("runner", gateway.pid, ours, ours),
    ]


def part(role: str, *numbers: int) -> list[str]:
    return [sys.executable, str(PARTS), role, *(str(number) for number in numbers)]


@contextmanager
def nginx(folder: Path, servers: str, core: str) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(mode=0o755)
    settings = folder / "nginx.conf"
    settings.write_text(NGINX.format(folder=folder, servers=servers))
    with running(core, "nginx", "-e", "stderr", "-c", str(settings)) as process:
        yield process


@contextmanager
def running(core: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        ["taskset", "-c", core, *command], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [int(each.getsockname()[1]) for each in held]


def await_port(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def worker_of(master: int) -> int:
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return int(children[0])


# Measurements


def alternate(
    rounds: int, proxies: list[Proxy], measure: Callable[[Proxy], dict[str, float]]
) -> Figures:
    figures: Figures = {}
    for number in range(rounds):
        for proxy in proxies if number % 2 == 0 else reversed(proxies):
            for what, figure in measure(proxy).items():
                figures.setdefault(what, {}).setdefault(proxy.name, []).append(figure)
                print(f"round {number + 1}: {proxy.name}: {figure:,.1f} {what}", flush=True)
    return figures


def plain_load(proxy: Proxy, script: Path, seconds: int) -> dict[str, float]:
    load(proxy.plain, script, SETTLE_SECONDS)
    before, began = cpu_seconds(proxy.pid), time.monotonic()
    rate, requests = load(proxy.plain, script, seconds)
    spent, took = cpu_seconds(proxy.pid) - before, time.monotonic() - began
    return {RATE: rate, CPU: spent / requests * 1e6, BUSY: spent / took * 100}


def load(port: int, script: Path, seconds: int) -> tuple[float, int]:
    """Requests per second, and how many there were."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "-s", str(script), url]
    said = subprocess.run(pinned(wrk), check=True, capture_output=True, text=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    requests = re.search(r"(\d+) requests in", said)
    if "Non-2xx" in said or "Socket errors" in said or rate is None or requests is None:
        sys.exit(f"requests failed:\n{said}")
    return float(rate.group(1)), int(requests.group(1))


def pinned(command: list[str]) -> list[str]:
    return ["taskset", "-c", OTHER_CORE, *command]


def stream_load(proxy: Proxy) -> dict[str, float]:
    before = cpu_seconds(proxy.pid)
    subprocess.run(pinned(part("listen", proxy.streaming, STREAMS, CHUNKS)), check=True)
    spent = cpu_seconds(proxy.pid) - before
    return {STREAM_CPU: spent, EVENT_CPU: spent / (STREAMS * CHUNKS) * 1e6}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# The report


def render(options: argparse.Namespace, figures: Figures, direct: float, load: float) -> str:
    rows = "\n".join(row(what, by_name) for what, by_name in figures.items())
    return f"""# The gateway beside nginx

    python -m benchmarks.gateway --rounds {options.rounds} --seconds {options.seconds}

Written by `benchmarks/gateway.py` on {datetime.now(UTC):%Y-%m-%d}. Each proxy is pinned to one
core, the load (wrk, {CONNECTIONS} connections) and the engines to another one; both proxies are
measured in turns in one run, and the figures are medians of {options.rounds} rounds (all of them
in brackets). A request is a POST of {len(REQUEST)} bytes, its answer {len(ANSWER)} bytes of JSON;
the gateway reads the body, finds the model in it, checks Host and Origin and picks an engine;
nginx forwards unread, with `proxy_buffering off` and kept connections. Streams: {STREAMS} at once,
{CHUNKS} events each, one every 20 ms. CPU is the proxy's own, user and system. A proxy that
did not fill its core was held up by the load's core or by other programs: there, compare the
CPU per request, not the requests/s.

| | nginx | runner | runner ÷ nginx |
| --- | --- | --- | --- |
{rows}

The engine without a proxy, on the load's own core: {direct:,.0f} requests/s.

Machine: {os.cpu_count()} cores, {processor()}; Linux {kernel()}; {versions()}.
Load average of the machine before the run: {load:.2f}.
"""


def row(what: str, by_name: dict[str, list[float]]) -> str:
    nginx, runner = (statistics.median(by_name[name]) for name in ("nginx", "runner"))
    cells = [shown(by_name[name]) for name in ("nginx", "runner")]
    return f"| {what} | {cells[0]} | {cells[1]} | **{runner / nginx:.2f}** |"


def shown(figures: list[float]) -> str:
    median = statistics.median(figures)
    form = ",.0f" if median > 100 else ".1f" if median > 10 else ".2f"
    each = " ".join(format(figure, form) for figure in figures)
    return f"{median:{form}} ({each})"


def versions() -> str:
    packages = ("uvicorn", "uvloop", "httptools", "msgspec")
    ours = [f"{package} {metadata.version(package)}" for package in packages]
    return ", ".join([f"Python {platform.python_version()}", *ours, nginx_version()])


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def nginx_version() -> str:
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().removeprefix("nginx version: ")


if __name__ == "__main__":
    main()
