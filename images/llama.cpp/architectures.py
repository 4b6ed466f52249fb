"""Prints the names of the architectures that the pinned llama.cpp knows, from its own source.

    python3 -m pip download --no-deps --no-binary :all: llama-cpp-python==VERSION
    python3 images/llama.cpp/architectures.py llama_cpp_python-VERSION.tar.gz \\
        > images/llama.cpp/architectures.txt

VERSION is cpu/Dockerfile's SDIST_VERSION; an archive that is not the pinned one is refused.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

DOCKERFILE = Path(__file__).parent / "cpu" / "Dockerfile"
SOURCE = "vendor/llama.cpp/src/llama-arch.cpp"

TABLE = re.compile(r"LLM_ARCH_NAMES = \{\n(?P<rows>.*?)\n\};", re.S)
ROW = re.compile(r'\{\s*LLM_ARCH_\w+,\s*"(?P<name>[^"]+)"\s*\}')

NOT_SERVED = frozenset({"clip", "(unknown)"})
"""A picture encoder that only goes along with another model, and the mark of what is not known."""


def main(archive: Path) -> None:
    pinned = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE.read_text("utf-8"), re.M))
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != pinned["SDIST_SHA256"]:
        sys.exit(f"{archive} has the sha256 {found}, not the pinned {pinned['SDIST_SHA256']}")
    top = f"llama_cpp_python-{pinned['SDIST_VERSION']}"
    with tarfile.open(archive) as opened:
        member = opened.extractfile(f"{top}/{SOURCE}")
        if member is None:
            sys.exit(f"{archive} has no {SOURCE}")
        source = member.read().decode()
    print(f"# llama.cpp {pinned['VERSION']}: general.architecture, as src/llama-arch.cpp has it.")
    print("# Made by architectures.py.")
    print("\n".join(sorted(set(names(source)) - NOT_SERVED)))


def names(source: str) -> Iterator[str]:
    table = TABLE.search(source)
    if table is None:
        sys.exit(f"{SOURCE} has no table of names")
    return (row["name"] for row in ROW.finditer(table["rows"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
