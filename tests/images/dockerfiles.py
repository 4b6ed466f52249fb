"""What a Dockerfile says, read without building it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_USE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Instruction:
    name: str
    rest: str


@dataclass(frozen=True)
class Stage:
    """One FROM and what follows: `base` with the arguments filled in."""

    base: str
    alias: str
    instructions: tuple[Instruction, ...]
    arguments: dict[str, str]

    def values(self, name: str) -> list[str]:
        return [filled(one.rest, self.arguments) for one in self.instructions if one.name == name]


@dataclass(frozen=True)
class Dockerfile:
    text: str
    stages: tuple[Stage, ...]

    @property
    def bases(self) -> list[str]:
        """Images that come from elsewhere, without scratch."""
        own = {stage.alias for stage in self.stages} | {"scratch"}
        return list(dict.fromkeys(stage.base for stage in self.stages if stage.base not in own))

    @property
    def base(self) -> str:
        """The image from elsewhere that the last stage stands on."""
        by_alias = {stage.alias: stage for stage in self.stages if stage.alias}
        stage = self.stages[-1]
        while stage.base in by_alias:
            stage = by_alias[stage.base]
        return stage.base

    @property
    def labels(self) -> dict[str, str]:
        last = self.stages[-1]
        pairs = [
            filled(pair, last.arguments).partition("=")
            for one in last.instructions
            if one.name == "LABEL"
            for pair in shlex.split(one.rest)
        ]
        return {name: value for name, _, value in pairs}

    @property
    def from_context(self) -> set[str]:
        """Paths of the build context that are copied or mounted; a folder ends in no slash."""
        copied = {
            word
            for stage in self.stages
            for rest in (*stage.values("COPY"), *stage.values("ADD"))
            if "--from=" not in rest
            for word in [part for part in shlex.split(rest) if not part.startswith("--")][:-1]
        }
        mounts = re.findall(r"--mount=(\S+)", self.text)
        parts = [dict(one.partition("=")[::2] for one in mount.split(",")) for mount in mounts]
        bound = {one["source"] for one in parts if one["type"] == "bind" and "from" not in one}
        return {path.rstrip("/") for path in copied | bound}


def read(file: Path) -> Dockerfile:
    text = file.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    instructions = [
        Instruction(name.upper(), rest.strip())
        for name, _, rest in (line.strip().partition(" ") for line in joined.splitlines())
        if name
    ]
    return Dockerfile(text, tuple(_stages(instructions)))


def _stages(instructions: list[Instruction]) -> list[Stage]:
    common: dict[str, str] = {}
    stages: list[Stage] = []
    for one in instructions:
        if one.name == "FROM":
            image, _, alias = filled(one.rest, common).partition(" AS ")
            stages.append(Stage(image.strip(), alias.strip(), (), {}))
        elif not stages:
            name, _, value = one.rest.partition("=")
            common[name] = value.strip("\"'")
        else:
            stages[-1] = _with(stages[-1], one, common)
    return stages


def _with(stage: Stage, one: Instruction, common: dict[str, str]) -> Stage:
    arguments = dict(stage.arguments)
    if one.name == "ARG":
        for word in shlex.split(one.rest):
            name, given, value = word.partition("=")
            if given or name in common:
                arguments[name] = filled(value, arguments) if given else common[name]
    return Stage(stage.base, stage.alias, (*stage.instructions, one), arguments)


def filled(text: str, arguments: dict[str, str]) -> str:
    """What is not known stays as it is written."""
    return _USE.sub(lambda use: arguments.get(use[1] or use[2], use[0]), text)


def whole(image: str) -> str:
    """An image's name with the parts that Docker adds."""
    host, slash, _ = image.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"
