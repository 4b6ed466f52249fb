"""How long `runner explain` takes with 30 variants: `python -m benchmarks.explain`

The whole command, beside `python -c "import typer"` (what any command line of this kind takes at
the least) in the same run. The daemon runs; the model is the demo model; engines of the user's own
fill the catalog up. Writes benchmarks/results/explain.md.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._machine import kernel
from benchmarks._model_parts import RUNNER, free_port, in_turns, run, runner

ROUNDS = 21
VARIANTS = 30
WANTED_MS = 400
RESULTS = Path(__file__).parent / "results" / "explain.md"
MODEL = "bench/demo:1"
ENGINE = """schema: 1
name: {name}
title: {name}
summary: An engine that stands in a list
licence: MIT
source: https://example.org/
formats: [gguf]
modes: [completion]
health_path: /health
priority: 1
command: [--model, "{{model_file}}", --host, "{{socket}}"]
variants:
"""
VARIANT = """  - name: v{number}
    accelerator: cpu
    version: "1"
    form: image
    platforms: [linux/amd64]
    image: example.org/none:{number}
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="explain-", dir="/tmp") as name:
        home = Path(name)
        os.environ["RUNNER_HOME"] = str(home)
        os.environ["RUNNER_PORT"] = str(free_port())
        _fill(home)
        runner("start-runner")
        try:
            report = _measured()
        finally:
            runner("stop-runner")
    print(report)
    RESULTS.write_text(report)


def _fill(home: Path) -> None:
    from runner.demo import gguf_path
    from runner.engines.catalog import descriptions

    runner("package", "--gguf", gguf_path(), MODEL)
    shipped = sum(len(about.variants) for about in descriptions()) + 1  # and the wheel
    folder = home / "engines.d" / "filler"
    folder.mkdir(parents=True)
    rows = "".join(VARIANT.format(number=number) for number in range(VARIANTS - shipped))
    (folder / "engine.yaml").write_text(ENGINE.format(name="filler") + rows)


def _measured() -> str:
    found = json.loads(runner("explain", "--json", MODEL))
    variants = len(found["variants"])
    if variants < VARIANTS:
        raise SystemExit(f"only {variants} variants were explained")
    pair = in_turns(
        lambda _: _seconds(*RUNNER, "explain", MODEL),
        lambda _: _seconds(sys.executable, "-c", "import typer"),
        ROUNDS,
    )
    ours = [1000 * taken for taken in pair.ours]
    least = [1000 * taken for taken in pair.peer]
    return f"""# The speed of `runner explain`

`python -m benchmarks.explain`: {ROUNDS} alternating pairs of whole commands, {variants} variants. \
{os.cpu_count()} cores, {kernel()}, Python {platform.python_version()}.

| what | ms (lowest to highest) |
| --- | ---: |
| `runner explain`, piped | {statistics.median(ours):.0f} ({min(ours):.0f} to {max(ours):.0f}; \
wanted: ≤ {WANTED_MS}) |
| `python -c "import typer"` | {statistics.median(least):.0f} ({min(least):.0f} to \
{max(least):.0f}) |

Ratio: {pair.ratio:.1f}.
"""


def _seconds(*command: str) -> float:
    began = time.perf_counter()
    run(*command)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
