"""Which of vLLM's flags and variables a user may set, and why the others not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from runner.engines.environment import EnvironmentRule, Policy
from runner.engines.flag_help import captured_help, every_spelling, from_help
from runner.engines.flags import FlagRules
from runner.engines.meanings import every_meaning
from runner.engines.option_values import ALIASES


def _table(*rows: tuple[str, Iterable[str]]) -> Mapping[str, str]:
    return {f"--{flag}": reason for reason, flags in rows for flag in flags}


OWN = _table(
    ("it starts the engine for one model", ("model", "tokenizer", "hf-config-path")),
    ("the store has the revision that was pulled", ("revision", "code-revision")),
    ("the store has the revision that was pulled", ("tokenizer-revision", "download-dir")),
    ("the names are the model's", ("served-model-name",)),
    ("it says where the engine listens", ("uds", "host", "port", "grpc", "grpc-port")),
    ("the option `context_size` says it", ("max-model-len",)),
    ("the mode of the request decides it", ("runner",)),
    ("only the gateway checks keys", ("api-key",)),
    ("it belongs to the model's artifact", ("chat-template",)),
    ("the option `lora` says it", ("lora-modules", "enable-lora")),
    ("the option `draft_model` says it", ("spec-model",)),
    ("the option `hf_overrides` says it", ("hf-overrides",)),
    ("the option `gpus` says it", ("device-ids",)),
    ("the gateway knows the engine's paths", ("root-path",)),
    (
        "TLS ends at the gateway",
        ("ssl-keyfile", "ssl-certfile", "ssl-ca-certs", "ssl-cert-reqs", "ssl-ciphers"),
    ),
    ("TLS ends at the gateway", ("enable-ssl-refresh",)),
    (
        "browsers speak to the gateway alone",
        ("allow-credentials", "allowed-origins", "allowed-methods", "allowed-headers"),
    ),
    ("the flags stand in the configuration of the model", ("config",)),
    ("the runner starts one server for a model", ("headless", "api-server-count")),
    ("the engine would end at once instead of serving", ("help",)),
)

_CODE = "it loads other people's code into the engine"
_READS = "it makes the engine read files that are not the model's"
_WRITES = "it makes the engine write files"
_SENDS = "it makes the engine speak to other machines"
_CLIENTS = "it lets every client change what the engine runs or reads"

DANGEROUS = _table(
    (
        _CODE,
        (
            *("middleware", "tool-parser-plugin", "reasoning-parser-plugin", "worker-cls"),
            *("worker-extension-cls", "scheduler-cls", "logits-processors", "kv-transfer-config"),
            *("io-processor-plugin", "model-class-overrides", "ec-transfer-config"),
            # Its part reasoning_parser_plugin is a file of Python that is run.
            *("compilation-config", "structured-outputs-config"),
        ),
    ),
    (
        _CODE + ": use the options `draft_model` and `draft_tokens`",
        ("speculative-config", "spec-method"),  # custom_class is the name of any class
    ),
    (_CODE + ": the option `trust_remote_code` asks first", ("trust-remote-code",)),
    (_CLIENTS, ("trust-request-chat-template", "trust-request-mm-kwargs", "enable-prompt-embeds")),
    (_CLIENTS, ("enable-scale-out", "enable-sleep-mode", "weight-transfer-config")),
    (
        _READS,
        (
            *("allowed-local-media-path", "allowed-media-domains", "logging-config"),
            *("log-config-file", "generation-config", "default-mm-loras", "load-format"),
            "mm-encoder-fp8-scale-path",
        ),
    ),
    (_WRITES, ("profiler-config", "mm-encoder-fp8-scale-save-path")),
    (
        _SENDS,
        (
            *("otlp-traces-endpoint", "kv-events-config", "tool-server", "hf-token", "nnodes"),
            *("node-rank", "master-addr", "master-port", "data-parallel-address"),
            *("data-parallel-rpc-port", "data-parallel-backend", "distributed-executor-backend"),
        ),
    ),
    ("it writes what people ask into the log", ("enable-log-requests", "enable-log-outputs")),
    ("it writes what people ask into the log", ("enable-log-deltas",)),
)

OPTIONS = {
    "--max-model-len": "context_size",
    "--hf-overrides": "hf_overrides",
    "--chat-template": "chat_template",
}
"""Flags of the runner's own whose values are those of options."""

SAYS = {
    "--max-num-seqs": ("parallel",),
    "--max-num-batched-tokens": ("batch_size", "max_batched_tokens"),
    "--safetensors-load-strategy": ("mmap",),
    "--tool-call-parser": ("tool_parser",),
}
"""Flags of which options of another name say the same."""

IMPOSSIBLE = {
    "n_gpu_layers": "vLLM holds all layers on the GPUs; cpu_offload_gb moves some of them out",
    "gpu_layers": "vLLM holds all layers on the GPUs; cpu_offload_gb moves some of them out",
    "main_gpu": "vLLM spreads a model evenly: the option `gpus` says over which GPUs",
    "tensor_split": "vLLM spreads a model evenly: the option `gpus` says over which GPUs",
}

GONE = {
    "--use-v2-block-manager": "take it out: there is but one",
    "--speculative-model": "use the option `draft_model`",
    "--num-speculative-tokens": "use the option `draft_tokens`",
    "--swap-space": "use --kv-offloading-size",
    "--disable-log-requests": "take it out: requests are not logged",
    "--device": "`--gpu` chooses the variant",
    "--enable-reasoning": "use the option `reasoning_parser`",
    "--task": "the mode of the request decides it; --convert says how",
    "--guided-decoding-backend": "take it out: the engine picks one for each request",
    "--rope-scaling": "use the options `rope_scaling`, `rope_scale` and `rope_freq_base`",
    "--rope-theta": "use the options `rope_freq_base` and `rope_scaling`",
}
"""What vLLM once had → what to do instead."""

_OFFLINE = "the runner has pulled the model, and engines have no network"
_PRIVATE = "nothing is told to the engine's makers"
_LOCAL = "the engine's processes speak to each other inside its container alone"
_KERNELS = "compiled kernels are kept, where programs may run: not in /tmp"

ENVIRONMENT = (
    EnvironmentRule("HF_HUB_OFFLINE", Policy.FORCED, _OFFLINE, "1"),
    EnvironmentRule("TRANSFORMERS_OFFLINE", Policy.FORCED, _OFFLINE, "1"),
    EnvironmentRule("VLLM_NO_USAGE_STATS", Policy.FORCED, _PRIVATE, "1"),
    EnvironmentRule("VLLM_DO_NOT_TRACK", Policy.FORCED, _PRIVATE, "1"),
    EnvironmentRule("VLLM_HOST_IP", Policy.FORCED, _LOCAL, "127.0.0.1"),
    EnvironmentRule("VLLM_CACHE_ROOT", Policy.FORCED, _KERNELS, "/cache/vllm"),
    EnvironmentRule("TORCHINDUCTOR_CACHE_DIR", Policy.FORCED, _KERNELS, "/cache/torchinductor"),
    EnvironmentRule("TRITON_CACHE_DIR", Policy.FORCED, _KERNELS, "/cache/triton"),
    EnvironmentRule("GLOO_SOCKET_IFNAME", Policy.DEFAULT, _LOCAL, "lo"),
    EnvironmentRule("NCCL_SOCKET_IFNAME", Policy.DEFAULT, _LOCAL, "lo"),
    EnvironmentRule("VLLM_API_KEY", Policy.FORBIDDEN, "only the gateway checks keys"),
    EnvironmentRule("VLLM_PORT", Policy.FORBIDDEN, _LOCAL),
    EnvironmentRule("VLLM_RPC_BASE_PATH", Policy.FORBIDDEN, _LOCAL),
    EnvironmentRule("VLLM_USE_MODELSCOPE", Policy.FORBIDDEN, _OFFLINE),
    EnvironmentRule("HF_ENDPOINT", Policy.FORBIDDEN, _OFFLINE),
    EnvironmentRule("HF_HOME", Policy.FORBIDDEN, "the runner gives the engine folders of its own"),
    EnvironmentRule("VLLM_TARGET_DEVICE", Policy.FORBIDDEN, "`--gpu` chooses the variant"),
    EnvironmentRule("VLLM_PLUGINS", Policy.FORBIDDEN, _CODE),
    EnvironmentRule("VLLM_ALLOW_INSECURE_SERIALIZATION", Policy.FORBIDDEN, _CODE),
    EnvironmentRule("VLLM_SERVER_DEV_MODE", Policy.FORBIDDEN, _CLIENTS),
    EnvironmentRule("VLLM_ALLOW_RUNTIME_LORA_UPDATING", Policy.FORBIDDEN, _CLIENTS),
    EnvironmentRule("VLLM_LOGGING_CONFIG_PATH", Policy.FORBIDDEN, _READS),
    EnvironmentRule("VLLM_TORCH_PROFILER_DIR", Policy.FORBIDDEN, _WRITES),
)


def rules_from(text: str) -> FlagRules:
    """The rules for the vLLM that printed this `--help=all`."""
    known = from_help(text)
    return FlagRules(
        known=known,
        own=every_spelling(OWN, text),
        dangerous=every_spelling(DANGEROUS, text),
        nested=_names(known),
        impossible=IMPOSSIBLE,
        options=every_spelling(OPTIONS, text),
        gone=GONE,
        says=every_meaning(text, SAYS),
        dotted=True,
    )


def _names(known: Iterable[str]) -> Mapping[str, str]:
    """Its fields have the names of its flags; what other engines call the same is an option."""
    flags = {flag[2:].replace("-", "_"): flag for flag in known if flag.startswith("--")}
    options = {flag[2:].replace("-", "_"): name for flag, name in OPTIONS.items()}
    return {**flags, **{name: ALIASES[name] for name in _SHARED}, **options}


_SHARED = ("n_ctx", "ctx_size", "n_parallel", "n_batch", "n_threads", "use_mmap")


@cache
def flag_rules() -> FlagRules:
    return rules_from(captured_help("vllm"))
