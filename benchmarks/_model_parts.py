"""What the model benchmark stands on: big files, a registry of its own, commands timed in turns."""

from __future__ import annotations

import os
import random
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
SETTLED = 90.0
"""Seconds before transfers are measured. Disks of virtual machines write some tens of GiB at once
and then wait for their allowance to come back: without a rest, all would be as fast as that."""
RUNNER = (sys.executable, "-m", "runner")
_SLOWING = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"})
"""Under the first, every command compiles what has changed since anybody's last run."""
REGISTRY_CONFIG = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass(frozen=True)
class Pair:
    """Seconds of ours and of the peer, measured in turns."""

    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.peer)


def in_turns(
    ours: Callable[[int], float], peer: Callable[[int], float], rounds: int, rest: float = 0.0
) -> Pair:
    """Whoever goes first in one round goes second in the next. `rest` is seconds before the first.

    There is none between them, and a round that is not counted comes first: a virtual machine
    gives memory that was freed some seconds ago back to its host, and to fetch it again takes the
    kernel as long as all that it does for a transfer.
    """
    time.sleep(rest)
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        first = number % 2
        for which in (first, 1 - first):
            times[which].append((ours, peer)[which](number))
    return Pair(tuple(times[0][1:]), tuple(times[1][1:]))


def timed(*command: str | Path, cwd: Path | None = None) -> float:
    """Seconds of a whole command, until what it wrote is on the disk."""
    os.sync()
    taken = spent(*command, cwd=cwd)
    began = time.perf_counter()
    os.sync()
    return taken + time.perf_counter() - began


def spent(*command: str | Path, cwd: Path | None = None) -> float:
    """Seconds of a whole command."""
    began = time.perf_counter()
    run(*command, cwd=cwd)
    return time.perf_counter() - began


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={name: value for name, value in os.environ.items() if name not in _SLOWING},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


def runner(*arguments: str | Path) -> str:
    return run(*RUNNER, *arguments)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Debian's docker-registry on a port of its own; its address."""
    port = free_port()
    config = folder / "registry.yml"
    config.write_text(REGISTRY_CONFIG.format(folder=folder / "registry", port=port))
    server = subprocess.Popen(
        ["docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/v2/")
        yield f"localhost:{port}"
    finally:
        server.terminate()
        server.wait(10)


def write_gguf(path: Path, size: int, seed: int, tokens: int = 100) -> None:
    """A GGUF file of this many bytes, with a vocabulary and as many merges."""
    import gguf
    import numpy

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(8192)
    writer.add_embedding_length(4096)
    writer.add_head_count(32)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token {number}" for number in range(tokens)])
    writer.add_token_merges([f"tok en{number}" for number in range(tokens)])
    rows = (size - 32 * MIB) // (4096 * 2)
    writer.add_tensor_info(
        "blk.0.ffn_up.weight",
        (rows, 4096),
        numpy.dtype("float16"),
        rows * 8192,
        gguf.GGMLQuantizationType.F16,
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    _fill(path, size, seed)


def peak_memory(pid: int) -> int:
    """The most MiB that a process has had in memory at once."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise SystemExit(f"no peak memory is known of process {pid}")


def seconds(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


def _fill(path: Path, size: int, seed: int) -> None:
    block = random.Random(seed).randbytes(MIB)
    with path.open("ab") as file:
        number = 0
        while (missing := size - file.tell()) > 0:
            file.write((number.to_bytes(8, "little") + block[8:])[:missing])
            number += 1


def _wait_for(url: str) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{url} does not answer")
