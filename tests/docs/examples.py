"""A page's examples: its files and its commands, word for word."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.images import ROOT
from tests.support.program import succeed

_FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.M | re.S)
_COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Section:
    """One `## ` section of a page of docs/."""

    text: str

    def write_files(self, folder: Path) -> None:
        for name, content in _FILE.findall(self.text):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)

    def commands(self) -> Iterator[list[str]]:
        """Arguments, command by command; a line's quotes may go on in the next one."""
        for block in _COMMANDS.findall(self.text):
            pending = ""
            for line in block.splitlines():
                pending = f"{pending}\n{line}" if pending else line
                try:
                    words = shlex.split(pending, comments=True)
                except ValueError:  # a quote is still open
                    continue
                pending = ""
                if words:
                    yield words
            assert not pending, f"a quote is never closed: {pending}"


def section(page: str, title: str) -> Section:
    text = (ROOT / "docs" / page).read_text()
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return Section(found)


def run_all(shown: Section, port: str, pip: Sequence[str] = ()) -> dict[str, str]:
    """Runs a section's commands; what they print, by program and first word (`runner engines`).
    `pip` is where pip shall install to."""
    said: dict[str, str] = {}
    for program, *arguments in shown.commands():
        if program == "runner":
            said[f"runner {arguments[0]}"] = succeed(*arguments, stdin="")
        elif program == "pip":
            said["pip"] = _output([sys.executable, "-m", "pip", *arguments, *pip])
        else:
            words = [word.replace("localhost:12434", f"localhost:{port}") for word in arguments]
            said[program] = _output([program, "-sS", *words])
    return said


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}{done.stdout}"
    return done.stdout
