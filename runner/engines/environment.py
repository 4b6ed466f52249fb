"""A user's environment variables for an engine: what is kept, overridden or dropped, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from runner.errors import BadInput

REDACTED = "***"
SECRETS = ("*_KEY", "*_TOKEN", "*_SECRET", "*_PASSWORD", "*_PASS", "*_CREDENTIALS", "*_PASSWD")


class Policy(StrEnum):
    """What an engine says of a variable."""

    FORCED = "forced"
    """Always the rule's value, or the runner's own."""
    DEFAULT = "default"
    """The rule's value where the user gives none."""
    FORBIDDEN = "forbidden"
    """Never the user's."""
    ALLOWED = "allowed"
    """The user's, as where no rule speaks of it."""


class Outcome(StrEnum):
    """What happened to a user's variable."""

    KEPT = "kept"
    OVERRIDDEN = "overridden"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class EnvironmentRule:
    """`pattern` is a name, or a glob such as `*_VISIBLE_DEVICES`; `value` is for one name alone."""

    pattern: str
    policy: Policy
    reason: str
    value: str = ""

    @property
    def is_glob(self) -> bool:
        return not self.pattern.replace("_", "").isalnum()

    def matches(self, name: str) -> bool:
        return fnmatchcase(name.upper(), self.pattern.upper())


@dataclass(frozen=True, slots=True)
class Fate:
    """`value` is what the engine is given, redacted where the name is a secret's; "" if dropped."""

    name: str
    outcome: Outcome
    value: str
    reason: str

    def __str__(self) -> str:
        if self.outcome is Outcome.KEPT:
            return f"{self.name}={self.value}: kept"
        if self.outcome is Outcome.OVERRIDDEN:
            return f"{self.name}: overridden by {self.name}={self.value}, because {self.reason}"
        return f"{self.name}: dropped, because {self.reason}"


@dataclass(frozen=True, slots=True)
class Settled:
    """`environment` is what the engine gets; `fates` tell of each of the user's variables."""

    environment: Mapping[str, str]
    fates: tuple[Fate, ...]


COMMON_RULES = (
    *(
        EnvironmentRule(
            name, Policy.FORBIDDEN, "it would put other code into the engine's own programs"
        )
        for name in ("LD_PRELOAD", "LD_AUDIT", "DYLD_*", "PYTHONSTARTUP", "PYTHONINSPECT")
    ),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, "the engine's image says where its programs are")
        for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    ),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, "the runner gives the engine folders of its own")
        for name in ("HOME", "TMPDIR", "XDG_*_HOME", "XDG_RUNTIME_DIR")
    ),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, "`gpus` says which GPUs the engine is given")
        for name in ("*_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ZE_AFFINITY_MASK")
    ),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, "the launcher says what of a GPU is handed in")
        for name in ("NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_REQUIRE_*")
    ),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, "only the gateway checks keys")
        for name in ("*_API_KEY", "*_API_KEYS")
    ),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, "the runner pulls models; engines have no network")
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_*TOKEN", "*_PROXY")
    ),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, "it would make the engine load or write files")
        for name in (
            *("LD_*", "OPENSSL_*", "SSLKEYLOGFILE", "GCONV_PATH", "MALLOC_TRACE", "BASH_ENV"),
            *("OMP_TOOL_LIBRARIES", "OCL_ICD_*", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"),
            *("VK_ADD_*", "VK_*LAYER*", "KMP_CPUINFO_FILE", "KMP_STATS_*"),
        )
    ),
    EnvironmentRule("RUNNER_*", Policy.FORBIDDEN, "these are the runner's own settings"),
    EnvironmentRule("DOCKER_*", Policy.FORBIDDEN, "engines never speak to Docker"),
)
"""Every engine's; an engine's own rules stand before them, and the first that matches counts."""


NATIVE_RULES = (
    *(
        EnvironmentRule(name, Policy.ALLOWED, "it tunes the engine, and no more")
        for name in (
            *("GGML_*", "LLAMA_*", "MLX_*", "OMP_*", "KMP_*", "MKL_*", "HF_HUB_*"),
            *("TZ", "LANG", "LC_*"),
        )
    ),
    EnvironmentRule(
        "*",
        Policy.FORBIDDEN,
        "the engine runs as a native process, with nothing between it and this machine: there "
        "only variables of its own libraries pass",
    ),
)
"""For engines outside of containers, behind all other rules: what nobody has thought of may turn
a process of the daemon's own user into anything."""


def settle(
    user: Mapping[str, str], rules: Sequence[EnvironmentRule], own: Mapping[str, str]
) -> Settled:
    """Merges a user's variables with the engine's rules and what the runner itself sets.

    Of several rules for a name the first counts. `own` always wins. Pure; raises BadInput for a
    name or value that no environment can hold.
    """
    for name, value in user.items():
        _refuse_unusable(name, value)
    fates = tuple(_fate(name, value, rules, own) for name, value in sorted(user.items()))
    kept = {fate.name: user[fate.name] for fate in fates if fate.outcome is Outcome.KEPT}
    return Settled(dict(_defaults(rules)) | kept | dict(_forced(rules)) | dict(own), fates)


def shown(environment: Mapping[str, str]) -> Mapping[str, str]:
    """For people's eyes: the values of secrets are redacted."""
    return {name: redacted(name, value) for name, value in environment.items()}


def redacted(name: str, value: str) -> str:
    is_secret = any(fnmatchcase(f"_{name.upper()}", pattern) for pattern in SECRETS)
    return REDACTED if is_secret and value else value


def _fate(name: str, value: str, rules: Sequence[EnvironmentRule], own: Mapping[str, str]) -> Fate:
    rule = _rule(name, rules)
    if name in own:
        reason = rule.reason if rule else "the runner sets it for every start"
        return _settled(name, value, own[name], reason)
    if rule is None or rule.policy in (Policy.DEFAULT, Policy.ALLOWED):
        return Fate(name, Outcome.KEPT, redacted(name, value), "")
    if rule.policy is Policy.FORCED and not rule.is_glob:
        return _settled(name, value, rule.value, rule.reason)
    return Fate(name, Outcome.DROPPED, "", rule.reason)


def _settled(name: str, given: str, value: str, reason: str) -> Fate:
    """Who asks for what is set anyway has not been overruled."""
    if given == value:
        return Fate(name, Outcome.KEPT, redacted(name, value), "")
    return Fate(name, Outcome.OVERRIDDEN, redacted(name, value), reason)


def _rule(name: str, rules: Sequence[EnvironmentRule]) -> EnvironmentRule | None:
    return next((rule for rule in rules if rule.matches(name)), None)


def _defaults(rules: Sequence[EnvironmentRule]) -> Iterator[tuple[str, str]]:
    return _values(rules, Policy.DEFAULT)


def _forced(rules: Sequence[EnvironmentRule]) -> Iterator[tuple[str, str]]:
    return _values(rules, Policy.FORCED)


def _values(rules: Sequence[EnvironmentRule], policy: Policy) -> Iterator[tuple[str, str]]:
    for rule in rules:
        if not rule.is_glob and rule.policy is policy and _rule(rule.pattern, rules) is rule:
            yield rule.pattern, rule.value


def _refuse_unusable(name: str, value: str) -> None:
    if not name or "=" in name or "\0" in name or not name.isprintable() or " " in name:
        raise BadInput(f"{name!r} is no name of an environment variable", hint="write NAME=VALUE")
    if "\0" in value:
        raise BadInput(f"the value of {name} holds a NUL character", hint="take it out")
