"""References: how a model is named, in the short spelling and in the long one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.errors import BadReference
from runner.registry.digest import PREFIX, is_digest

DOCKER_HUB = "docker.io"
DOCKER_HUB_API = "registry-1.docker.io"
DEFAULT_TAG = "latest"
MAX_NAME = 255
MAX_TAG = 128

_HUB_ALIASES = frozenset({"index.docker.io", DOCKER_HUB_API})
_NOT_REGISTRIES = frozenset({"hf.co", "huggingface.co"})
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]+))?", re.ASCII)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_NAME_HINT = "write it as [REGISTRY/][ORGANISATION/]NAME[:TAG], such as ai/smollm2:latest"


@dataclass(frozen=True, slots=True)
class Reference:
    """A model's full name. `tag` and `digest` are empty where not named; never both empty."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and repository: `docker.io/ai/smollm2`."""
        return f"{self.registry}/{self.repository}"

    @property
    def long(self) -> str:
        """Every part written out: `docker.io/ai/smollm2:latest`."""
        return self.name + self._suffix(self.tag)

    @property
    def short(self) -> str:
        """As a person writes it: `ai/smollm2`, `localhost:5000/demo:1`."""
        on_hub = self.registry == DOCKER_HUB and "/" in self.repository
        looks_hosted = bool(_split_host(self.repository)[0])
        name = self.repository if on_hub and not looks_hosted else self.name
        hidden = self.tag == DEFAULT_TAG and not self.digest
        return name + self._suffix("" if hidden else self.tag)

    @property
    def api_host(self) -> str:
        """The host that is spoken to, with its port."""
        return DOCKER_HUB_API if self.registry == DOCKER_HUB else self.registry

    def _suffix(self, tag: str) -> str:
        return (f":{tag}" if tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.long


def parse(
    text: str, *, default_registry: str = DOCKER_HUB, default_organisation: str = "ai"
) -> Reference:
    """Reads any spelling of a reference; raises BadReference with the reason.

    Names without a registry belong to `default_registry`, names without a slash to its
    `default_organisation`; `docker.io/x` is `docker.io/library/x`. Hosts and repositories are
    lower-cased, tags are not. The tag is `latest` where neither tag nor digest is named.
    """
    _refuse_what_is_no_reference(text)
    rest, digest = _split_digest(text)
    rest, tag = _split_tag(rest, text)
    host, path = _split_host(rest.lower())
    registry = _checked_host(host, text) if host else default_registry
    if not host and "/" not in path:
        path = f"{default_organisation}/{path}" if default_organisation else path
    if registry == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    _check_repository(path, text)
    if len(registry) + 1 + len(path) > MAX_NAME:
        raise BadReference(f"the name is longer than {MAX_NAME} characters: {text[:40]}…")
    return Reference(registry, path, tag or ("" if digest else DEFAULT_TAG), digest)


def _refuse_what_is_no_reference(text: str) -> None:
    if not text:
        raise BadReference("the model reference is empty", hint=_NAME_HINT)
    if any(c.isspace() or not c.isprintable() for c in text):
        raise BadReference(f"{text!r} holds a space or control character", hint=_NAME_HINT)
    if "://" in text:
        raise BadReference(f"{text!r} is a URL, not a model reference", hint=_NAME_HINT)
    if text.startswith((".", "/", "~")):
        raise BadReference(
            f"{text!r} is a path, not a model reference",
            hint="package a file first: runner package --gguf FILE NAME",
        )
    if is_digest(PREFIX + text) or text.startswith(PREFIX):
        raise BadReference(f"{text!r} is a model's ID, not a reference", hint=_NAME_HINT)


def _split_digest(text: str) -> tuple[str, str]:
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise BadReference(
            f"{digest!r} is not a digest in {text!r}", hint="digests are sha256:<64 hex digits>"
        )
    return rest, digest


def _split_tag(rest: str, text: str) -> tuple[str, str]:
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, ""
    if not tag:
        raise BadReference(f"the tag is empty in {text!r}", hint=_NAME_HINT)
    if len(tag) > MAX_TAG or not _TAG.fullmatch(tag):
        raise BadReference(
            f"{tag!r} is not a tag in {text!r}",
            hint=f"tags are letters, digits, `_`, `.` and `-`, at most {MAX_TAG} characters",
        )
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
        raise BadReference(f"{port} is not a port in {text!r}")
    if host in _NOT_REGISTRIES:
        raise BadReference(
            f"{host} is not an OCI registry",
            hint="download the .gguf file, then: runner package --gguf FILE NAME",
        )
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
