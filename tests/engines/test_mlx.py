"""MLX LM's command lines, flags, and the hints read from its log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from runner.engines.base import Adapter, Mode, Plan, TcpEndpoint, UnixEndpoint
from runner.engines.catalog import description_of
from runner.engines.environment import COMMON_RULES, NATIVE_RULES, Outcome, settle
from runner.engines.flag_names import named
from runner.engines.flags import checked
from runner.engines.mlx import MlxLm
from runner.engines.options import Options
from runner.errors import BadInput

ENGINE = MlxLm(description_of("mlx-lm"))
PLAN = Plan(
    model_file=PurePosixPath("/m/model.safetensors"),
    model_folder=PurePosixPath("/m"),
    listen=UnixEndpoint("/r/engine.sock"),
    context_size=512,
    names=("demo:1", "ai/demo"),
)
UNIX = ("--uds", "/r/engine.sock")
NAMES = ("--served-model-name", "demo:1", "ai/demo")
SIZES = ("--context-size", "512", "--max-tokens", "512", "--allowed-origins", "none")
COMMON = (*NAMES, *SIZES)
ADAPTER = Adapter("a", PurePosixPath("/a"))


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, ("--model", "/m", *UNIX, *COMMON)),
        (
            {"listen": TcpEndpoint("127.0.0.1", 80)},
            ("--model", "/m", "--host", "127.0.0.1", "--port", "80", *COMMON),
        ),
        ({"kv_bytes": 99}, ("--model", "/m", *UNIX, *COMMON, "--prompt-cache-bytes", "99")),
        ({"adapters": (ADAPTER,)}, ("--model", "/m", *UNIX, *COMMON, "--adapter-path", "/a")),
        (
            {"draft_model": PurePosixPath("/d"), "options": Options(draft_tokens=4)},
            (
                *("--model", "/m", *UNIX, *COMMON),
                *("--num-draft-tokens", "4", "--draft-model", "/d"),
            ),
        ),
        (
            {"chat_template": PurePosixPath("/t")},
            ("--model", "/m", *UNIX, *COMMON, "--chat-template-file", "/t"),
        ),
        ({"flags": ("--temp", "1")}, ("--model", "/m", *UNIX, *COMMON, "--temp", "1")),
    ],
)
def test_arguments(changes: dict[str, Any], arguments: tuple[str, ...]) -> None:
    assert ENGINE.command(replace(PLAN, **changes)).arguments == arguments


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (Options(context_size=1), ()),
        (Options(parallel=4), ("--decode-concurrency", "4")),
        (Options(batch_size=64), ("--prefill-step-size", "64")),
        (Options(kv_cache_dtype="auto"), ()),
        (Options(kv_cache_dtype="int8"), ("--kv-bits", "8")),
        (Options(trust_remote_code=True), ("--trust-remote-code",)),
        (Options(reasoning_budget=0), ("--chat-template-args", '{"enable_thinking":false}')),
        (Options(reasoning_budget=-1), ()),
    ],
)
def test_options(options: Options, arguments: tuple[str, ...]) -> None:
    command = ENGINE.command(replace(PLAN, options=options))
    assert command.arguments == ("--model", "/m", *UNIX, *COMMON, *arguments)
    assert set(options.set_fields()) <= ENGINE.supported


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"options": Options(seed=1)}, "seed"),
        ({"options": Options(gpus=("0",))}, "gpus"),
        ({"options": Options(tensor_parallel_size=2)}, "tensor_parallel_size"),
        ({"options": Options(hf_overrides={"a": 1})}, "hf_overrides"),
        ({"options": Options(kv_cache_dtype="fp8")}, "kv_cache_dtype"),
        ({"options": Options(reasoning_budget=9)}, "reasoning_budget"),
        ({"options": Options(draft_tokens=9)}, "draft"),
        ({"adapters": (ADAPTER, ADAPTER)}, "lora"),
        ({"mode": Mode.RERANKING}, "reranking"),
        ({"mmproj": PurePosixPath("/m")}, "mmproj"),
    ],
)
def test_what_it_cant_do_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(BadInput, match=name) as refused:
        ENGINE.command(replace(PLAN, **changes))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--tmp", "1"), "no flag"),
        (("--model", "/x"), "one model"),
        (("--adapter-path", "/x"), "lora"),
        (("--allowed-origins", "*"), "gateway"),
        (("--trust-remote-code",), "code that comes with the model"),
        (("--pipeline",), "several machines"),
        (("--temp",), "needs a value"),
    ],
)
def test_flags_are_refused(flags: tuple[str, ...], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        checked(flags, ENGINE.flag_rules)


def test_flags_pass() -> None:
    flags = ("--temp=0.5", "--kv-bits", "4", "--use-default-chat-template")
    passed = checked(flags, ENGINE.flag_rules)
    assert passed == ("--temp", "0.5", "--kv-bits", "4", "--use-default-chat-template")


def test_names_become_flags_and_options() -> None:
    found = named({"n_ctx": "9", "top_k": "3", "n_parallel": "2"}, ENGINE.flag_rules)
    assert found.flags == ("--top-k", "3")
    assert found.options == {"context_size": "9", "parallel": "2"}


@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        ("HF_HUB_OFFLINE", Outcome.OVERRIDDEN, "the runner pulls models"),
        ("HF_HUB_CACHE", Outcome.DROPPED, "the runner pulls models"),
        ("HUGGINGFACE_CO_STAGING", Outcome.DROPPED, "the runner pulls models"),
        ("TRANSFORMERS_CACHE", Outcome.DROPPED, "the runner pulls models"),
        ("MLXLM_USE_MODELSCOPE", Outcome.DROPPED, "the runner pulls models"),
        ("MLX_MPI_LIBNAME", Outcome.DROPPED, "other code"),
        ("PYTHONPATH", Outcome.DROPPED, "its Python is cut off"),
        ("MLX_RANK", Outcome.DROPPED, "one machine"),
        ("MLX_HOSTFILE", Outcome.DROPPED, "one machine"),
        ("MLX_JACCL_COORDINATOR", Outcome.DROPPED, "one machine"),
        ("MLX_IBV_DEVICES", Outcome.DROPPED, "one machine"),
        ("METAL_CAPTURE_ENABLED", Outcome.DROPPED, "native process"),
        ("MLX_METAL_FAST_SYNCH", Outcome.KEPT, ""),
        ("MLX_MAX_OPS_PER_BUFFER", Outcome.KEPT, ""),
        ("MLX_DISABLE_COMPILE", Outcome.KEPT, ""),
    ],
)
def test_environment(name: str, outcome: Outcome, reason: str) -> None:
    """By all the tables of a native process: what MLX and MLX LM read of the environment."""
    settled = settle({name: "0"}, (*ENGINE.environment_rules, *COMMON_RULES, *NATIVE_RULES), {})
    (fate,) = settled.fates
    assert fate.outcome is outcome
    assert reason in fate.reason
    kept = {name: "0"} if outcome is Outcome.KEPT else {}
    assert settled.environment == {"HF_HUB_OFFLINE": "1", **kept}


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("error: Model type zebra not supported.", "model type zebra"),
        (
            "error: [load_safetensors] Tensor 'v_proj.weight' invalid data offsets (984064, "
            "1049600) exceeding the size of the file. Perhaps an incomplete download",
            "damaged",
        ),
        ("error: [load_safetensors] Invalid json header length file /m", "damaged"),
        ("error: [Errno 2] No such file or directory: '/m/config.json'", "missing"),
        ("error: No safetensors found in /m", "missing"),
        ("error: Couldn't instantiate the backend tokenizer from one of: (1) a", "tokenizer"),
        ("error: Expected shape (128, 256) but received shape (256, 256) for", "don't fit"),
        ("error: Missing 18 parameters: model.layers.3.input_layernorm.weight", "don't fit"),
        (
            "error: The model at /m requires importing and running a custom module ('m.py') to",
            "--trust-remote-code",
        ),
        ("error: unsupported compressed-tensors format 'float-quantized';", "quantization"),
        ("error: Found model.layers.2.o_proj.g_idx in weights. Models with", "this quantization"),
        (
            "error: [quantize] The requested number of bits 0 is not supported. The supported",
            "this quantization",
        ),
        ("error: 'quant_method'", "this quantization"),
        (
            "error: Received 42 parameters not in model: model.layers.0.up_proj.weight.absmax, "
            "model.layers.0.up_proj.weight.quant_map",
            "this quantization",
        ),
        (
            "error: Received 21 parameters not in model: model.layers.0.q_proj.weight_scale",
            "this quantization",
        ),
        (
            "error: Received 1 parameters not in model: model.layers.9.input_layernorm.w",
            "don't fit",
        ),
        (
            "error: cannot access local variable 'model_dtype' where it is not associated with",
            "tells of a quantization that the weights don't have",
        ),
        ("mlx_lm.server: error: unrecognized arguments: --nope 1", "--nope is no flag"),
        ("error: the prompt has 6011 tokens, more than the context of 512", "context of 512"),
        ("error: [metal::malloc] Attempting to allocate 99 bytes which is", "not enough memory"),
        ("kIOGPUCommandBufferCallbackErrorOutOfMemory", "not enough memory"),
        (
            "ModuleNotFoundError: No module named 'mlx_lm'",
            "mlx_lm is missing: the engine's environment is incomplete; "
            "run `runner install-runner --backend mlx-lm --force`",
        ),
        (
            "ImportError: libmlx.so: cannot open shared object file: No such file or directory",
            "the engine's environment lacks the library libmlx.so: "
            "`runner install-runner --backend mlx-lm --force`",
        ),
        (
            "ImportError: dlopen(core.so, 0x0002): Library not loaded: @rpath/libmlx.dylib",
            "@rpath/libmlx.dylib is missing",
        ),
        ("ready on /r/engine.sock", ""),
    ],
)
def test_hints(line: str, hint: str) -> None:
    found = ENGINE.hint(("first line", line))
    assert hint in found
    assert bool(found) == bool(hint)


def test_its_program_is_a_file_of_ours() -> None:
    isolated, program = ENGINE.native_arguments
    assert isolated == "-I"
    assert Path(program).is_file()
    assert ENGINE.metrics == {}
    assert {"llama", "qwen3", "gemma3"} <= ENGINE.description.architectures
