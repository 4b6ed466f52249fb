"""Flags on where and how the embedded llama.cpp computes, where they are more than one field."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from runner.engines.flag_names import truth

if TYPE_CHECKING:
    from xllamacpp import CommonParams, CommonParamsSpeculativeDraft, CpuParams

    Overridden: TypeAlias = CommonParams | CommonParamsSpeculativeDraft

Setter: TypeAlias = "Callable[[CommonParams, tuple[str, ...]], None]"

_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
_DENSE = r"\.ffn_(up|down|gate)\."
_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
_AUTO = frozenset({"auto", "-1"})
_LAYERS = {"auto": -1, "all": -2}
_MIB = 1024 * 1024
_UNBOUNDED = -1  # the greatest of its unsigned type


def _context(parameters: CommonParams, values: tuple[str, ...]) -> None:
    parameters.n_ctx = int(values[0])
    if parameters.n_ctx == 0:  # the model's whole context was asked for: `--fit` leaves it
        parameters.fit_params_min_ctx = _UNBOUNDED


def _parallel(parameters: CommonParams, values: tuple[str, ...]) -> None:
    if int(values[0]) == 0:
        raise ValueError("at least one, or -1")
    parameters.n_parallel = int(values[0])


def _listen(parameters: CommonParams, values: tuple[str, ...]) -> None:
    parameters.hostnames = [host.strip() for host in values[0].split(",") if host.strip()]


def _flash_attention(parameters: CommonParams, values: tuple[str, ...]) -> None:
    from xllamacpp import llama_flash_attn_type as kinds

    word = "AUTO" if values[0] in _AUTO else ("ENABLED" if truth("it", values[0]) else "DISABLED")
    parameters.flash_attn_type = kinds[f"LLAMA_FLASH_ATTN_TYPE_{word}"]


def _cache_type(name: str) -> Setter:
    def set_it(parameters: CommonParams, values: tuple[str, ...]) -> None:
        from xllamacpp import ggml_type

        if values[0] not in _CACHE_TYPES:
            raise ValueError(f"one of {', '.join(_CACHE_TYPES)}")
        holder = parameters.speculative.draft if name.startswith("draft.") else parameters
        kind = ggml_type[f"GGML_TYPE_{values[0].upper()}"]
        setattr(holder, name.removeprefix("draft."), kind)

    return set_it


def _layers(parameters: CommonParams, values: tuple[str, ...]) -> None:
    parameters.n_gpu_layers = _LAYERS.get(values[0]) or int(values[0])


def _draft_layers(parameters: CommonParams, values: tuple[str, ...]) -> None:
    parameters.speculative.draft.n_gpu_layers = _LAYERS.get(values[0]) or int(values[0])


def _tensor_split(parameters: CommonParams, values: tuple[str, ...]) -> None:
    shares = [float(share) for share in values[0].replace("/", ",").split(",")]
    present = parameters.tensor_split
    if len(shares) >= len(present):
        raise ValueError(f"fewer than {len(present)} shares")
    parameters.tensor_split = shares + [0.0] * (len(present) - len(shares))


def _fit_target(parameters: CommonParams, values: tuple[str, ...]) -> None:
    margins = [int(margin) * _MIB for margin in values[0].replace("/", ",").split(",")]
    present = parameters.fit_params_target
    if len(margins) >= len(present):
        raise ValueError(f"fewer than {len(present)} margins")
    rest = margins if len(margins) == 1 else present[:1]
    parameters.fit_params_target = margins + rest * (len(present) - len(margins))


def _rope_scale(parameters: CommonParams, values: tuple[str, ...]) -> None:
    scale = float(values[0])
    if not math.isfinite(scale) or scale <= 0:
        raise ValueError("a number over 0")
    parameters.rope_freq_scale = 1 / scale


def _add_overrides(holder: Overridden, text: str) -> None:
    holder.tensor_buft_overrides = ",".join(filter(None, (holder.tensor_buft_overrides, text)))


def _blocks(pattern: str, values: tuple[str, ...]) -> str:
    if int(values[0]) < 0:
        raise ValueError("none is less than 0")
    return ",".join(rf"blk\.{index}{pattern}=CPU" for index in range(int(values[0])))


def _mask(text: str, size: int) -> list[bool]:
    bits = int(text, 16)
    if not 0 <= bits < 2**size:
        raise ValueError(f"a mask of up to {size} bits")
    return [bool(bits >> index & 1) for index in range(size)]


def _range(text: str, size: int) -> list[bool]:
    low, dash, high = text.partition("-")
    first, last = int(low or 0), int(high or size - 1)
    if not dash or not 0 <= first <= last < size:
        raise ValueError(f"FIRST-LAST, up to {size - 1}")
    return [first <= index <= last for index in range(size)]


def _affinity(
    cpus: Callable[[CommonParams], CpuParams], read: Callable[[str, int], list[bool]]
) -> Setter:
    """A mask and a range complement each other."""

    def set_it(parameters: CommonParams, values: tuple[str, ...]) -> None:
        holder = cpus(parameters)
        wanted = read(values[0], len(holder.cpumask))
        holder.cpumask = [old or new for old, new in zip(holder.cpumask, wanted, strict=True)]
        holder.mask_valid = True

    return set_it


def _lora(parameters: CommonParams, values: tuple[str, ...]) -> None:
    _add_adapters(parameters, [(path, 1.0) for path in _row(values[0])])


def _scaled_lora(parameters: CommonParams, values: tuple[str, ...]) -> None:
    pairs = [item.split(":") for item in _row(values[0])]
    _add_adapters(parameters, [(path, float(scale)) for path, scale in pairs])


def _row(text: str) -> list[str]:
    try:
        return next(csv.reader([text]))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _add_adapters(parameters: CommonParams, adapters: list[tuple[str, float]]) -> None:
    from xllamacpp import CommonAdapterLoraInfo

    added = [CommonAdapterLoraInfo(path, scale) for path, scale in adapters]
    parameters.lora_adapters = [*parameters.lora_adapters, *added]


def _add_types(parameters: CommonParams, words: list[str]) -> None:
    from xllamacpp import common_speculative_type as kinds

    added = [
        kinds[f"COMMON_SPECULATIVE_TYPE_{word.strip().upper().replace('-', '_')}"] for word in words
    ]
    parameters.speculative.types = [*parameters.speculative.types, *added]


def _default_draft(parameters: CommonParams, _: tuple[str, ...]) -> None:
    _add_types(parameters, ["ngram-mod"])
    ngram = parameters.speculative.ngram_mod
    ngram.n_match, ngram.n_min, ngram.n_max = 24, 48, 64


def _projector_device(parameters: CommonParams, values: tuple[str, ...]) -> None:
    if values[0] == "none":
        parameters.mmproj_use_gpu = False
    else:
        parameters.mmproj_device = values[0]


COMPUTE: Mapping[str, Setter] = {
    "--ctx-size": _context,
    "--parallel": _parallel,
    "--host": _listen,
    "--flash-attn": _flash_attention,
    "--cache-type-k": _cache_type("cache_type_k"),
    "--cache-type-v": _cache_type("cache_type_v"),
    "--spec-draft-type-k": _cache_type("draft.cache_type_k"),
    "--spec-draft-type-v": _cache_type("draft.cache_type_v"),
    "--gpu-layers": _layers,
    "--spec-draft-ngl": _draft_layers,
    "--tensor-split": _tensor_split,
    "--fit-target": _fit_target,
    "--rope-scale": _rope_scale,
    "--override-tensor": lambda to, values: _add_overrides(to, values[0]),
    "--cpu-moe": lambda to, _: _add_overrides(to, f"{_EXPERTS}=CPU"),
    "--n-cpu-moe": lambda to, values: _add_overrides(to, _blocks(_EXPERTS, values)),
    "--n-cpu-ffn": lambda to, values: _add_overrides(to, _blocks(_DENSE, values)),
    "--spec-draft-override-tensor": lambda to, values: _add_overrides(
        to.speculative.draft, values[0]
    ),
    "--spec-draft-cpu-moe": lambda to, _: _add_overrides(to.speculative.draft, f"{_EXPERTS}=CPU"),
    "--spec-draft-n-cpu-moe": lambda to, values: _add_overrides(
        to.speculative.draft, _blocks(_EXPERTS, values)
    ),
    "--cpu-mask": _affinity(lambda to: to.cpuparams, _mask),
    "--cpu-range": _affinity(lambda to: to.cpuparams, _range),
    "--cpu-mask-batch": _affinity(lambda to: to.cpuparams_batch, _mask),
    "--cpu-range-batch": _affinity(lambda to: to.cpuparams_batch, _range),
    "--spec-draft-cpu-mask": _affinity(lambda to: to.speculative.draft.cpuparams, _mask),
    "--spec-draft-cpu-range": _affinity(lambda to: to.speculative.draft.cpuparams, _range),
    "--spec-draft-cpu-mask-batch": _affinity(
        lambda to: to.speculative.draft.cpuparams_batch, _mask
    ),
    "--lora": _lora,
    "--lora-scaled": _scaled_lora,
    "--mmproj-device": _projector_device,
    "--spec-type": lambda to, values: _add_types(to, values[0].split(",")),
    "--spec-default": _default_draft,
    "--spec-synth-rates": lambda to, values: setattr(
        to.speculative, "synth_rates", [float(rate) for rate in values[0].split(",")]
    ),
}
"""A flag's name as the table of fields has it → how it is set."""
