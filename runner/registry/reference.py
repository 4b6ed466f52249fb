"""References: how a model is named, in the short spelling and in the long one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from runner.errors import BadReference
from runner.registry.digest import PREFIX, is_digest
from runner.registry.hubnames import HUGGING_FACE, MODELSCOPE, HubName, hub_name, hub_of

if TYPE_CHECKING:
    from runner.settings import Settings

DOCKER_HUB = "docker.io"
DOCKER_HUB_API = "registry-1.docker.io"
DEFAULT_TAG = "latest"
MAX_NAME = 255
MAX_TAG = 128

_HUB_ALIASES = frozenset({"index.docker.io", DOCKER_HUB_API})
_SCHEMES = ("oci://", "docker://")
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]+))?", re.ASCII)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_HUB_COMPONENT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_REVISION = re.compile(rf"{_TAG.pattern}(?:/{_TAG.pattern})*", re.ASCII)
_NAME_HINT = "write it as [REGISTRY/][ORGANISATION/]NAME[:TAG], such as ai/smollm2:latest"


class Source(StrEnum):
    """Whom a reference's host speaks to us as."""

    REGISTRY = "registry"
    HUGGING_FACE = "hugging_face"
    MODELSCOPE = "modelscope"


_SOURCES = {
    HUGGING_FACE.registry: Source.HUGGING_FACE,
    MODELSCOPE.registry: Source.MODELSCOPE,
}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a name means where it leaves parts out. `registry` is an OCI registry, no hub; hubs
    know neither an organisation nor a tag of ours."""

    registry: str = DOCKER_HUB
    organisation: str = "ai"
    tag: str = DEFAULT_TAG


STANDARD = Defaults()


@dataclass(frozen=True, slots=True)
class Reference:
    """A model's full name. `tag` and `digest` are never both empty; `revision` is a hub's branch,
    tag or commit, empty for its main branch. At a hub, the tag chooses among a model's files,
    and `latest` leaves the choice to us.

    `defaults` are those it was read with: what the short spelling may leave out. They are no
    part of what it names.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""
    revision: str = ""
    defaults: Defaults = field(default=STANDARD, compare=False, repr=False)

    @property
    def source(self) -> Source:
        return _SOURCES.get(self.registry, Source.REGISTRY)

    @property
    def name(self) -> str:
        """Registry and repository: `docker.io/ai/smollm2`."""
        return f"{self.registry}/{self.repository}"

    @property
    def long(self) -> str:
        """Every part written out, the same under any defaults: `docker.io/ai/smollm2:latest`."""
        return self.name + _suffix(self.tag, self._at)

    @property
    def short(self) -> str:
        """As a person writes it: `ai/smollm2`, `localhost:5000/demo:1`, `hf.co/org/x:Q4_K_M`.
        Read with the same defaults, it is this reference again."""
        return _shortened(self.registry, self.repository, self.tag, self._at, self.defaults)

    @property
    def spellings(self) -> tuple[str, ...]:
        """What a program may compare names with: long, short, and short with its tag."""
        name = _short_name(self.registry, self.repository, self.defaults)
        with_tag = name + _suffix(self.tag, self._at)
        return tuple(dict.fromkeys((self.long, self.short, with_tag)))

    @property
    def api_host(self) -> str:
        """The host that is spoken to, with its port."""
        return DOCKER_HUB_API if self.registry == DOCKER_HUB else self.registry

    @property
    def _at(self) -> str:
        return self.digest or self.revision

    def __str__(self) -> str:
        return self.long


def defaults_of(settings: Settings) -> Defaults:
    """What the settings say about names that leave parts out."""
    return Defaults(organisation=settings.default_organisation, tag=settings.default_tag)


def parse(text: str, defaults: Defaults = STANDARD) -> Reference:
    """Reads any spelling of a reference; raises BadReference with the reason.

    Names of Hugging Face (`hf.co/…`, `hf://…`, a page's address) and ModelScope (`ms://…`,
    `modelscope.cn/…`) keep their case. All others are an OCI registry's: names without a
    registry belong to the default one, names without a slash to its default organisation;
    `docker.io/x` is `docker.io/library/x`. Hosts and repositories are lower-cased, tags are not.
    """
    _refuse_what_is_no_reference(text)
    found = hub_name(text)
    if found:
        return _hub_reference(*found, text, defaults)
    return _registry_reference(_without_scheme(text), text, defaults)


def from_long(text: str, defaults: Defaults = STANDARD) -> Reference:
    """The reference whose long spelling this is. Checks nothing, and takes a fifth of the time
    of `parse`, which counts where thousands are listed."""
    registry, repository, tag, at = _split_long(text)
    digest, revision = (at, "") if at.startswith(PREFIX) else ("", at)
    return Reference(registry, repository, tag, digest, revision, defaults)


def short_of(text: str, defaults: Defaults = STANDARD) -> str:
    """The short spelling of a long one, quicker than by way of its reference."""
    return _shortened(*_split_long(text), defaults)


def parse_registry(text: str) -> str:
    """Reads a registry's host, its address in any form too (`https://index.docker.io/v1/` is
    `docker.io`). Raises BadReference for what is none, hubs included."""
    _, _, rest = text.rpartition("://")
    host = rest.partition("/")[0].lower()
    hub = hub_name(f"{host}/")
    if hub:
        hint = "set HF_TOKEN to a token of your account" if hub[0] is HUGGING_FACE else ""
        raise BadReference(f"{host} is a model hub, not a registry", hint=hint)
    return _checked_host(host, text)


def check_tag(tag: str, text: str) -> None:
    """Raises BadReference for what can't be a tag; `text` is what it stands in."""
    if not tag:
        raise BadReference(f"the tag is empty in {text!r}", hint=_NAME_HINT)
    if len(tag) > MAX_TAG or not _TAG.fullmatch(tag):
        raise BadReference(
            f"{tag!r} is not a tag in {text!r}",
            hint=f"tags are letters, digits, `_`, `.` and `-`, at most {MAX_TAG} characters",
        )


def _split_long(text: str) -> tuple[str, str, str, str]:
    """Registry, repository, tag and what stands after the `@`."""
    name, _, at = text.partition("@")
    registry, _, rest = name.partition("/")
    repository, _, tag = rest.partition(":")
    return registry, repository, tag, at


def _shortened(registry: str, repository: str, tag: str, at: str, defaults: Defaults) -> str:
    implied = DEFAULT_TAG if hub_of(registry) else defaults.tag
    shown = "" if tag == implied and not at.startswith(PREFIX) else tag
    return _short_name(registry, repository, defaults) + _suffix(shown, at)


def _short_name(registry: str, repository: str, defaults: Defaults) -> str:
    if registry == defaults.registry:
        is_implied = "/" in repository and not _split_host(repository)[0]
        return repository if is_implied else f"{registry}/{repository}"
    hub = hub_of(registry)
    return hub.prefix + repository if hub else f"{registry}/{repository}"


def _suffix(tag: str, at: str) -> str:
    return (f":{tag}" if tag else "") + (f"@{at}" if at else "")


def _registry_reference(name: str, text: str, defaults: Defaults) -> Reference:
    rest, digest = _split_digest(name, text)
    rest, tag = _split_tag(rest, text)
    host, path = _split_host(rest.lower())
    registry = _checked_host(host, text) if host else defaults.registry
    if not host and "/" not in path:
        path = f"{defaults.organisation}/{path}" if defaults.organisation else path
    if registry == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    _check_repository(path, text)
    _check_length(registry, path, text)
    tag = tag or ("" if digest else defaults.tag)
    return Reference(registry, path, tag, digest, defaults=defaults)


def _hub_reference(hub: HubName, name: str, text: str, defaults: Defaults) -> Reference:
    rest, at, revision = name.partition("@")
    if at:
        _check_revision(revision, text)
    path, tag = _split_tag(rest, text)
    parts = path.split("/")
    if len(parts) != 2 or not all(_HUB_COMPONENT.fullmatch(p) and ".." not in p for p in parts):  # noqa: PLR2004
        raise BadReference(
            f"{text!r} does not name a model at {hub.registry}",
            hint=f"write it as {hub.prefix}ORGANISATION/NAME[:QUANTIZATION][@REVISION]",
        )
    _check_length(hub.registry, path, text)
    return Reference(hub.registry, path, tag or DEFAULT_TAG, revision=revision, defaults=defaults)


def _refuse_what_is_no_reference(text: str) -> None:
    if not text:
        raise BadReference("the model reference is empty", hint=_NAME_HINT)
    if any(c.isspace() or not c.isprintable() for c in text):
        raise BadReference(f"{text!r} holds a space or control character", hint=_NAME_HINT)
    if text.startswith((".", "/", "~")) or text.startswith("file://"):
        raise BadReference(
            f"{text!r} is a path, not a model reference",
            hint="package a file first: runner package --gguf FILE NAME",
        )
    if is_digest(PREFIX + text) or text.startswith(PREFIX):
        raise BadReference(f"{text!r} is a model's ID, not a reference", hint=_NAME_HINT)


def _without_scheme(text: str) -> str:
    for scheme in _SCHEMES:
        if text.lower().startswith(scheme):
            return text[len(scheme) :]
    if "://" in text:
        raise BadReference(f"{text!r} is a URL, not a model reference", hint=_NAME_HINT)
    return text


def _split_digest(name: str, text: str) -> tuple[str, str]:
    rest, at, digest = name.partition("@")
    if at and not is_digest(digest):
        raise BadReference(
            f"{digest!r} is not a digest in {text!r}", hint="digests are sha256:<64 hex digits>"
        )
    return rest, digest


def _split_tag(rest: str, text: str) -> tuple[str, str]:
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, ""
    check_tag(tag, text)
    return name, tag


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return first, rest
    return "", name


def _checked_host(host: str, text: str) -> str:
    match = _HOST.fullmatch(host)
    if not match:
        raise BadReference(f"{host!r} is not a registry host in {text!r}", hint=_NAME_HINT)
    port = match["port"]
    if port is not None and not (len(port) <= 5 and 0 < int(port) < 65536):  # noqa: PLR2004
        raise BadReference(f"{port} is not a port in {text!r}", hint="ports are 1 to 65535")
    return DOCKER_HUB if host in _HUB_ALIASES else host


def _check_repository(path: str, text: str) -> None:
    for component in path.split("/"):
        if not component:
            raise BadReference(f"a part of the name is empty in {text!r}", hint=_NAME_HINT)
        if not _COMPONENT.fullmatch(component):
            raise BadReference(
                f"{component!r} can't be part of a name in {text!r}",
                hint="names are letters and digits, joined by `.`, `_`, `__` or `-`",
            )


def _check_revision(revision: str, text: str) -> None:
    if len(revision) > MAX_NAME or ".." in revision or not _REVISION.fullmatch(revision):
        raise BadReference(
            f"{revision!r} is not a revision in {text!r}",
            hint="revisions are a branch, a tag or a commit, such as main",
        )


def _check_length(registry: str, path: str, text: str) -> None:
    if len(registry) + 1 + len(path) > MAX_NAME:
        raise BadReference(
            f"the name is longer than {MAX_NAME} characters: {text[:40]}…",
            hint="give it a shorter one",
        )
