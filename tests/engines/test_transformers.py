"""transformers' command lines, flags, and the hints read from its log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from runner.artifacts.media import ModelFormat
from runner.engines.base import Adapter, Mode, Plan, TcpEndpoint, UnixEndpoint
from runner.engines.catalog import description_of
from runner.engines.environment import COMMON_RULES, Outcome, settle
from runner.engines.flag_names import named
from runner.engines.flags import checked
from runner.engines.options import Options, Switch
from runner.engines.transformers import Transformers
from runner.errors import BadInput

ENGINE = Transformers(description_of("transformers"))
PLAN = Plan(
    model_file=PurePosixPath("/model/model.safetensors"),
    model_folder=PurePosixPath("/model"),
    listen=UnixEndpoint("/run/engine/engine.sock"),
    context_size=2048,
    names=("demo:1", "docker.io/ai/demo:1"),
)
NAMED = ("/model", "--served-model-name", "demo:1", "docker.io/ai/demo:1")
MODEL = (*NAMED, "--context-size", "2048")
UNIX = ("--uds", "/run/engine/engine.sock")
BATCHING = "--continuous-batching"


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, (*MODEL, *UNIX)),
        (
            {"listen": TcpEndpoint("0.0.0.0", 8080)},
            (*MODEL, "--host", "0.0.0.0", "--port", "8080"),
        ),
        (
            {"chat_template": PurePosixPath("/model/t.jinja")},
            (*MODEL, "--chat-template", "/model/t.jinja", *UNIX),
        ),
        ({"flags": ("--compile",)}, (*MODEL, *UNIX, "--compile")),
    ],
)
def test_arguments(changes: dict[str, Any], arguments: tuple[str, ...]) -> None:
    command = ENGINE.command(replace(PLAN, **changes))
    assert (command.arguments, command.environment) == (arguments, {})


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (Options(context_size=1, gpus=("0",)), ()),
        (Options(dtype="bfloat16"), ("--dtype", "bfloat16")),
        (Options(seed=7), ("--default-seed", "7")),
        (Options(seed=-1), ()),
        (Options(trust_remote_code=True), ("--trust-remote-code",)),
        (Options(trust_remote_code=False), ()),
        (Options(flash_attention=Switch.ON), ("--attn-implementation", "sdpa")),
        (Options(flash_attention=Switch.OFF), ("--attn-implementation", "eager")),
        (Options(flash_attention=Switch.AUTO), ()),
        (Options(reasoning_budget=0), ("--reasoning", "off")),
        (Options(reasoning_budget=-1), ("--reasoning", "on")),
        (Options(max_batched_tokens=99), (BATCHING, "--cb-max-batch-tokens", "99")),
        (Options(gpu_memory_utilization=0.5), (BATCHING, "--cb-max-memory-percent", "0.5")),
    ],
)
def test_options(options: Options, arguments: tuple[str, ...]) -> None:
    command = ENGINE.command(replace(PLAN, options=options))
    assert command.arguments == (*MODEL, *UNIX, *arguments)
    assert set(options.set_fields()) <= ENGINE.supported


def test_threads_go_through_the_environment() -> None:
    command = ENGINE.command(replace(PLAN, options=Options(threads=3)))
    assert command.environment == {"OMP_NUM_THREADS": "3"}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"options": Options(parallel=2)}, "parallel"),
        ({"options": Options(hf_overrides={"a": 1})}, "hf_overrides"),
        ({"options": Options(tensor_parallel_size=2)}, "tensor_parallel_size"),
        ({"options": Options(gpu_layers=3)}, "gpu_layers"),
        ({"options": Options(reasoning_budget=100)}, "reasoning_budget"),
        ({"mode": Mode.EMBEDDING}, "embedding"),
        ({"draft_model": PurePosixPath("/d")}, "draft_model"),
        ({"adapters": (Adapter("a", PurePosixPath("/a")),)}, "lora"),
        ({"mmproj": PurePosixPath("/m")}, "mmproj"),
    ],
)
def test_what_it_cant_do_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(BadInput, match=name) as refused:
        ENGINE.command(replace(PLAN, **changes))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("flags", "passed"),
    [
        (("--compile",), ("--compile",)),
        (("--no-compile",), ("--no-compile",)),
        (("--device=cpu",), ("--device", "cpu")),
        (("--cb-block-size", "16"), ("--cb-block-size", "16")),
    ],
)
def test_flags_pass(flags: tuple[str, ...], passed: tuple[str, ...]) -> None:
    assert checked(flags, ENGINE.flag_rules) == passed


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--compil",), "no flag"),
        (("--uds", "/x"), "where the engine listens"),
        (("--enable-cors",), "gateway"),
        (("--trust-remote-code",), "code that comes with the model"),
        (("--compile=yes",), "takes no value"),
    ],
)
def test_flags_are_refused(flags: tuple[str, ...], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        checked(flags, ENGINE.flag_rules)


def test_names_become_flags_and_options() -> None:
    found = named({"n_ctx": "9", "cb_block_size": "16", "compile": "true"}, ENGINE.flag_rules)
    assert found.flags == ("--cb-block-size", "16", "--compile")
    assert found.options == {"context_size": "9"}


def test_the_environment_is_settled() -> None:
    user = {
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "x",
        "OMP_WAIT_POLICY": "ACTIVE",
        "TORCH_LOGS": "a",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "x",
    }
    settled = settle(user, (*ENGINE.environment_rules, *COMMON_RULES), {})
    assert settled.environment == {
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "ACTIVE",
        "TORCH_LOGS": "a",
    }
    outcomes = {fate.name: fate.outcome for fate in settled.fates}
    assert outcomes["HF_HUB_OFFLINE"] is Outcome.OVERRIDDEN
    dropped = {name for name, outcome in outcomes.items() if outcome is Outcome.DROPPED}
    assert dropped == {"HF_TOKEN", "WORLD_SIZE", "MASTER_ADDR"}


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (
            "error: The checkpoint you are trying to load has model type `zebra` but Transformers "
            "does not recognize this architecture. This could be because of an issue",
            "model type zebra",
        ),
        ("error: Error while deserializing header: incomplete metadata, file not", "damaged"),
        ("error: Error while deserializing header: header too large", "damaged"),
        ("error: Unrecognized model in /model. Should have a `model_type` key", "config.json"),
        (
            "error: the weights lack 4 of the model's tensors: model.norm.weight, lm_head.weight, "
            "model.a.weight and 1 more",
            "lack weights, model.norm.weight among 4",
        ),
        ("error: Error no file named model.safetensors, or pytorch_model.bin, found", "missing"),
        ("error: Unrecognized processing class in /model. Can't instantiate a", "tokenizer"),
        ("error: You set `ignore_mismatched_sizes` to `False`, thus raising an", "don't fit"),
        ("Please pass the argument `trust_remote_code=True` to allow", "--trust-remote-code"),
        ("error: Loading a GPTQ quantized model requires optimum (`pip", "quantization"),
        ("error: Loading an AWQ quantized model requires gptqmodel. Please", "quantization"),
        (
            "error: compressed-tensors>=0.15.0 is required for compressed-tensors quantization.",
            "quantization",
        ),
        ("error: No such option: --nope (Possible options: --compile)", "--nope is no flag"),
        (
            "Token indices sequence length is longer than the specified maximum sequence length "
            "for this model (6011 > 2048). Running this",
            "a request of 6011 tokens came to a model of 2048",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "not enough memory"),
        ("DefaultCPUAllocator: can't allocate memory: you tried to", "not enough memory"),
        ("The NVIDIA driver on your system is too old (found version 12020)", "driver"),
        (
            "ModuleNotFoundError: No module named 'jinja2'",
            "jinja2 is missing: the engine's image is incomplete; "
            "run `runner install-runner --backend transformers --force`",
        ),
        (
            "ImportError: libgomp.so.1: cannot open shared object file: No such file or directory",
            "the engine's image lacks the library libgomp.so.1: "
            "`runner install-runner --backend transformers --force`",
        ),
        (
            "python3: error while loading shared libraries: libcudnn.so.9: cannot open shared "
            "object file: No such file or directory",
            "lacks the library libcudnn.so.9:",
        ),
        (
            "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
            "nvidia-ctk cdi generate",
        ),
        (
            "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an",
            "sees no GPU: `runner explain MODEL`",
        ),
        ("RuntimeError: No CUDA GPUs are available", "sees no GPU: `runner explain MODEL`"),
        ("INFO:     Application startup complete.", ""),
    ],
)
def test_hints(line: str, hint: str) -> None:
    found = ENGINE.hint(("first line", line))
    assert hint in found
    assert bool(found) == bool(hint)


def test_it_is_the_engine_for_pytorch_and_counts_nothing() -> None:
    assert ENGINE.description.formats[ModelFormat.PYTORCH] == ("none",)
    assert {"LlamaForCausalLM", "Qwen3ForCausalLM"} <= ENGINE.description.architectures
    assert (ENGINE.metrics, ENGINE.native_arguments) == ({}, ())
