"""Which of llama-server's flags a user may pass through, and why the others not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from runner.engines.flag_help import captured_help, every_spelling, from_help
from runner.engines.flags import FlagRules
from runner.engines.llamacpp_fields import IMPOSSIBLE, NAMES
from runner.engines.meanings import every_meaning


def _table(*rows: tuple[str, Iterable[str]]) -> Mapping[str, str]:
    return {f"--{flag}": reason for reason, flags in rows for flag in flags}


OWN = _table(
    ("it starts the engine for one model", ("model",)),
    ("it says where the engine listens", ("host", "port", "reuse-port")),
    ("the name is the model's", ("alias",)),
    ("the option `context_size` says it", ("ctx-size",)),
    ("the mode of the request decides it", ("embedding", "reranking")),
    ("only the gateway checks keys", ("api-key", "api-key-file")),
    ("TLS ends at the gateway", ("ssl-key-file", "ssl-cert-file")),
    ("the gateway knows the engine's paths", ("api-prefix",)),
    (
        "browsers speak to the gateway alone",
        ("cors-origins", "cors-methods", "cors-headers", "cors-credentials"),
    ),
    ("it belongs to the model's artifact", ("mmproj", "chat-template-file")),
    ("the option `lora` says it", ("lora", "lora-scaled")),
    ("the option `draft_model` says it", ("spec-draft-model",)),
    (
        "the runner chooses the model, one for each engine",
        ("models-dir", "models-preset", "models-max", "models-autoload"),
    ),
    (
        "the runner reads the engine's log as it is",
        ("log-disable", "log-jsonl", "log-colors", "log-prefix", "log-timestamps"),
    ),
    (
        "the engine would end at once instead of serving",
        ("help", "version", "list-devices", "cache-list", "completion-bash"),
    ),
)

_DOWNLOADS = "the runner pulls models, and checks what it pulled"
_READS = "it makes the engine read a file that is not the model's"
_WRITES = "it makes the engine write files"
_RUNS = "it lets a model start programs, or reach the network"

DANGEROUS = _table(
    (
        _DOWNLOADS,
        ("model-url", "docker-repo", "hf-repo", "hf-file", "hf-token", "mmproj-url"),
    ),
    (
        _DOWNLOADS,
        (
            *("spec-draft-hf", "embd-gemma-default", "gpt-oss-20b-default", "gpt-oss-120b-default"),
            *("fim-qwen-1.5b-default", "fim-qwen-3b-default", "fim-qwen-7b-default"),
            *("fim-qwen-7b-spec", "fim-qwen-14b-spec", "fim-qwen-30b-default"),
            *("vision-gemma-4b-default", "vision-gemma-12b-default"),
        ),
    ),
    (
        _READS,
        (
            *("grammar-file", "json-schema-file", "lookup-cache-static", "control-vector"),
            *("control-vector-scaled", "media-path", "path", "ui-config-file"),
        ),
    ),
    (_WRITES, ("lookup-cache-dynamic", "log-file", "log-prompts-dir", "slot-save-path")),
    (
        _RUNS,
        (
            *("tools", "tools-runtime", "agent", "mcp-servers-config", "mcp-servers-json"),
            *("ui-mcp-proxy", "video-ffmpeg-dir"),
        ),
    ),
    ("it hands work and data to other machines, unencrypted", ("rpc",)),
    ("it lets every client change what holds for all", ("props",)),
)

_SAYS: Mapping[str, tuple[str, ...]] = {
    "--ubatch-size": ("micro_batch_size",),
    "--n-cpu-moe": ("cpu_moe_layers",),
    "--cpu-moe": ("cpu_moe_layers",),
    "--tensor-split": ("split",),
    "--load-mode": ("mmap", "memory_lock"),
    "--flash-attn": ("flash_attention",),
    "--spec-draft-n-max": ("draft_tokens",),
    "--reasoning-format": ("reasoning_parser",),
}
"""Flags of which options of another name say the same."""

_LOAD_MODE = "use the options `mmap` and `memory_lock`, or --load-mode"
_CHOOSE = "use the option `draft_tokens`, or --spec-draft-n-max"

GONE: Mapping[str, str] = {
    **dict.fromkeys(("--mlock", "--mmap", "--no-mmap"), _LOAD_MODE),
    **dict.fromkeys(("--direct-io", "-dio", "--no-direct-io", "-ndio"), _LOAD_MODE),
    **dict.fromkeys(("--draft", "--draft-n", "--draft-max", "--draft-n-max"), _CHOOSE),
    **dict.fromkeys(("--draft-min", "--draft-n-min"), "use --spec-draft-n-min"),
    **dict.fromkeys(("--ctx-size-draft", "-cd"), "a draft model has the model's own context"),
    "--no-metrics": "the runner reads the engine's metrics, so they are always on",
    "--spec-ngram-size-n": "use --spec-ngram-mod-n-match, or that of the type, by --spec-ngram-*",
    "--spec-ngram-size-m": "use that of the type, by --spec-ngram-*-size-m",
    "--spec-ngram-min-hits": "use that of the type, by --spec-ngram-*-min-hits",
}
"""What llama-server once had → what to do instead."""


def rules_from(text: str) -> FlagRules:
    """The rules for the llama-server that printed this `--help`."""
    return FlagRules(
        known=from_help(text),
        own=every_spelling(OWN, text),
        dangerous=every_spelling(DANGEROUS, text),
        nested=NAMES,
        impossible=IMPOSSIBLE,
        options=every_spelling({"--ctx-size": "context_size"}, text),
        gone=GONE,
        says=every_meaning(text, _SAYS),
        joins=False,
    )


@cache
def flag_rules() -> FlagRules:
    return rules_from(captured_help("llama.cpp"))
