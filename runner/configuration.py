"""Settings as they hold here: file, then `RUNNER_*` variables, then flags, each with its origin.

A variable nests with two underscores
(`RUNNER_PROXY__HTTP`); lists and maps are written as YAML (`RUNNER_INSECURE_REGISTRIES=[a, b]`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import BadSettings
from runner.home import Home, home_from
from runner.names import ALIASES

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from runner.settings import Settings

PREFIX = "RUNNER_"
NESTING = "__"
OTHERS = frozenset(
    f"RUNNER_{name}"
    for name in (
        *("ARCH", "DEBUG", "ENVIRONMENT", "NAME", "OS", "PERFLOG", "TEMP", "TOOL_CACHE"),
        *("TRACKING_ID", "USER", "WORKSPACE"),
    )
)
"""GitHub Actions sets these on each of its machines, for itself."""

NOT_SETTINGS = OTHERS | {
    *("RUNNER_HOME", "RUNNER_CONFIG"),
    *("RUNNER_REGISTRY_PORT", "RUNNER_BASE_IMAGE"),
}
"""Variables with our prefix that are no settings; the last two are compose.yaml's."""

HUB_VARIABLES = {"HF_ENDPOINT": "hub_endpoint", "MODELSCOPE_ENDPOINT": "modelscope_endpoint"}
"""What the hubs' own tools read; our own variables go before them."""

Origins = Mapping[tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Configuration:
    """`origins` maps the path of each value that is not a default to where it came from."""

    home: Home
    file: Path
    settings: Settings
    origins: Origins
    home_origin: str

    def origin(self, path: tuple[str, ...]) -> str:
        """Where a value came from: the longest known beginning of its path."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return "default"

    def rows(self) -> Iterator[tuple[str, object, str]]:
        """Every setting as (dotted name, value, origin)."""
        yield from self._rows(self.settings.model_dump(mode="json"), ())

    def _rows(
        self, values: Mapping[str, object], path: tuple[str, ...]
    ) -> Iterator[tuple[str, object, str]]:
        for name, value in values.items():
            here = (*path, name)
            if isinstance(value, dict) and value:
                yield from self._rows(value, here)
            else:
                yield ".".join(here), value, self.origin(here)


def load(
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Configuration:
    """Reads everything once; raises BadSettings naming the key and where it stands."""
    variables = os.environ if environment is None else environment
    home = home_from(variables)
    file, required = _settings_file(home, variables)
    layers = [
        (str(file), read_file(file, required=required)),
        *((f"${name}", value) for name, value in read_environment(variables)),
        ("flag", {k: v for k, v in (flags or {}).items() if v is not None}),
    ]
    values: dict[str, Any] = {}
    origins: dict[tuple[str, ...], str] = {}
    for origin, layer in layers:
        _merge(values, _by_engine(layer), origin, (), origins)
    home_origin = "$RUNNER_HOME" if variables.get("RUNNER_HOME") else "default"
    return Configuration(home, file, _validated(values, origins), origins, home_origin)


def may_set(names: Collection[str], environment: Mapping[str, str] | None = None) -> bool:
    """Whether the file or a variable speaks of any of these settings, so that `load` is worth
    its time: it takes longer than all the rest of a short command."""
    variables = os.environ if environment is None else environment
    file, required = _settings_file(home_from(variables), variables)
    if any(n.startswith(PREFIX) and n[len(PREFIX) :].lower() in names for n in variables):
        return True
    try:
        text = file.read_bytes()
    except OSError:
        return required or file.exists()  # `load` says what is wrong with it
    return any(name.encode() in text for name in names)


def _settings_file(home: Home, variables: Mapping[str, str]) -> tuple[Path, bool]:
    """Where the file is, and whether it must be there."""
    named = variables.get("RUNNER_CONFIG")
    return (Path(named).expanduser(), True) if named else (home.config_file, False)


def read_file(file: Path, *, required: bool = True) -> dict[str, Any]:
    """The YAML mapping in `file`; empty where it is absent and not required."""
    if not file.exists() and not required:
        return {}
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"can't read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSettings(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise BadSettings(f"{file} must hold `key: value` lines")
    return {str(key): value for key, value in document.items()}


def check_file(file: Path) -> Settings:
    """What a file says; raises BadSettings where it could not be used."""
    values = read_file(file)
    origins: Origins = {(name,): str(file) for name in values}
    return _validated(values, origins)


def read_environment(variables: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The hubs' variables, then each `RUNNER_*` one, as (its name, its value under nested keys);
    ours are typed as YAML would."""
    for name, key in HUB_VARIABLES.items():
        if variables.get(name):
            yield name, {key: variables[name]}
    for name, text in sorted(variables.items()):
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            value = _typed(name, text)
            for key in reversed(name[len(PREFIX) :].lower().split(NESTING)):
                value = {key: value}
            yield name, value


def _typed(name: str, text: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    import yaml

    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise BadSettings(f"{name} is not readable: {' '.join(str(error).split())}") from error


def _by_engine(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """A layer with each engine under its one name, so that layers meet whatever alias each uses."""
    backends = layer.get("backends")
    if not isinstance(backends, Mapping):
        return layer
    merged: dict[str, Any] = {}
    for alias, fields in backends.items():
        name = ALIASES.get(str(alias).lower(), str(alias))
        known = merged.get(name)
        if isinstance(known, dict) and isinstance(fields, Mapping):
            merged[name] = {**known, **fields}
        else:
            merged[name] = fields
    return {**layer, "backends": merged}


def _merge(
    target: dict[str, Any],
    layer: Mapping[str, Any],
    origin: str,
    path: tuple[str, ...],
    origins: dict[tuple[str, ...], str],
) -> None:
    for name, value in layer.items():
        here = (*path, name)
        if isinstance(value, Mapping) and value:
            branch = target.setdefault(name, {})
            if isinstance(branch, dict):
                _merge(branch, value, origin, here, origins)
                continue
        target[name] = value
        origins[here] = origin


def _validated(values: Mapping[str, object], origins: Origins) -> Settings:
    from pydantic import ValidationError

    from runner.settings import Settings

    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _explained(error, Settings, origins) from error


_REASONS = {
    "tuple_type": "write a list, such as [a, b]",
    "list_type": "write a list, such as [a, b]",
    "dict_type": "write `name: value` lines",
    "model_type": "write `name: value` lines",
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "float_parsing": "write a number",
    "string_type": "write a text",
}
"""pydantic's own words are for programmers."""


def _explained(error: ValidationError, model: type[BaseModel], origins: Origins) -> BadSettings:
    first = error.errors(include_url=False)[0]
    path = tuple(str(part) for part in first["loc"])
    where = _origin_of(path, origins)
    name = ".".join(path) or "settings"
    if first["type"] == "extra_forbidden":
        near = get_close_matches(path[-1], _siblings(model, path[:-1]), n=1)
        hint = f"did you mean {near[0]}?" if near else "`runner config` lists the settings"
        return BadSettings(f"unknown setting {name} ({where})", hint=hint)
    reason = _REASONS.get(first["type"], str(first["msg"]).removeprefix("Value error, "))
    return BadSettings(
        f"{name}: {reason} ({where})", hint="change it, then try `runner config check`"
    )


def _origin_of(path: tuple[str, ...], origins: Origins) -> str:
    for end in range(len(path), 0, -1):
        if path[:end] in origins:
            return origins[path[:end]]
        for known, origin in origins.items():
            if known[:end] == path[:end]:
                return origin
    return next(iter(origins.values()), "default")


def _siblings(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """The field names at a path of the settings; a map's keys stand for any name."""
    from runner.settings import BackendSettings, Proxy

    sections: dict[str, type[BaseModel]] = {"proxy": Proxy, "backends": BackendSettings}
    holder = sections.get(path[0], model) if path else model
    return list(holder.model_fields)
