"""What can be set for one instance, each a typed field; engines turn them into their own flags.

Every field is None (or empty) until somebody sets it: what is not set is the engine's, or the
runner's, to choose. The names are those of `runner configure` and of the settings file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any


class SplitMode(StrEnum):
    """How llama.cpp spreads a model over GPUs."""

    NONE = "none"
    LAYER = "layer"
    ROW = "row"
    TENSOR = "tensor"


class Switch(StrEnum):
    ON = "on"
    OFF = "off"
    AUTO = "auto"


class RopeScaling(StrEnum):
    NONE = "none"
    LINEAR = "linear"
    YARN = "yarn"


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes in tokens unless said otherwise. Paths are this host's, of files that are handed to
    the engine read-only. `gpu_layers` -1 leaves their number to the engine.

    `gpus` are indices or UUIDs of this host's GPUs, `split` the share of each. `draft_model` and
    `lora` name models of the store. `hf_overrides` changes fields of the model's config.json.
    """

    context_size: int | None = None
    parallel: int | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    threads: int | None = None
    threads_batch: int | None = None
    gpu_layers: int | None = None
    cpu_moe_layers: int | None = None
    gpus: tuple[str, ...] = ()
    split_mode: SplitMode | None = None
    split: tuple[float, ...] = ()
    main_gpu: int | None = None
    memory_lock: bool | None = None
    mmap: bool | None = None
    rope_freq_base: float | None = None
    rope_freq_scale: float | None = None
    rope_scaling: RopeScaling | None = None
    rope_scale: float | None = None
    flash_attention: Switch | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    draft_model: str | None = None
    draft_tokens: int | None = None
    lora: tuple[str, ...] = ()
    chat_template: str | None = None
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    reasoning_budget: int | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    gpu_memory_utilization: float | None = None
    max_batched_tokens: int | None = None
    cpu_offload_gb: float | None = None
    kv_cache_dtype: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    enforce_eager: bool | None = None
    trust_remote_code: bool | None = None
    seed: int | None = None
    hf_overrides: Mapping[str, Any] = field(default_factory=dict)

    def set_fields(self) -> tuple[str, ...]:
        """The names of all fields that somebody has set."""
        empty = Options()
        return tuple(
            one.name for one in fields(self) if getattr(self, one.name) != getattr(empty, one.name)
        )

    def over(self, below: Options) -> Options:
        """These where they are set, and `below` elsewhere: merged field by field."""
        return Options(
            **{one.name: getattr(below, one.name) for one in fields(self)}
            | {name: getattr(self, name) for name in self.set_fields()}
        )
