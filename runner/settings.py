"""The one settings object: what can be set, of which type, within which bounds.

`runner.configuration` fills it from the file, the environment and flags.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from runner.errors import EngineNotFound
from runner.names import canonical_engine


def _whole(path: Path) -> Path:
    """The daemon works in another folder than the command that starts it."""
    whole = path.expanduser()
    if not whole.is_absolute():
        raise ValueError(f"write the whole path, from / or ~: {path}")
    return whole


WholePath = Annotated[Path, AfterValidator(_whole)]


class Placement(StrEnum):
    """How an engine is started: in a container, as a native process, or as the host allows."""

    AUTO = "auto"
    DOCKER = "docker"
    PROCESS = "process"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Proxy(_Section):
    """Proxies for pulls and builds; empty: the standard variables (HTTP_PROXY, …) hold."""

    http: str = ""
    https: str = ""
    no_proxy: str = ""


class BackendSettings(_Section):
    """One engine's defaults: `binary` runs as its native process; `options`, `flags` and
    `environment` go to each start, under what is configured for a model. `allowed_flags` are
    flags that the runner would refuse, and an operator allows."""

    placement: Placement = Placement.AUTO
    binary: WholePath | None = None
    context_size: int | None = Field(default=None, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    allowed_flags: tuple[str, ...] = ()


class Settings(_Section):
    """All settings. Sizes are bytes, times seconds.

    `image_registry` is where engine images are pulled from, such as `registry.example/runner`;
    empty: they are built from the shipped Dockerfiles. `models_path` is the folder of the model
    store; none: the home's own. `allow_pickle` lets models be loaded whose weights may run code.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=12434, ge=1, le=65535)
    log_level: str = "info"
    models_path: WholePath | None = None
    default_organisation: str = "ai"
    default_tag: str = "latest"
    allow_pickle: bool = False
    hub_endpoint: str = "https://huggingface.co"
    modelscope_endpoint: str = "https://modelscope.cn"
    insecure_registries: tuple[str, ...] = ()
    ca_file: WholePath | None = None
    proxy: Proxy = Proxy()
    image_registry: str = ""
    build_contexts: dict[str, str] = Field(default_factory=dict)
    build_secrets: dict[str, WholePath] = Field(default_factory=dict)
    preference: tuple[str, ...] = ()
    backends: dict[str, BackendSettings] = Field(default_factory=dict)
    allowed_origins: tuple[str, ...] = ()
    max_body: int = Field(default=256 * 1024 * 1024, ge=1024)
    load_timeout: float = Field(default=600.0, gt=0)
    drain_timeout: float = Field(default=30.0, ge=0)

    @field_validator("host")
    @classmethod
    def _loopback_only(cls, host: str) -> str:
        if host not in {"127.0.0.1", "::1", "localhost"}:
            raise ValueError("listens on loopback only until API keys exist: use 127.0.0.1")
        return host

    @field_validator("default_organisation")
    @classmethod
    def _part_of_a_name(cls, organisation: str) -> str:
        if not re.fullmatch(r"[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*|", organisation, re.ASCII):
            raise ValueError("lower-case letters and digits, joined by `.`, `_` or `-`")
        return organisation

    @field_validator("default_tag")
    @classmethod
    def _a_tag(cls, tag: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", tag, re.ASCII):
            raise ValueError("letters, digits, `_`, `.` and `-`, at most 128 characters")
        return tag

    @field_validator("hub_endpoint", "modelscope_endpoint")
    @classmethod
    def _an_address(cls, endpoint: str) -> str:
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", endpoint):
            raise ValueError("write an address, such as https://huggingface.co")
        return endpoint.rstrip("/")

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level not in {"debug", "info", "warning", "error"}:
            raise ValueError("one of debug, info, warning, error")
        return level

    @field_validator("ca_file")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"no such file: {path}")
        return path

    @field_validator("backends", mode="before")
    @classmethod
    def _backends_by_name(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {_engine(str(name)): fields for name, fields in value.items()}

    @field_validator("preference", mode="before")
    @classmethod
    def _preference_by_name(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        return [_engine(str(name)) for name in value]

    def backend(self, engine: str) -> BackendSettings:
        return self.backends.get(engine, BackendSettings())


def _engine(name: str) -> str:
    try:
        return canonical_engine(name)
    except EngineNotFound as error:
        raise ValueError(f"{error.message}; {error.hint}") from error
