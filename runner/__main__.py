"""`python -m runner`, and the `runner` script."""

from __future__ import annotations

import gc

COLLECT_AFTER = 100_000
"""Objects that came and stayed. Python's own 700 would have it look through ten thousand models
again and again while they are read."""


def main() -> None:
    gc.set_threshold(COLLECT_AFTER, 10, 10)
    from runner.cli.app import run

    try:
        run()
    finally:
        gc.freeze()  # else Python looks through all of them twice more while it ends


if __name__ == "__main__":
    main()
