"""The options that `runner configure` has for a model, under their usual spellings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from typer.core import TyperCommand, TyperOption

if TYPE_CHECKING:
    from typing import Any

    from typer._click import Context, HelpFormatter, Parameter

KEPT = "runner.options"
"""Where a command's context holds the options that were given, by name."""

SIZES, LAYOUT, DECODING = "Sizes and threads", "GPUs and memory", "Model and decoding"


@dataclass(frozen=True, slots=True)
class Flag:
    """`option` is a field of the engines' options; its own name with dashes is a spelling, `more`
    are others. Without a `metavar` it is a switch, with a `--no-` form."""

    option: str
    heading: str
    metavar: str
    help: str
    more: tuple[str, ...] = ()

    @property
    def spellings(self) -> list[str]:
        plain = self.option.replace("_", "-")
        own = f"--{plain}" if self.metavar else f"--{plain}/--no-{plain}"
        return [self.option, own, *self.more]


FLAGS = (
    Flag(
        "context_size",
        SIZES,
        "TOKENS",
        "The size of the context.",
        ("--ctx-size", "--max-model-len"),
    ),
    Flag("parallel", SIZES, "N", "Requests served at once.", ("--max-num-seqs",)),
    Flag("batch_size", SIZES, "TOKENS", "Prompt tokens in one batch."),
    Flag("micro_batch_size", SIZES, "TOKENS", "Of a batch, computed at once.", ("--ubatch-size",)),
    Flag(
        "max_batched_tokens",
        SIZES,
        "TOKENS",
        "Of all requests, in one step.",
        ("--max-num-batched-tokens",),
    ),
    Flag("threads", SIZES, "N", "CPU threads."),
    Flag("threads_batch", SIZES, "N", "CPU threads for prompts."),
    Flag("gpus", LAYOUT, "LIST", "The GPUs, by index or UUID, with commas."),
    Flag("gpu_layers", LAYOUT, "N", "Layers on GPUs; -1: the engine decides.", ("--n-gpu-layers",)),
    Flag("cpu_moe_layers", LAYOUT, "N", "Layers whose experts stay on the CPU.", ("--n-cpu-moe",)),
    Flag("split_mode", LAYOUT, "none|layer|row|tensor", "How GPUs share a model."),
    Flag("split", LAYOUT, "LIST", "Each GPU's share, such as 3,1.", ("--tensor-split",)),
    Flag("main_gpu", LAYOUT, "N", "The GPU for what is not shared."),
    Flag("tensor_parallel_size", LAYOUT, "N", "GPUs that share each layer."),
    Flag("pipeline_parallel_size", LAYOUT, "N", "GPUs that take layers in turn."),
    Flag("gpu_memory_utilization", LAYOUT, "0-1", "The part of GPU memory to use."),
    Flag("cpu_offload_gb", LAYOUT, "GB", "Weights kept in the host's memory."),
    Flag("memory_lock", LAYOUT, "", "Keep the model out of swap.", ("--mlock",)),
    Flag("mmap", LAYOUT, "", "Map the model's file into memory."),
    Flag("cache_type_k", LAYOUT, "TYPE", "Type of the cached keys, such as q8_0."),
    Flag("cache_type_v", LAYOUT, "TYPE", "Type of the cached values."),
    Flag("kv_cache_dtype", LAYOUT, "TYPE", "Type of the KV cache, such as fp8."),
    Flag("dtype", DECODING, "TYPE", "Type to compute in, such as bfloat16."),
    Flag("quantization", DECODING, "METHOD", "How the weights are quantized."),
    Flag("flash_attention", DECODING, "on|off|auto", "Flash attention.", ("--flash-attn",)),
    Flag("enforce_eager", DECODING, "", "No compiled graphs."),
    Flag("rope_freq_base", DECODING, "X", "RoPE's base frequency."),
    Flag("rope_freq_scale", DECODING, "X", "RoPE's frequency factor."),
    Flag("rope_scaling", DECODING, "none|linear|yarn", "How the context is stretched."),
    Flag("rope_scale", DECODING, "X", "By how much it is stretched."),
    Flag(
        "draft_model",
        DECODING,
        "MODEL",
        "A small model that drafts tokens.",
        ("--speculative-draft-model",),
    ),
    Flag("draft_tokens", DECODING, "N", "So many at a time.", ("--speculative-num-tokens",)),
    Flag("lora", DECODING, "MODELS", "LoRA adapters in the store, with commas."),
    Flag("chat_template", DECODING, "FILE", "A Jinja file in place of the model's."),
    Flag("tool_parser", DECODING, "NAME", "How tool calls are read.", ("--tool-call-parser",)),
    Flag("reasoning_parser", DECODING, "NAME", "How reasoning is read."),
    Flag("reasoning_budget", DECODING, "TOKENS", "For reasoning; 0: none, -1: no limit."),
    Flag("trust_remote_code", DECODING, "", "Run code that comes with the model."),
    Flag("seed", DECODING, "N", "Of the random numbers."),
    Flag("hf_overrides", DECODING, "JSON", "Changes to config.json.", ("--hf_overrides",)),
)


class OptionsCommand(TyperCommand):
    """A command with all of these options, kept in its context under KEPT where they are given."""

    def __init__(self, name: str | None, **settings: Any) -> None:  # noqa: ANN401 - typer's own
        super().__init__(name, **settings)
        self.params += [_parameter(flag) for flag in FLAGS]

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Under headings, so that the general ones are found among the many."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        headings = {flag.option: flag.heading for flag in FLAGS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record:
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                sections.setdefault(headings.get(parameter.name or "", kind), []).append(record)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def _parameter(flag: Flag) -> TyperOption:
    """Texts stay texts: the daemon reads them, whichever way they come."""
    return TyperOption(
        param_decls=flag.spellings,
        metavar=flag.metavar or None,
        help=flag.help,
        is_flag=not flag.metavar,
        default=None,
        expose_value=False,
        callback=_keep,
    )


def _keep(context: Context, parameter: Parameter, value: object) -> object:
    if value is not None and parameter.name:
        context.meta.setdefault(KEPT, {})[parameter.name] = value
    return value
