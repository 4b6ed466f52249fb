"""What an engine is: the facts it states and the pure step from a plan to a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from runner.engines.options import Options

if TYPE_CHECKING:
    from runner.engines.description import EngineDescription
    from runner.engines.environment import EnvironmentRule
    from runner.engines.flags import FlagRules


class Mode(StrEnum):
    """What an instance is started for."""

    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANKING = "reranking"


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    """An HTTP server on a Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """An HTTP server on a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}"


Endpoint = UnixEndpoint | TcpEndpoint


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter: its name in requests, and its file or folder as the engine sees it."""

    name: str
    path: PurePosixPath


CACHE_FOLDER = PurePosixPath("/cache")
"""Inside a container."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One instance as the engine shall see it; every path is a path inside the engine's world.

    `model_file` is the weights' first file, `model_folder` what it lies in. `names` are the model
    names that the engine answers to, the first one being the name it reports. `architecture` is
    the model's own word for itself, such as `Qwen3ForCausalLM` or `llama`. `context_size` is in
    tokens, decided by the runner whatever `options` say, and `kv_bytes` what its KV cache takes,
    None where that could not be found out. `gpu_count` is how many GPUs the engine
    is given. `cache_folder` is for what the engine compiles. `flags` are a user's own, passed
    through last.
    """

    model_file: PurePosixPath
    model_folder: PurePosixPath
    listen: Endpoint
    context_size: int
    names: Sequence[str]
    kv_bytes: int | None = None
    mode: Mode = Mode.COMPLETION
    architecture: str = ""
    options: Options = field(default_factory=Options)
    gpu_count: int = 0
    cache_folder: PurePosixPath = CACHE_FOLDER
    chat_template: PurePosixPath | None = None
    mmproj: PurePosixPath | None = None
    draft_model: PurePosixPath | None = None
    adapters: Sequence[Adapter] = ()
    flags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """Arguments after the program's own name, and the environment they need."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


class Metric(StrEnum):
    """What the runner calls an engine's own figures."""

    REQUESTS_RUNNING = "requests_running"
    REQUESTS_WAITING = "requests_waiting"
    PROMPT_TOKENS = "prompt_tokens_total"
    GENERATED_TOKENS = "generated_tokens_total"
    KV_CACHE_USAGE = "kv_cache_usage_ratio"
    TIME_TO_FIRST_TOKEN = "time_to_first_token_seconds"  # noqa: S105 - no password


class Engine(Protocol):
    """An inference server program, known by facts and pure functions only.

    Those that ship are made of what their engine.yaml says: `Vllm(description)`. Their
    `environment_rules` stand before `environment.COMMON_RULES`, which hold for all.
    """

    @property
    def description(self) -> EngineDescription:
        """What its engine.yaml says: name, formats, modes, variants, health path."""
        ...

    @property
    def supported(self) -> frozenset[str]:
        """Names of the `Options` that it has a way to carry out."""
        ...

    @property
    def flag_rules(self) -> FlagRules:
        """Which flags a user may pass through, and under which other names."""
        ...

    @property
    def environment_rules(self) -> Sequence[EnvironmentRule]:
        """Which environment variables are forced, have a default, or are forbidden."""
        ...

    @property
    def metrics(self) -> Mapping[Metric, str]:
        """Its own names, at `/metrics`, for what the runner counts."""
        ...

    @property
    def native_arguments(self) -> tuple[str, ...]:
        """What the Python of its own environment is given before the command's arguments; empty
        where it has no variant of that form."""
        ...

    def command(self, plan: Plan) -> Command:
        """Pure. Raises BadInput for a plan that this engine can't carry out."""
        ...

    def hint(self, log: Sequence[str]) -> str:
        """The next step for a person, read from an engine's last log lines; "" where unknown."""
        ...
