"""vLLM: its OpenAI server, in a container, for safetensors on GPUs and CPUs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.engines.base import Command, Metric, Mode, Plan, UnixEndpoint
from runner.engines.description import EngineDescription
from runner.engines.environment import EnvironmentRule
from runner.engines.flags import FlagRules
from runner.engines.gpus import cut
from runner.engines.loghints import hint_from
from runner.engines.options import Options
from runner.engines.vllm_flags import ENVIRONMENT, flag_rules
from runner.engines.vllm_hints import HINTS
from runner.engines.vllm_overrides import config_overrides, route_overrides
from runner.engines.vllm_parsers import reasoning_parser, tool_parser
from runner.engines.vllm_targets import has_kernels
from runner.errors import BadInput

SUPPORTED = frozenset(
    {
        *("context_size", "parallel", "batch_size", "max_batched_tokens", "threads", "gpus"),
        *("tensor_parallel_size", "pipeline_parallel_size", "gpu_memory_utilization"),
        *("cpu_offload_gb", "mmap", "kv_cache_dtype", "dtype", "quantization", "enforce_eager"),
        *("rope_freq_base", "rope_scaling", "rope_scale", "hf_overrides", "seed"),
        *("draft_model", "draft_tokens", "lora", "trust_remote_code"),
        *("chat_template", "tool_parser", "reasoning_parser"),
    }
)
METRICS = {
    Metric.REQUESTS_RUNNING: "vllm:num_requests_running",
    Metric.REQUESTS_WAITING: "vllm:num_requests_waiting",
    Metric.PROMPT_TOKENS: "vllm:prompt_tokens_total",
    Metric.GENERATED_TOKENS: "vllm:generation_tokens_total",
    Metric.KV_CACHE_USAGE: "vllm:kv_cache_usage_perc",
    Metric.TIME_TO_FIRST_TOKEN: "vllm:time_to_first_token_seconds",
}

DRAFT_TOKENS = 5
"""Tokens guessed at a time where nobody says: vLLM wants a number."""
LORA_RANK = 64
"""The highest rank of a common adapter: vLLM's own default of 16 refuses many of them."""
KV_BLOCK = 128
"""Tokens in a block of the KV cache on CPUs. One block always stays empty."""
GIB = 1 << 30

_RUNNERS = {Mode.COMPLETION: "generate", Mode.EMBEDDING: "pooling", Mode.RERANKING: "pooling"}
_WHOLE_FLOATS = frozenset({"float", "float32"})
_WITH_VALUES = (
    ("parallel", "--max-num-seqs"),
    ("gpu_memory_utilization", "--gpu-memory-utilization"),
    ("cpu_offload_gb", "--cpu-offload-gb"),
    ("dtype", "--dtype"),
    ("quantization", "--quantization"),
    ("kv_cache_dtype", "--kv-cache-dtype"),
    ("seed", "--seed"),
)


@dataclass(frozen=True, slots=True)
class Vllm:
    """Safetensors models for many users at once. On CPUs it never compiles, and its KV cache has
    the size of one whole context, unless the variable VLLM_CPU_KVCACHE_SPACE says how many GiB."""

    description: EngineDescription

    @property
    def supported(self) -> frozenset[str]:
        return SUPPORTED

    @property
    def flag_rules(self) -> FlagRules:
        return flag_rules()

    @property
    def environment_rules(self) -> Sequence[EnvironmentRule]:
        return ENVIRONMENT

    @property
    def metrics(self) -> Mapping[Metric, str]:
        return METRICS

    @property
    def native_arguments(self) -> tuple[str, ...]:
        return ()

    def has_kernels(self, quantization: str, target: str) -> bool:
        return has_kernels(quantization, target)

    def command(self, plan: Plan) -> Command:
        """Arguments for the images' entrypoint. Raises BadInput that names the option."""
        routed = route_overrides(plan.options.hf_overrides)
        options = plan.options.over(routed.options)
        _refuse_foreign(plan, options)
        _refuse_without_gpu(plan, options)
        context = routed.options.context_size or plan.context_size
        return Command(
            (
                *_model(plan, context),
                *_listen(plan),
                *_sizes(plan, options, context),
                *_places(plan, options),
                *_weights(options, config_overrides(routed.remaining, options)),
                *_chat(plan, options),
                *_extras(plan, options),
                *routed.flags,
                *plan.flags,
            ),
            _environment(plan, options),
        )

    def hint(self, log: Sequence[str]) -> str:
        return hint_from(log, HINTS)


def _model(plan: Plan, context: int) -> Iterator[str]:
    yield from ("--model", str(plan.model_folder))
    yield from ("--served-model-name", *plan.names)
    yield from ("--runner", _RUNNERS[plan.mode])
    yield from ("--max-model-len", str(context))


def _listen(plan: Plan) -> Iterator[str]:
    if isinstance(plan.listen, UnixEndpoint):
        yield from ("--uds", plan.listen.path)
    else:
        yield from ("--host", plan.listen.host, "--port", str(plan.listen.port))
    # Both are asked for every few moments, and would drown what matters in the log.
    yield from ("--disable-access-log-for-endpoints", "/health,/metrics")


def _sizes(plan: Plan, options: Options, context: int) -> Iterator[str]:
    for name, flag in _WITH_VALUES:
        value = getattr(options, name)
        if value is not None:
            yield from (flag, str(value))
    batched = _batched_tokens(options)
    if batched is not None:
        yield from ("--max-num-batched-tokens", str(batched))
    if not plan.gpu_count and options.gpu_memory_utilization is None:
        yield from ("--kv-cache-memory-bytes", str(_kv_bytes(plan, options, context)))


def _batched_tokens(options: Options) -> int | None:
    """Two names for one thing; raises BadInput where they differ."""
    given = {options.batch_size, options.max_batched_tokens} - {None}
    if len(given) > 1:
        raise BadInput(
            "batch_size and max_batched_tokens are the same to vLLM, and differ", hint="keep one"
        )
    return given.pop() if given else None


def _kv_bytes(plan: Plan, options: Options, context: int) -> int:
    """One whole context in full blocks, and the empty one."""
    if plan.kv_bytes is None:
        return GIB
    blocks = -(-context // KV_BLOCK) + 1
    per_block = -(-plan.kv_bytes * KV_BLOCK // plan.context_size)
    return blocks * per_block * (2 if options.dtype in _WHOLE_FLOATS else 1)


def _places(plan: Plan, options: Options) -> Iterator[str]:
    """Raises BadInput for more shards than GPUs."""
    wanted = cut(options, plan.gpu_count)
    if wanted.gpus > max(plan.gpu_count, 1):
        name = "tensor_parallel_size" if wanted.tensor > 1 else "pipeline_parallel_size"
        raise BadInput(
            f"{name}: {wanted.gpus} GPUs are needed, and the engine gets {plan.gpu_count}",
            hint=f"lower {name}, or give it more GPUs with the option gpus",
        )
    if wanted.tensor > 1:
        yield from ("--tensor-parallel-size", str(wanted.tensor))
    if wanted.pipeline > 1:
        yield from ("--pipeline-parallel-size", str(wanted.pipeline))


def _weights(options: Options, overrides: Mapping[str, Any]) -> Iterator[str]:
    if options.mmap is not None:
        yield from ("--safetensors-load-strategy", "lazy" if options.mmap else "eager")
    if options.trust_remote_code:
        yield "--trust-remote-code"
    if overrides:
        yield from ("--hf-overrides", _json(overrides))


def _chat(plan: Plan, options: Options) -> Iterator[str]:
    if plan.mode is not Mode.COMPLETION:
        return
    if plan.chat_template is not None:
        yield from ("--chat-template", str(plan.chat_template))
    tools = tool_parser(plan.architecture, options.tool_parser)
    if tools:
        yield from ("--enable-auto-tool-choice", "--tool-call-parser", tools)
    reasoning = reasoning_parser(plan.architecture, options.reasoning_parser)
    if reasoning:
        yield from ("--reasoning-parser", reasoning)


def _extras(plan: Plan, options: Options) -> Iterator[str]:
    if not plan.gpu_count or options.enforce_eager:
        yield "--enforce-eager"
    if plan.adapters:
        yield from ("--enable-lora", "--max-loras", str(len(plan.adapters)))
        yield from ("--max-lora-rank", str(LORA_RANK), "--lora-modules")
        for adapter in plan.adapters:
            yield _json({"name": adapter.name, "path": str(adapter.path)})
    if plan.draft_model is not None:
        tokens = options.draft_tokens or DRAFT_TOKENS
        draft = {"model": str(plan.draft_model), "num_speculative_tokens": tokens}
        yield from ("--speculative-config", _json(draft))


def _environment(plan: Plan, options: Options) -> Mapping[str, str]:
    """vLLM binds its threads to cores by itself, unless it is told how many there shall be."""
    if options.threads is None:
        return {}
    bound = {} if plan.gpu_count else {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return {"OMP_NUM_THREADS": str(options.threads), **bound}


def _refuse_foreign(plan: Plan, options: Options) -> None:
    foreign = sorted(set(options.set_fields()) - SUPPORTED)
    if foreign:
        raise BadInput(
            f"vLLM has nothing like the option {', '.join(foreign)}",
            hint="take it out, or use llama.cpp with a GGUF of the model",
        )
    if plan.mmproj is not None:
        raise BadInput(
            "mmproj: vLLM reads no projector files", hint="use the model's own safetensors"
        )
    if options.draft_tokens is not None and plan.draft_model is None:
        raise BadInput("draft_tokens is set without a draft_model", hint="set draft_model as well")


def _refuse_without_gpu(plan: Plan, options: Options) -> None:
    if plan.gpu_count:
        return
    if options.cpu_offload_gb:
        raise BadInput("cpu_offload_gb needs a GPU to offload from", hint="take it out")
    if options.enforce_eager is False:
        raise BadInput(
            "enforce_eager: off means to compile, and the CPU image has no compiler",
            hint="take it out",
        )


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
