"""How quickly models move, beside oras on the same registry and disk: `python -m benchmarks.models`

Whole commands in alternating pairs, the disk synced before each and counted after it; a fresh
repository for every push, nothing of the model in the store before every pull. Needs `oras` and
`docker-registry`, 12 GiB of disk and a quarter of an hour, part of it rests for the disk.
Writes benchmarks/results/models.md.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks._machine import kernel
from benchmarks._model_parts import (
    MIB,
    RUNNER,
    SETTLED,
    Pair,
    free_port,
    in_turns,
    peak_memory,
    registry,
    run,
    runner,
    seconds,
    spent,
    timed,
    write_gguf,
)

ROUNDS = 7
BIG = 2048 * MIB
SHARD = 256 * MIB
SHARDS = 8
TOKENS = 150_000
MODELS = 10_000
LS_ROUNDS = 25
RESULTS = Path(__file__).parent / "results" / "models.md"
GGUF_TYPE = "application/vnd.docker.ai.gguf.v3"


@dataclass(frozen=True)
class Figure:
    """One line of the report; `wanted` bounds the ratio."""

    what: str
    pair: Pair
    wanted: float


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="models-", dir="/tmp") as name:
        folder = Path(name)
        with registry(folder) as address, _daemon(folder) as pid:
            _make_files(folder)
            _seed(folder, address)
            figures = [
                Figure("pull eight of 256 MiB", _pull(folder, address, "shards"), 0.85),
                Figure("pull one blob of 2 GiB", _pull(folder, address, "big"), 1.05),
                Figure("push one blob of 2 GiB", _push(folder, address), 1.05),
            ]
            memory = peak_memory(pid)
        figures.append(Figure("`package --link` 2 GiB, 150,000 tokens", _package(folder), 1.15))
        package_memory = _package_memory(folder)
        listing = _list(folder)
    report = _report(figures, memory, package_memory, listing)
    print(report)
    RESULTS.write_text(report)


@contextmanager
def _daemon(folder: Path) -> Iterator[int]:
    os.environ["RUNNER_HOME"] = str(folder / "home")
    os.environ["RUNNER_PORT"] = str(free_port())
    runner("start-runner")
    try:
        yield int((folder / "home" / "daemon.lock").read_text().split()[0])
    finally:
        runner("stop-runner")


def _make_files(folder: Path) -> None:
    (folder / "big").mkdir()
    write_gguf(folder / "big" / "model.gguf", BIG, 1, TOKENS)
    (folder / "shards").mkdir()
    for number in range(SHARDS):
        write_gguf(folder / "shards" / f"part{number}.gguf", SHARD, 10 + number)


def _seed(folder: Path, address: str) -> None:
    """Puts both models into the registry: one packaged by us, the other by oras."""
    runner("package", "--gguf", folder / "big" / "model.gguf", "--push", f"{address}/big:1")
    runner("rm", f"{address}/big:1")
    _oras_push(folder / "shards", f"{address}/shards:1", with_config=True)


def _pull(folder: Path, address: str, name: str) -> Pair:
    reference = f"{address}/{name}:1"

    def ours(_: int) -> float:
        taken = timed(*RUNNER, "pull", reference)
        runner("rm", reference)
        return taken

    def peer(_: int) -> float:
        target = folder / "pulled"
        taken = timed("oras", "pull", "--plain-http", "-o", target, f"{address}/{name}-oras:1")
        shutil.rmtree(target)
        return taken

    _oras_push(folder / name, f"{address}/{name}-oras:1")
    return in_turns(ours, peer, ROUNDS, SETTLED)


def _push(folder: Path, address: str) -> Pair:
    """Ours has one name at a time: else it would have the registry mount what it knows."""
    name = "localhost/big:0"
    runner("package", "--gguf", folder / "big" / "model.gguf", name)

    def ours(number: int) -> float:
        nonlocal name
        fresh = f"{address}/ours-{number}:1"
        runner("tag", name, fresh)
        runner("rm", name)
        name = fresh
        return timed(*RUNNER, "push", fresh)

    def peer(number: int) -> float:
        os.sync()
        began = time.perf_counter()
        _oras_push(folder / "big", f"{address}/theirs-{number}:1")
        os.sync()
        return time.perf_counter() - began

    try:
        return in_turns(ours, peer, ROUNDS, SETTLED)
    finally:
        runner("rm", name)


def _package(folder: Path) -> Pair:
    file = folder / "big" / "model.gguf"
    hashing = "import hashlib, sys; hashlib.file_digest(open(sys.argv[1], 'rb'), 'sha256')"

    def ours(number: int) -> float:
        shutil.rmtree(folder / "home" / "models", ignore_errors=True)
        return timed(*RUNNER, "package", "--link", "--gguf", file, f"myorg/linked:{number}")

    return in_turns(ours, lambda _: timed(sys.executable, "-c", hashing, file), ROUNDS)


def _package_memory(folder: Path) -> int:
    """MiB at the most, for a copy into the store."""
    file = folder / "big" / "model.gguf"
    command = [*RUNNER, "package", "--gguf", str(file), "myorg/copied"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss // 1024


def _list(folder: Path) -> Pair:
    """Milliseconds of `runner ls` over many models, piped, and of Python's own start."""
    from runner.artifacts.artifact import ModelConfig
    from runner.artifacts.media import ModelFormat
    from runner.store.index import Index
    from runner.store.lock import StoreLock
    from runner.store.stored import StoredModel

    config = ModelConfig(ModelFormat.GGUF, "Q4_K_M", "8.03B", "llama", "4.58GiB", 131072)
    entries = []
    for number in range(MODELS):
        digests = [hashlib.sha256(f"{number} {n}".encode()).hexdigest() for n in range(3)]
        first, *files = [f"sha256:{digest}" for digest in digests]
        tag = f"docker.io/ai/model-{number}:latest"
        entries.append(
            StoredModel(first, (tag,), tuple(files), 1_700_000_000, 4_920_000_000, config)
        )
    root = folder / "home" / "models"
    shutil.rmtree(root, ignore_errors=True)
    lock = StoreLock(root)
    index = Index(root, lock)
    with lock.held():
        index.write(entries)
    assert runner("ls").count("\n") == MODELS + 1
    return in_turns(
        lambda _: spent(*RUNNER, "ls") * 1000,
        lambda _: spent(sys.executable, "-c", "pass") * 1000,
        LS_ROUNDS,
    )


def _oras_push(folder: Path, reference: str, *, with_config: bool = False) -> None:
    files = sorted(file.name for file in folder.glob("*.gguf"))
    command = ["oras", "push", "--plain-http", reference]
    if with_config:
        config = folder / "config.json"
        config.write_text('{"config":{"format":"gguf"},"descriptor":{},"rootfs":{}}')
        command += ["--config", f"{config.name}:application/vnd.docker.ai.model.config.v0.1+json"]
    run(*command, *(f"{file}:{GGUF_TYPE}" for file in files), cwd=folder)


def _report(figures: list[Figure], memory: int, package_memory: int, listing: Pair) -> str:
    lines = [
        "# The speed of models",
        "",
        f"`python -m benchmarks.models`: medians of {ROUNDS} alternating pairs of whole commands, "
        f"sync counted. {os.cpu_count()} cores, {platform.system()} {kernel()}, "
        f"Python {platform.python_version()}, {_version('oras')}, Debian's docker-registry.",
        "",
        "| what | ours, s (lowest to highest) | peer, s | ours / peer | wanted |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [_row(figure) for figure in figures]
    lines += [
        "",
        "The peer is `oras pull` and `oras push` as they come; for packaging it is hashing the "
        "file once, with hashlib in a Python of its own. Our daemon runs already, as it does for "
        "users; a first pair of each is not counted.",
        "",
        f"- Peak memory: the daemon {memory} MiB after all of these pulls and pushes, "
        f"`runner package` of the 2 GiB file {package_memory} MiB (wanted: under 150).",
        f"- `runner ls` of {MODELS:,} models, piped: {statistics.median(listing.ours):.0f} ms "
        f"({min(listing.ours):.0f} to {max(listing.ours):.0f}; wanted: ≤ 300); "
        f"{statistics.median(listing.peer):.0f} ms of them are Python's own start.",
    ]
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> str:
    pair = figure.pair
    return (
        f"| {figure.what} | {seconds(pair.ours)} | {seconds(pair.peer)} "
        f"| {pair.ratio:.2f} | ≤ {figure.wanted} |"
    )


def _version(program: str) -> str:
    return f"{program} {run(program, 'version').split()[1]}"


if __name__ == "__main__":
    main()
