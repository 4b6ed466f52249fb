"""`python -m runner`, and the `runner` script."""

from __future__ import annotations


def main() -> None:
    from runner.cli.app import run

    run()


if __name__ == "__main__":
    main()
