"""llama.cpp: `llama-server`, in a container or as the xllamacpp wheel's native process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.engines.base import Command, Metric, Mode, Plan, UnixEndpoint
from runner.engines.description import EngineDescription
from runner.engines.environment import EnvironmentRule, Policy
from runner.engines.flags import FlagRules
from runner.engines.llamacpp_flags import flag_rules
from runner.engines.llamacpp_hints import HINTS
from runner.engines.loghints import hint_from
from runner.engines.options import Options, Switch
from runner.engines.unsupported import refuse_unsupported
from runner.errors import BadInput

_MODE_FLAGS: Mapping[Mode, tuple[str, ...]] = {
    Mode.COMPLETION: (),
    Mode.EMBEDDING: ("--embeddings",),
    Mode.RERANKING: ("--embeddings", "--reranking"),
}

_FLAGS: Mapping[str, str] = {
    "parallel": "--parallel",
    "batch_size": "--batch-size",
    "micro_batch_size": "--ubatch-size",
    "threads": "--threads",
    "threads_batch": "--threads-batch",
    "gpu_layers": "--gpu-layers",
    "cpu_moe_layers": "--n-cpu-moe",
    "split_mode": "--split-mode",
    "main_gpu": "--main-gpu",
    "rope_freq_base": "--rope-freq-base",
    "rope_freq_scale": "--rope-freq-scale",
    "rope_scaling": "--rope-scaling",
    "rope_scale": "--rope-scale",
    "flash_attention": "--flash-attn",
    "cache_type_k": "--cache-type-k",
    "cache_type_v": "--cache-type-v",
    "draft_tokens": "--spec-draft-n-max",
    "reasoning_parser": "--reasoning-format",
    "reasoning_budget": "--reasoning-budget",
    "seed": "--seed",
}
"""Options whose value is the flag's own."""

_LEFT_TO_ITSELF: Mapping[str, int] = {"gpu_layers": -1, "seed": -1}
"""A value that says: as llama.cpp would do by itself."""

_CARRIED_OUT_OTHERWISE = frozenset(
    {
        *("context_size", "gpus", "draft_model", "lora", "chat_template"),  # by the plan
        *("split", "memory_lock", "mmap"),
    }
)

_INSTEAD: Mapping[str, str] = {
    "tensor_parallel_size": "llama.cpp uses all the GPUs that it is given: choose with `gpus`",
    "pipeline_parallel_size": "llama.cpp spreads layers over its GPUs by itself: see `split_mode`",
    "gpu_memory_utilization": "llama.cpp measures itself what fits: see `gpu_layers`",
    "max_batched_tokens": "use `batch_size`",
    "cpu_offload_gb": "use `gpu_layers` or `cpu_moe_layers`",
    "kv_cache_dtype": "use `cache_type_k` and `cache_type_v`",
    "dtype": "a GGUF file has its types in itself",
    "quantization": "a GGUF file is quantized as it is: pull another one",
    "enforce_eager": "llama.cpp has no such mode",
    "trust_remote_code": "a GGUF file holds no code",
    "tool_parser": "llama.cpp reads tool calls by the model's chat template",
    "hf_overrides": "a GGUF file has no config.json: pass the flag --override-kv",
}

_CACHE_TYPES = frozenset({"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"})
_EXACT_CACHE_TYPES = frozenset({"f32", "f16", "bf16"})
_REASONING_FORMATS = frozenset({"none", "auto", "deepseek", "deepseek-legacy"})
_MAX_SEED = 2**32 - 1

_FLAGS_INSTEAD = "it is a flag that nobody checks: give the flag itself"
_DOWNLOADS = "the runner pulls models, and checks what it pulled"
_OTHER_MODES = "the runner starts one server for a model, and no router is above it"
_TOLD = "it tells every client what the others ask"
_GATEWAY = "it would change where the engine listens, and its paths"

ENVIRONMENT_RULES = (
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, _FLAGS_INSTEAD)
        for name in ("LLAMA_ARG_*", "MTMD_BACKEND_DEVICE")
    ),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, _OTHER_MODES)
        for name in ("LLAMA_SERVER_ROUTER_*", "LLAMA_SERVER_CHILD_*")
    ),
    EnvironmentRule("LLAMA_SERVER_SLOTS_DEBUG", Policy.FORBIDDEN, _TOLD),
    EnvironmentRule("AIP_*", Policy.FORBIDDEN, _GATEWAY),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, _DOWNLOADS)
        for name in ("MODEL_ENDPOINT", "HF_*", "HUGGINGFACE_*", "LLAMA_CACHE")
    ),
    EnvironmentRule(
        "GGML_BACKEND_PATH",
        Policy.FORBIDDEN,
        "it would put other code into the engine's own program",
    ),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, "`gpus` says which GPUs the engine is given")
        for name in ("GGML_VK_VISIBLE_DEVICES", "GGML_METAL_DEVICES", "GGML_HEXAGON_DEVICES")
    ),
    EnvironmentRule(
        "NO_COLOR", Policy.DEFAULT, "the runner reads the engine's log as it is", value="1"
    ),
)


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """GGUF models on CPUs and GPUs. It places layers by itself (`--fit`) until somebody sets them.

    It gets one name alone: of several it reports the first by alphabet, whatever was asked for.
    """

    description: EngineDescription

    @property
    def supported(self) -> frozenset[str]:
        return frozenset(_FLAGS) | _CARRIED_OUT_OTHERWISE

    @property
    def flag_rules(self) -> FlagRules:
        return flag_rules()

    @property
    def environment_rules(self) -> Sequence[EnvironmentRule]:
        return ENVIRONMENT_RULES

    @property
    def metrics(self) -> Mapping[Metric, str]:
        return {
            Metric.REQUESTS_RUNNING: "llamacpp:requests_processing",
            Metric.REQUESTS_WAITING: "llamacpp:requests_deferred",
            Metric.PROMPT_TOKENS: "llamacpp:prompt_tokens_total",
            Metric.GENERATED_TOKENS: "llamacpp:tokens_predicted_total",
        }

    @property
    def native_arguments(self) -> tuple[str, ...]:
        return ()

    def command(self, plan: Plan) -> Command:
        """Raises BadInput for an option that llama.cpp can't carry out, or not together with
        another one or these GPUs."""
        refuse_unsupported("llama.cpp", plan.options, self.supported, _INSTEAD)
        _refuse_unfit(plan)
        return Command((*_model(plan), *_options(plan.options), *_additions(plan), *plan.flags))

    def hint(self, log: Sequence[str]) -> str:
        return hint_from(log, HINTS)


def _model(plan: Plan) -> Iterator[str]:
    yield from ("--model", str(plan.model_file))
    if isinstance(plan.listen, UnixEndpoint):
        yield from ("--host", plan.listen.path)
    else:
        yield from ("--host", plan.listen.host, "--port", str(plan.listen.port))
    yield from ("--alias", plan.names[0])
    yield from ("--ctx-size", str(plan.context_size))
    yield from ("--jinja", "--metrics", "--no-webui")
    yield from _MODE_FLAGS[plan.mode]


def _options(options: Options) -> Iterator[str]:
    for name, flag in _FLAGS.items():
        value = getattr(options, name)
        if value is not None and value != _LEFT_TO_ITSELF.get(name):
            yield from (flag, str(value))
    if options.parallel is not None and options.parallel > 1:
        yield "--kv-unified"  # else each of them got a part of the context alone
    if options.split:
        yield from ("--tensor-split", ",".join(str(share) for share in options.split))
    load_mode = _load_mode(options)
    if load_mode:
        yield from ("--load-mode", load_mode)


def _load_mode(options: Options) -> str:
    """llama.cpp has one flag for both; "" leaves it as it is."""
    if options.memory_lock:
        return "mlock" if options.mmap is False else "mmap+mlock"
    if options.mmap is None:
        return ""
    return "mmap" if options.mmap else "none"


def _additions(plan: Plan) -> Iterator[str]:
    if plan.chat_template is not None:
        yield from ("--chat-template-file", str(plan.chat_template))
    if plan.mmproj is not None:
        yield from ("--mmproj", str(plan.mmproj))
    if plan.draft_model is not None:
        yield from ("--spec-draft-model", str(plan.draft_model))
        if "--spec-type" not in plan.flags:  # without one it is loaded, and not used
            yield from ("--spec-type", "draft-simple")
    if plan.adapters:
        yield from ("--lora", ",".join(_in_row(str(one.path)) for one in plan.adapters))


def _in_row(text: str) -> str:
    """One value of a row of comma-separated values."""
    if "," not in text and not text.startswith('"'):
        return text
    return '"' + text.replace('"', '""') + '"'


def _refuse_unfit(plan: Plan) -> None:
    options = plan.options
    for name, value, words in (
        ("cache_type_k", options.cache_type_k, _CACHE_TYPES),
        ("cache_type_v", options.cache_type_v, _CACHE_TYPES),
        ("reasoning_parser", options.reasoning_parser, _REASONING_FORMATS),
    ):
        if value is not None and value not in words:
            one_of = ", ".join(sorted(words))
            raise BadInput(f"{name} is {value!r}, which llama.cpp has not", hint=f"one of {one_of}")
    quantized = options.cache_type_v not in {None, *_EXACT_CACHE_TYPES}
    if quantized and options.flash_attention is Switch.OFF:
        raise BadInput(
            f"cache_type_v {options.cache_type_v} needs flash attention, which is off",
            hint="set flash_attention to auto, or cache_type_v to f16",
        )
    if options.rope_scale is not None and options.rope_freq_scale is not None:
        raise BadInput(
            "rope_scale and rope_freq_scale are both set: each is one divided by the other",
            hint="keep one of them",
        )
    if options.draft_tokens is not None and plan.draft_model is None:
        raise BadInput("draft_tokens is set, but no draft model", hint="set draft_model too")
    if options.seed is not None and options.seed > _MAX_SEED:
        raise BadInput(f"seed is {options.seed}", hint=f"llama.cpp takes up to {_MAX_SEED}")
    _refuse_missing_gpus(options, plan.gpu_count)


def _refuse_missing_gpus(options: Options, gpus: int) -> None:
    if not gpus:
        return
    if len(options.split) > gpus:
        raise BadInput(
            f"split has {len(options.split)} shares for {gpus} GPUs", hint="one share for each GPU"
        )
    if options.main_gpu is not None and options.main_gpu >= gpus:
        raise BadInput(
            f"main_gpu is {options.main_gpu}, of {gpus} GPUs",
            hint=f"they are counted from 0: up to {gpus - 1}",
        )
