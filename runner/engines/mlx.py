"""MLX LM: its own server, as a native process in an environment of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runner.engines.base import Command, Metric, Mode, Plan, UnixEndpoint
from runner.engines.description import EngineDescription
from runner.engines.environment import EnvironmentRule, Policy
from runner.engines.flag_help import captured_help, from_help
from runner.engines.flags import FlagRules
from runner.engines.loghints import hint_from
from runner.engines.meanings import every_meaning
from runner.engines.mlx_hints import HINTS
from runner.engines.options import Options
from runner.engines.unsupported import refuse_unsupported
from runner.errors import BadInput

NAME = "mlx-lm"
TITLE = "MLX LM"
PROGRAM = Path(__file__).with_name("native_mlx.py")
"""Run as a file: its Python can import nothing of ours."""

SUPPORTED = frozenset(
    {
        *("context_size", "parallel", "batch_size", "kv_cache_dtype", "trust_remote_code"),
        *("draft_model", "draft_tokens", "lora", "chat_template", "reasoning_budget"),
    }
)
_INSTEAD = {
    "gpus": "a Mac has one GPU",
    "gpu_layers": "MLX keeps a model as a whole where the GPU reaches it",
    "memory_lock": "MLX keeps its memory wired by itself",
    "cache_type_k": "use `kv_cache_dtype`",
    "cache_type_v": "use `kv_cache_dtype`",
    "gpu_memory_utilization": "MLX takes what the context needs: use `context_size`",
    "max_batched_tokens": "use `batch_size`",
    "seed": "give it with each request",
    "tensor_parallel_size": "one instance runs on one machine: a Mac has one GPU",
    "quantization": "pull a quantized model, such as those of mlx-community",
    "hf_overrides": "its server takes config.json as it is",
    "tool_parser": "MLX LM reads tool calls by the model's chat template",
    "reasoning_parser": "MLX LM reads reasoning by the model's chat template",
}
_KV_BITS = {"auto": "", "int8": "8", "int4": "4"}
_NO_THINKING = '{"enable_thinking":false}'

_OWN = {
    "--model": "it starts the engine for one model",
    "--uds": "it says where the engine listens",
    "--host": "it says where the engine listens",
    "--port": "it says where the engine listens",
    "--served-model-name": "the name is the model's",
    "--context-size": "the option `context_size` says it",
    "--adapter-path": "the option `lora` says it",
    "--draft-model": "the option `draft_model` says it",
    "--chat-template": "it belongs to the model's artifact",
    "--chat-template-file": "it belongs to the model's artifact",
    "--allowed-origins": "browsers speak to the gateway alone",
    "--help": "the engine would end at once instead of serving",
    "-h": "the engine would end at once instead of serving",
}
_DANGEROUS = {
    "--trust-remote-code": "it runs code that comes with the model",
    "--pipeline": "it needs several machines: one instance runs on one",
}
_OPTIONS = {
    "--context-size": "context_size",
    "--adapter-path": "lora",
    "--draft-model": "draft_model",
    "--chat-template-file": "chat_template",
}
_SAYS = {
    "--decode-concurrency": ("parallel",),
    "--prefill-step-size": ("batch_size",),
    "--num-draft-tokens": ("draft_tokens",),
    "--kv-bits": ("kv_cache_dtype",),
}
"""Flags of which options of another name say the same."""
_NAMES = {
    "n_ctx": "context_size",
    "max_model_len": "context_size",
    "n_parallel": "parallel",
    "n_batch": "batch_size",
}

_HUB = "the runner pulls models"
_ONE_MACHINE = "one instance runs on one machine"
ENVIRONMENT_RULES = (
    EnvironmentRule("HF_HUB_OFFLINE", Policy.FORCED, _HUB, value="1"),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, _HUB)
        for name in ("HF_*", "HUGGINGFACE_*", "TRANSFORMERS_CACHE", "MLXLM_USE_MODELSCOPE")
    ),
    EnvironmentRule(
        "MLX_MPI_LIBNAME",
        Policy.FORBIDDEN,
        "it would put other code into the engine's own program",
    ),
    EnvironmentRule("PYTHON*", Policy.FORBIDDEN, "its Python is cut off from all others"),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, _ONE_MACHINE)
        for name in ("MLX_RANK", "MLX_WORLD_SIZE", "MLX_HOSTFILE", "MLX_JACCL_*", "MLX_IBV_*")
    ),
)


@dataclass(frozen=True, slots=True)
class MlxLm:
    """Safetensors and MLX's own quantizations, on Apple's GPUs, and on processors where slow will
    do. Without a limit of its own a request may fill the context."""

    description: EngineDescription

    @property
    def supported(self) -> frozenset[str]:
        return SUPPORTED

    @property
    def flag_rules(self) -> FlagRules:
        return flag_rules()

    @property
    def environment_rules(self) -> Sequence[EnvironmentRule]:
        return ENVIRONMENT_RULES

    @property
    def metrics(self) -> Mapping[Metric, str]:
        """Its server has none."""
        return {}

    @property
    def native_arguments(self) -> tuple[str, ...]:
        return ("-I", str(PROGRAM))

    def command(self, plan: Plan) -> Command:
        """Arguments after `native_arguments`. Raises BadInput that names the option."""
        refuse_unsupported(TITLE, plan.options, SUPPORTED, _INSTEAD)
        _refuse_unfit(plan)
        return Command((*_model(plan), *_options(plan.options), *_additions(plan), *plan.flags))

    def hint(self, log: Sequence[str]) -> str:
        return hint_from(log, HINTS)


def _model(plan: Plan) -> Iterator[str]:
    yield from ("--model", str(plan.model_folder))
    if isinstance(plan.listen, UnixEndpoint):
        yield from ("--uds", plan.listen.path)
    else:
        yield from ("--host", plan.listen.host, "--port", str(plan.listen.port))
    yield from ("--served-model-name", *plan.names)
    yield from ("--context-size", str(plan.context_size), "--max-tokens", str(plan.context_size))
    yield from ("--allowed-origins", "none")
    if plan.kv_bytes is not None:  # else it keeps the caches of the last ten prompts
        yield from ("--prompt-cache-bytes", str(plan.kv_bytes))


def _options(options: Options) -> Iterator[str]:
    if options.parallel is not None:
        yield from ("--decode-concurrency", str(options.parallel))
    if options.batch_size is not None:
        yield from ("--prefill-step-size", str(options.batch_size))
    if options.draft_tokens is not None:
        yield from ("--num-draft-tokens", str(options.draft_tokens))
    bits = _KV_BITS[options.kv_cache_dtype or "auto"]
    if bits:
        yield from ("--kv-bits", bits)
    if options.trust_remote_code:
        yield "--trust-remote-code"
    if options.reasoning_budget == 0:
        yield from ("--chat-template-args", _NO_THINKING)


def _additions(plan: Plan) -> Iterator[str]:
    if plan.draft_model is not None:
        yield from ("--draft-model", str(plan.draft_model))
    for adapter in plan.adapters:
        yield from ("--adapter-path", str(adapter.path))
    if plan.chat_template is not None:
        yield from ("--chat-template-file", str(plan.chat_template))


def _refuse_unfit(plan: Plan) -> None:
    options = plan.options
    if plan.mode is not Mode.COMPLETION:
        raise BadInput(
            f"{TITLE} has no mode {plan.mode}", hint="use vllm or llama.cpp for embeddings"
        )
    if len(plan.adapters) > 1:
        raise BadInput(
            f"lora names {len(plan.adapters)} adapters, {TITLE} takes one", hint="keep one of them"
        )
    if options.kv_cache_dtype not in {None, *_KV_BITS}:
        raise BadInput(
            f"kv_cache_dtype is {options.kv_cache_dtype!r}, which {TITLE} has not",
            hint=f"one of {', '.join(_KV_BITS)}",
        )
    if options.reasoning_budget not in {None, 0, -1}:
        raise BadInput(
            f"reasoning_budget is {options.reasoning_budget}, and {TITLE} can't count",
            hint="0 switches reasoning off, -1 leaves it to the model",
        )
    if options.draft_tokens is not None and plan.draft_model is None:
        raise BadInput("draft_tokens is set, but no draft model", hint="set draft_model too")
    if plan.mmproj is not None:
        raise BadInput(
            f"{TITLE} can't carry out mmproj", hint="its models bring what sees pictures"
        )


def rules_from(text: str) -> FlagRules:
    """The rules for the server that printed this `--help`: first our arguments', then its own."""
    known = from_help(text)
    free = [flag for flag in known if flag not in _OWN]
    names = {flag.removeprefix("--").replace("-", "_"): flag for flag in free}
    return FlagRules(
        known=known,
        own=_OWN,
        dangerous=_DANGEROUS,
        nested=names | _NAMES,
        options=_OPTIONS,
        says=every_meaning(text, _SAYS),
    )


@cache
def flag_rules() -> FlagRules:
    return rules_from(captured_help(NAME))
