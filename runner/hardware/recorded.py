"""A machine kept in a file: every question that was asked of it, with its answer.

`python -m runner.hardware.recorded` prints this machine's, to be sent with a report or kept as a
test. It names the machine's devices by their lasting numbers, and nothing else of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from runner.errors import BadInput
from runner.hardware.probe import HostProbe, Output, Platform, Probe


@dataclass(frozen=True, slots=True)
class RecordedOutput:
    """As `Output`, its text in lines."""

    text: tuple[str, ...]
    status: int | None = 0


@dataclass(frozen=True, slots=True)
class Recording:
    """`commands` by their words as a shell takes them, `files` by path with their text in lines,
    `paths` those that exist beside `files`, `groups` by name, `owners` the groups of paths."""

    platform: Platform
    source: str = ""
    commands: Mapping[str, RecordedOutput] = field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    groups: Mapping[str, int] = field(default_factory=dict)
    owners: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordedProbe:
    """Answers as the machine did; what was never asked of it is not there."""

    recording: Recording

    def platform(self) -> Platform:
        return self.recording.platform

    def run(self, *command: str) -> Output | None:
        told = self.recording.commands.get(shlex.join(command))
        return None if told is None else Output("\n".join(told.text), told.status)

    def read(self, path: str) -> str | None:
        lines = self.recording.files.get(path)
        return None if lines is None else "\n".join(lines)

    def glob(self, pattern: str) -> tuple[str, ...]:
        known = {*self.recording.files, *self.recording.paths}
        return tuple(sorted(path for path in known if PurePosixPath(path).match(pattern)))

    def group(self, name: str) -> int | None:
        return self.recording.groups.get(name)

    def owner(self, path: str) -> int | None:
        return self.recording.owners.get(path)


class Recorder:
    """Passes questions on to another probe and keeps what it answers."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._commands: dict[str, RecordedOutput] = {}
        self._files: dict[str, tuple[str, ...]] = {}
        self._paths: set[str] = set()
        self._groups: dict[str, int] = {}
        self._owners: dict[str, int] = {}

    def recording(self, source: str = "") -> Recording:
        return Recording(
            platform=self._probe.platform(),
            source=source,
            commands=self._commands,
            files=self._files,
            paths=tuple(sorted(self._paths - self._files.keys())),
            groups=self._groups,
            owners=self._owners,
        )

    def platform(self) -> Platform:
        return self._probe.platform()

    def run(self, *command: str) -> Output | None:
        answer = self._probe.run(*command)
        if answer is not None:
            lines = tuple(answer.text.split("\n"))
            self._commands[shlex.join(command)] = RecordedOutput(lines, answer.status)
        return answer

    def read(self, path: str) -> str | None:
        text = self._probe.read(path)
        if text is not None:
            self._files[path] = tuple(text.split("\n"))
        return text

    def glob(self, pattern: str) -> tuple[str, ...]:
        paths = self._probe.glob(pattern)
        self._paths.update(paths)
        return paths

    def group(self, name: str) -> int | None:
        number = self._probe.group(name)
        if number is not None:
            self._groups[name] = number
        return number

    def owner(self, path: str) -> int | None:
        number = self._probe.owner(path)
        if number is not None:
            self._owners[path] = number
        return number


def to_json(recording: Recording) -> str:
    import msgspec

    text = msgspec.json.encode(recording, order="deterministic")
    return msgspec.json.format(text, indent=1).decode() + "\n"


def from_json(text: str | bytes) -> Recording:
    """Raises BadInput that names the field."""
    import msgspec

    try:
        return msgspec.json.decode(text, type=Recording)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(
            f"not a recording of a machine: {error}",
            hint="make it anew: python -m runner.hardware.recorded",
        ) from error


def main() -> None:
    from runner.hardware.gather import gather

    recorder = Recorder(HostProbe())
    gather(recorder)
    print(to_json(recorder.recording()), end="")


if __name__ == "__main__":
    main()
