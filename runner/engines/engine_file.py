"""Reads engine.yaml: what an engine is, typed and checked, with every mistake told in one go."""

from __future__ import annotations

import re
from pathlib import Path

from runner.artifacts.media import ModelFormat
from runner.engines import shapes
from runner.engines.base import Mode
from runner.engines.description import (
    ANY,
    EngineDescription,
    Form,
    Origin,
    Requirements,
    Variant,
)
from runner.engines.fields import Mistakes, Section, nearest
from runner.engines.yaml_tree import MAX_BYTES, Mapping, NotATree, Scalar, Sequence, read_tree
from runner.errors import BadEngineFile
from runner.names import ALIASES, RESERVED, Accelerator

FILE_NAME = "engine.yaml"
DOCKERFILE = "Dockerfile"
LOCK = "requirements.txt"
SCHEMA = "1"

PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""How a command names what the runner fills in; other braces stand for themselves."""
PLACEHOLDERS = frozenset(
    {
        *("model_path", "model_file", "model_name", "socket", "host", "port", "context_size"),
        *("gpu_count", "threads", "cache"),
    }
)

MAX_LIST_BYTES = 1 << 20
_PRIORITY = 1000
_MEMORY = 1 << 30
_RENAME = "choose another name"
_BESIDE = "put it beside engine.yaml, or take the field out"
_ONE_EACH = "one name in each line, such as LlamaForCausalLM"

Formats = dict[ModelFormat, tuple[str, ...]]

_IN_FILES = (Form.IMAGE, Form.ENVIRONMENT)


def read_engine_file(file: Path, origin: Origin = Origin.BUILT_IN) -> EngineDescription:
    """Raises BadEngineFile: its message has a line `FILE:LINE: FIELD: what is wrong` for each
    mistake, with what is allowed there."""
    mistakes = Mistakes()
    try:
        with file.open("rb") as opened:
            tree = read_tree(opened.read(MAX_BYTES + 1))
    except OSError as error:
        raise BadEngineFile(f"can't read {file}: {error.strerror or error}") from error
    except NotATree as error:
        mistakes.add(error.line, "", error.message)
        raise _refusal(mistakes, file) from error
    top = Section(tree, "", mistakes)
    if not isinstance(tree, Mapping):
        raise _refusal(mistakes, file)
    description = _Reading(top, file, origin).description()
    if mistakes.found:
        raise _refusal(mistakes, file)
    return description


def _refusal(mistakes: Mistakes, file: Path) -> BadEngineFile:
    return BadEngineFile(
        "\n".join(mistakes.lines(file)),
        hint=f"correct {file}: its fields are in docs/engines.md",
    )


class _Reading:
    """One file being read."""

    def __init__(self, top: Section, file: Path, origin: Origin) -> None:
        self._top = top
        self._file = file
        self._origin = origin
        self._folder = file.parent
        self._mistakes = top.mistakes

    def description(self) -> EngineDescription:
        top = self._top
        self._schema()
        name = self._name()
        formats = self._formats()
        variants = self._variants(name, formats)
        description = EngineDescription(
            name=name,
            title=top.text("title", shapes.LINE, required=self._is_ours) or name,
            summary=top.text("summary", shapes.LINE, required=self._is_ours),
            licence=top.text("licence", shapes.LINE, required=self._is_ours),
            source=top.text("source", shapes.URL, required=self._is_ours),
            formats=formats,
            modes=frozenset(top.words("modes", Mode)),
            health_path=top.text("health_path", shapes.PATH, required=True),
            priority=top.number("priority", -_PRIORITY, _PRIORITY),
            variants=variants,
            origin=self._origin,
            architectures=self._architectures(),
            default_variant=self._default(variants),
            command=top.arguments("command", shapes.ARGUMENT),
            environment=top.named("environment", shapes.VARIABLE, shapes.ARGUMENT),
            listens_on_tcp=top.truth("listens_on_tcp"),
            shared_memory=top.size("shared_memory") or 0,
            memory=_MEMORY if (memory := top.size("memory")) is None else memory,
            file=self._file,
        )
        self._check_command(description)
        top.close()
        return description

    @property
    def _is_ours(self) -> bool:
        return self._origin is Origin.BUILT_IN

    def _schema(self) -> None:
        node = self._top.node("schema", required=True, allowed=SCHEMA)
        if node is not None and not (isinstance(node, Scalar) and node.text == SCHEMA):
            reads = f"this version of runner reads {SCHEMA}: write it"
            self._top.wrong("schema", f"found {node}, {reads}")

    def _name(self) -> str:
        name = self._top.text("name", shapes.NAME, required=True)
        if name in RESERVED:
            self._top.wrong("name", f"{name!r} stands for something else in paths: {_RENAME}")
        elif name in ALIASES:
            self._top.wrong("name", f"{name!r} is another name of {ALIASES[name]}: {_RENAME}")
        elif name and self._is_ours and name != self._folder.name:
            its = self._folder.name
            self._top.wrong("name", f"found {name!r}, its folder is {its}: rename one")
        return name

    def _formats(self) -> Formats:
        node = self._top.node("formats", required=True, allowed="a list, such as [gguf]")
        if isinstance(node, Sequence):
            return dict.fromkeys(self._top.words("formats", ModelFormat), (ANY,))
        formats = self._top.lists("formats", ModelFormat, shapes.QUANTIZATION)
        if node is not None and not formats and not self._mistakes.found:
            self._top.wrong("formats", "there is none, allowed: a list, such as [gguf]")
        return formats

    def _architectures(self) -> frozenset[str]:
        name = self._top.text("architectures", shapes.FILE)
        if not name:
            return frozenset()
        try:
            with (self._folder / name).open("rb") as opened:
                content = opened.read(MAX_LIST_BYTES + 1)
        except OSError as error:
            reason = error.strerror or error
            self._top.wrong("architectures", f"can't read {name}: {reason}: {_BESIDE}")
            return frozenset()
        if len(content) > MAX_LIST_BYTES:
            too_long = f"{name} has more than {MAX_LIST_BYTES} bytes: shorten it"
            self._top.wrong("architectures", too_long)
            return frozenset()
        lines = (
            line.partition("#")[0].strip() for line in content.decode(errors="replace").split("\n")
        )
        found = frozenset(line for line in lines if line)
        odd = sorted(one for one in found if not shapes.ARCHITECTURE.fullmatch(one))
        if odd or not found:
            what = f"{odd[0][:60]!r} is not the name of an architecture" if odd else "it names none"
            self._top.wrong("architectures", f"{name}: {what}: {_ONE_EACH}")
        return found

    def _variants(self, engine: str, formats: Formats) -> tuple[Variant, ...]:
        sections = self._top.sections("variants")
        variants = tuple(
            self._variant(section, engine, formats, is_only=len(sections) == 1)
            for section in sections
        )
        names: set[str] = set()
        for section, variant in zip(sections, variants, strict=True):
            if variant.name and variant.name in names:
                section.wrong("name", f"there are two variants {variant.name!r}: {_RENAME}")
            names.add(variant.name)
        return variants

    def _variant(
        self,
        section: Section,
        engine: str,
        formats: Formats,
        *,
        is_only: bool,
    ) -> Variant:
        name = section.text("name", shapes.NAME, required=True)
        form = section.word("form", Form, Form.IMAGE, required=True)
        image = section.text("image", shapes.IMAGE)
        folder = self._folder_of(name, is_only=is_only)
        variant = Variant(
            engine=engine,
            name=name,
            accelerator=section.word("accelerator", Accelerator, Accelerator.CPU, required=True),
            version=section.text("version", shapes.VERSION, required=True),
            form=form,
            platforms=section.texts("platforms", shapes.PLATFORM, required=True),
            folder=folder,
            context=self._folder.parent if self._is_ours else self._folder,
            accelerator_version=section.text("accelerator_version", shapes.NUMBERS),
            revision=section.text("revision", shapes.VERSION),
            base=section.text("base", shapes.IMAGE, required=self._is_ours and form is Form.IMAGE),
            image=image,
            requires=_requirements(section),
            priority=section.number("priority", -_PRIORITY, _PRIORITY),
            quantizations=section.lists("quantizations", ModelFormat, shapes.QUANTIZATION),
        )
        self._check_form(section, variant)
        for one in variant.quantizations.keys() - formats.keys():
            section.wrong("quantizations", f"{one} is not among the engine's formats: add it there")
        section.close()
        return variant

    def _folder_of(self, variant: str, *, is_only: bool) -> Path:
        """A user's only variant may have its Dockerfile beside engine.yaml."""
        if is_only and not self._is_ours and (self._folder / DOCKERFILE).is_file():
            return self._folder
        return self._folder / variant

    def _check_form(self, section: Section, variant: Variant) -> None:
        if variant.form not in _IN_FILES:
            section.wrong("form", f"found {variant.form.value!r}, allowed: {', '.join(_IN_FILES)}")
            return
        if variant.form is Form.IMAGE:
            foreign = [one for one in variant.platforms if one and not one.startswith("linux/")]
            if foreign:
                section.wrong("platforms", f"found {foreign[0]}, images are for linux: take it out")
        elif variant.image:
            section.wrong("image", f"a variant of the form {variant.form} has none: take it out")
        if variant.image and self._is_ours:
            section.wrong("image", "what ships is built from its Dockerfile: take it out")
        needed = DOCKERFILE if variant.form is Form.IMAGE else LOCK
        if variant.name and not section.has("image") and not (variant.folder / needed).is_file():
            there = variant.folder.relative_to(self._folder)
            either = "" if self._is_ours or needed == LOCK else "there is no image, and "
            section.wrong("name", f"{either}the file {there / needed} is missing: add it")

    def _default(self, variants: tuple[Variant, ...]) -> str:
        name = self._top.text("default_variant", shapes.NAME)
        known = [variant.name for variant in variants]
        if name and name not in known:
            allowed = f"allowed: {', '.join(known)}. {nearest(name, known)}".removesuffix(". ")
            self._top.wrong("default_variant", f"found {name!r}, {allowed}")
        return name

    def _check_command(self, about: EngineDescription) -> None:
        top = self._top
        if self._is_ours:
            for key in ("command", "environment"):
                if top.has(key):
                    top.wrong(key, "engines that ship say it in their module: take it out")
            return
        if not about.command:
            top.wrong(
                "command", "it is missing: what starts the engine, such as [--port, '{port}']"
            )
        used = set(PLACEHOLDER.findall("\n".join([*about.command, *about.environment.values()])))
        for name in sorted(used - PLACEHOLDERS):
            known = ", ".join(sorted(PLACEHOLDERS))
            hint = f"allowed: {known}. {nearest(name, PLACEHOLDERS)}".removesuffix(". ")
            top.wrong("command", f"found the placeholder {{{name}}}, {hint}")
        needed = "port" if about.listens_on_tcp else "socket"
        if about.command and needed not in used:
            other = "false" if about.listens_on_tcp else "true"
            top.wrong("command", f"it has no {{{needed}}}: or set `listens_on_tcp: {other}`")


def _requirements(section: Section) -> Requirements:
    requires = section.section("requires")
    has_ptx = requires.has("ptx")
    driver = requires.text("driver", shapes.NUMBERS, required=has_ptx)
    targets = requires.texts("targets", shapes.TARGET)
    ptx = requires.section("ptx")
    found = Requirements(
        driver,
        targets,
        ptx.text("driver", shapes.NUMBERS, required=has_ptx),
        ptx.texts("targets", shapes.TARGET, required=has_ptx),
    )
    for one in found.ptx_targets:
        if one and one not in targets:
            ptx.wrong("targets", f"{one} is not among the variant's targets: add it there")
    ptx.close()
    requires.close()
    return found
