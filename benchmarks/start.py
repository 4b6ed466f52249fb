"""How quickly an engine's container starts, beside `docker run`: `python -m benchmarks.start`

From the start of the container to the first line of the engine's own log, with the same image and
the same options on both sides, in alternating pairs on the same Docker Engine. Without arguments
the engine is the small stand-in that launcher tests use; `--image IMAGE -- ARGUMENTS` measures
another one, which sees the demo model at /model. Writes benchmarks/results/start.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import runner.demo
from benchmarks._machine import kernel
from benchmarks._model_parts import Pair, in_turns
from runner.dockerhost import DockerHost
from runner.engines.base import Command, Mode
from runner.launch.base import Folders, Identity, InstanceSpec
from runner.launch.container import IMAGE_USER, CreateArguments, create_arguments
from runner.launch.docker import DockerLauncher
from runner.launch.rendered import docker_run

ROUNDS = 40
WANTED = 1.1
MEMORY = 1 << 30
RESULTS = Path(__file__).parent / "results" / "start.md"
STAND_IN = ("/probe/serve.py", "--host", "/run/engine/engine.sock")


@dataclass(frozen=True)
class Bench:
    """What both sides start."""

    image: str
    arguments: tuple[str, ...]
    folder: Path
    host: DockerHost
    home_id: str

    def spec(self) -> InstanceSpec:
        instance = uuid.uuid4().hex[:12]
        run = self.folder / instance
        return InstanceSpec(
            identity=Identity(
                instance=instance,
                engine="stand-in",
                variant="cpu",
                version="1",
                model="sha256:" + "0" * 64,
                reference="localhost/demo:1",
                mode=Mode.COMPLETION,
                configuration="0",
                context_size=1024,
            ),
            program=(self.image,),
            command=Command(self.arguments),
            folders=Folders(Path(runner.demo.__path__[0]), run, self.folder / "cache"),
            memory_bytes=MEMORY,
        )


def main() -> None:
    options = _options()
    host = DockerHost()
    with tempfile.TemporaryDirectory(prefix="start-", dir="/tmp") as name:
        bench = Bench(
            options.image or _stand_in(),
            tuple(options.arguments) or STAND_IN,
            Path(name),
            host,
            uuid.uuid4().hex[:12],
        )
        pair = _measure(bench)
    report = _report(options.image or "the stand-in of the launcher's tests", host, pair)
    host.close()
    print(report)
    RESULTS.write_text(report)
    if pair.ratio > WANTED:
        raise SystemExit(f"the ratio is {pair.ratio:.2f}, wanted is {WANTED} at the most")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.start")
    parser.add_argument("--image")
    parser.add_argument("arguments", nargs="*")
    return parser.parse_args()


def _stand_in() -> str:
    from tests.launch.images import probe_image
    from tests.support.images import base_image

    return probe_image(base_image())


def _measure(bench: Bench) -> Pair:
    launcher = DockerLauncher(bench.host, bench.home_id, publish_ports=False)
    ours, by_hand = partial(_ours, launcher, bench), partial(_by_hand, launcher, bench)
    for way in (ours, by_hand):
        way(0)  # what Docker and the page cache have to learn once
    return in_turns(ours, by_hand, ROUNDS)


def _ours(launcher: DockerLauncher, bench: Bench, _: int) -> float:
    spec = bench.spec()
    began = time.perf_counter()
    launcher.start(spec)
    lines = launcher.follow(spec.identity.instance, tail=1)
    next(lines)
    taken = time.perf_counter() - began
    lines.close()
    launcher.stop(spec.identity.instance, grace_s=0)
    return taken


def _by_hand(launcher: DockerLauncher, bench: Bench, _: int) -> float:
    """The launcher's own stop clears up after it: the container bears the same labels."""
    spec = bench.spec()
    user = os.geteuid() or IMAGE_USER
    arguments = create_arguments(spec, home_id=bench.home_id, user=f"{user}:{user}", network=None)
    for folder in (spec.folders.run, spec.folders.cache):
        folder.mkdir(exist_ok=True)
        os.chown(folder, user, user)
    command = _words(arguments)
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdout is not None
        line = client.stdout.readline()
        taken = time.perf_counter() - began
        launcher.stop(spec.identity.instance, grace_s=0)
    if not line or line.startswith(b"docker:"):
        raise SystemExit(f"docker run failed: {line.decode()}")
    return taken


def _words(made: CreateArguments) -> list[str]:
    """What the runner itself tells people to type, with what only a daemon is interested in."""
    docker, run, *words = docker_run(made)
    words.remove("--rm")
    own = ["--name", made["name"], "--stop-signal", made["stop_signal"]]
    own += [f"--label={name}={value}" for name, value in made["labels"].items()]
    own += [f"--log-driver={made['log_config']['Type']}"]
    own += [f"--log-opt={name}={value}" for name, value in made["log_config"]["Config"].items()]
    return [docker, run, *own, *words]


def _report(image: str, host: DockerHost, pair: Pair) -> str:
    lines = [
        "# The start of containers",
        "",
        f"`python -m benchmarks.start`: {ROUNDS} alternating pairs, milliseconds from the start of "
        f"the container to the first line of the engine's own log. Image: {image}. "
        f"{os.cpu_count()} cores, {platform.system()} {kernel()}, "
        f"Python {platform.python_version()}, Docker {host.facts().version}; load average "
        f"{os.getloadavg()[0]:.1f}.",
        "",
        "| way | median ms | lowest | highest |",
        "| --- | ---: | ---: | ---: |",
        _row("the runner's launcher", pair.ours),
        _row("`docker run` with the same options", pair.peer),
        "",
        f"Ratio of the medians: **{pair.ratio:.2f}** (wanted: ≤ {WANTED}).",
    ]
    return "\n".join(lines) + "\n"


def _row(way: str, times: tuple[float, ...]) -> str:
    figures = (statistics.median(times), min(times), max(times))
    return f"| {way} | " + " | ".join(f"{figure * 1000:.0f}" for figure in figures) + " |"


if __name__ == "__main__":
    main()
