"""transformers: its own server, in a container, for safetensors and PyTorch's own format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from runner.engines.base import Command, Metric, Mode, Plan, UnixEndpoint
from runner.engines.description import EngineDescription
from runner.engines.environment import EnvironmentRule, Policy
from runner.engines.flag_help import captured_help, from_help
from runner.engines.flags import FlagRules
from runner.engines.loghints import hint_from
from runner.engines.meanings import every_meaning
from runner.engines.options import Options, Switch
from runner.engines.transformers_hints import HINTS
from runner.engines.unsupported import refuse_unsupported
from runner.errors import BadInput

TITLE = "transformers"
SUPPORTED = frozenset(
    {
        *("context_size", "threads", "gpus", "dtype", "seed", "trust_remote_code"),
        *("flash_attention", "max_batched_tokens", "gpu_memory_utilization"),
        *("chat_template", "reasoning_budget"),
    }
)
_ALONE = "transformers serves one request after the other"
_INSTEAD = {
    "parallel": f"{_ALONE}: pass the flag --continuous-batching, or use another engine",
    "batch_size": f"{_ALONE}: use `max_batched_tokens`, or another engine",
    "tensor_parallel_size": "transformers spreads layers over all the GPUs that it is given",
    "pipeline_parallel_size": "transformers spreads layers over all the GPUs that it is given",
    "quantization": "its images hold no package for it: pull a quantized model",
    "draft_model": "its server has no draft models: use vllm or llama.cpp",
    "lora": "its server has no adapters: use vllm or llama.cpp",
    "hf_overrides": "its server takes config.json as it is: use vllm",
    "tool_parser": "transformers reads tool calls by the model's chat template",
    "reasoning_parser": "transformers reads reasoning by the model's chat template",
}
_ATTENTION = {Switch.ON: "sdpa", Switch.OFF: "eager"}
"""PyTorch's own attention has the flash kernels in it."""
_REASONING = {0: "off", -1: "on"}

_OWN = {
    "--uds": "it says where the engine listens",
    "--host": "it says where the engine listens",
    "--port": "it says where the engine listens",
    "--served-model-name": "the name is the model's",
    "--context-size": "the option `context_size` says it",
    "--chat-template": "it belongs to the model's artifact",
    "--model-timeout": "the runner unloads models",
    "--enable-cors": "browsers speak to the gateway alone",
    "--no-enable-cors": "browsers speak to the gateway alone",
    "--help": "the engine would end at once instead of serving",
}
_DANGEROUS = {
    "--trust-remote-code": "it runs code that comes with the model",
    "--no-trust-remote-code": "the option `trust_remote_code` says it",
    "--decision-config": "it makes the engine read a file that is not the model's",
}
_OPTIONS = {"--context-size": "context_size", "--chat-template": "chat_template"}
_SAYS = {
    "--default-seed": ("seed",),
    "--attn-implementation": ("flash_attention",),
    "--reasoning": ("reasoning_budget",),
    "--cb-max-batch-tokens": ("max_batched_tokens",),
    "--cb-max-memory-percent": ("gpu_memory_utilization",),
}
"""Flags of which options of another name say the same."""
_NAMES = {"n_ctx": "context_size", "max_model_len": "context_size", "n_threads": "threads"}

_HUB = "the runner pulls models; engines have no network"
ENVIRONMENT_RULES = (
    EnvironmentRule("HF_HUB_OFFLINE", Policy.FORCED, _HUB, value="1"),
    EnvironmentRule("HF_*", Policy.FORBIDDEN, _HUB),
    EnvironmentRule("TRANSFORMERS_CACHE", Policy.FORBIDDEN, _HUB),
    *(
        EnvironmentRule(name, Policy.FORBIDDEN, "an instance is one process on one machine")
        for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_*", "TORCHELASTIC_*")
    ),
    EnvironmentRule(
        "OMP_WAIT_POLICY",
        Policy.DEFAULT,
        "threads that wait for others leave the processor to them",
        value="PASSIVE",
    ),
)


@dataclass(frozen=True, slots=True)
class Transformers:
    """Whatever transformers knows, one request after the other: the slowest, and the first to
    know a new architecture. It spreads a model over all the GPUs that it is given."""

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
        return ()

    def command(self, plan: Plan) -> Command:
        """Arguments for the images' entrypoint. Raises BadInput that names the option."""
        refuse_unsupported(TITLE, plan.options, SUPPORTED, _INSTEAD)
        _refuse_unfit(plan)
        arguments = (*_model(plan), *_listen(plan), *_options(plan.options), *plan.flags)
        threads = plan.options.threads
        return Command(arguments, {"OMP_NUM_THREADS": str(threads)} if threads else {})

    def hint(self, log: Sequence[str]) -> str:
        return hint_from(log, HINTS)


def _model(plan: Plan) -> Iterator[str]:
    yield str(plan.model_folder)
    yield from ("--served-model-name", *plan.names)
    yield from ("--context-size", str(plan.context_size))
    if plan.chat_template is not None:
        yield from ("--chat-template", str(plan.chat_template))


def _listen(plan: Plan) -> tuple[str, ...]:
    if isinstance(plan.listen, UnixEndpoint):
        return ("--uds", plan.listen.path)
    return ("--host", plan.listen.host, "--port", str(plan.listen.port))


def _options(options: Options) -> Iterator[str]:
    if options.dtype is not None:
        yield from ("--dtype", options.dtype)
    if options.seed is not None and options.seed >= 0:
        yield from ("--default-seed", str(options.seed))
    if options.trust_remote_code:
        yield "--trust-remote-code"
    if options.flash_attention in _ATTENTION:
        yield from ("--attn-implementation", _ATTENTION[options.flash_attention])
    if options.reasoning_budget is not None:
        yield from ("--reasoning", _REASONING[options.reasoning_budget])
    yield from _batching(options)


def _batching(options: Options) -> Iterator[str]:
    """Both belong to continuous batching, and are ignored without it."""
    named = {
        "--cb-max-batch-tokens": options.max_batched_tokens,
        "--cb-max-memory-percent": options.gpu_memory_utilization,
    }
    given = {flag: value for flag, value in named.items() if value is not None}
    if given:
        yield "--continuous-batching"
    for flag, value in given.items():
        yield from (flag, str(value))


def _refuse_unfit(plan: Plan) -> None:
    if plan.mode is not Mode.COMPLETION:
        raise BadInput(
            f"{TITLE} has no mode {plan.mode}", hint="use vllm or llama.cpp for embeddings"
        )
    budget = plan.options.reasoning_budget
    if budget is not None and budget not in _REASONING:
        raise BadInput(
            f"reasoning_budget is {budget}, and {TITLE} can't count",
            hint="0 switches reasoning off, -1 on",
        )
    if plan.draft_model is not None or plan.adapters or plan.mmproj is not None:
        extra = "draft_model" if plan.draft_model else "lora" if plan.adapters else "mmproj"
        raise BadInput(f"{TITLE} can't carry out {extra}", hint=_INSTEAD.get(extra, "take it out"))


def rules_from(text: str) -> FlagRules:
    """The rules for the server that printed this `--help`: first our arguments', then its own."""
    known = from_help(text.replace(" / --", ", --"))
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
    return rules_from(captured_help(TITLE))
