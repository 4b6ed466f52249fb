"""vLLM's command lines, and the plans that it can't carry out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from runner.engines.base import Adapter, Command, Mode, Plan, TcpEndpoint, UnixEndpoint
from runner.engines.catalog import description_of
from runner.engines.options import Options, RopeScaling
from runner.engines.vllm import GIB, SUPPORTED, Vllm
from runner.engines.vllm_flags import flag_rules
from runner.errors import BadInput

PLAN = Plan(
    model_file=PurePosixPath("/model/model.safetensors"),
    model_folder=PurePosixPath("/model"),
    listen=UnixEndpoint("/run/engine/engine.sock"),
    context_size=2048,
    names=("demo:1", "docker.io/ai/demo:1"),
    gpu_count=1,
)
MODEL = ("--model", "/model", "--served-model-name", "demo:1", "docker.io/ai/demo:1")
COMPLETION = (*MODEL, "--runner", "generate", "--max-model-len", "2048")
POOLING = (*MODEL, "--runner", "pooling", "--max-model-len", "2048")
QUIET = ("--disable-access-log-for-endpoints", "/health,/metrics")
LISTEN = ("--uds", "/run/engine/engine.sock", *QUIET)
COMMON = (*COMPLETION, *LISTEN)


def command(**changes: object) -> Command:
    return Vllm(description_of("vllm")).command(replace(PLAN, **changes))  # type: ignore[arg-type]


def with_options(*, gpu_count: int = 1, **options: object) -> tuple[str, ...]:
    return command(options=Options(**options), gpu_count=gpu_count).arguments  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, COMMON),
        (
            {"listen": TcpEndpoint("0.0.0.0", 8080)},
            (*COMPLETION, "--host", "0.0.0.0", "--port", "8080", *QUIET),
        ),
        ({"mode": Mode.EMBEDDING}, (*POOLING, *LISTEN)),
        ({"mode": Mode.RERANKING}, (*POOLING, *LISTEN)),
        (
            {"chat_template": PurePosixPath("/model/chat.jinja")},
            (*COMMON, "--chat-template", "/model/chat.jinja"),
        ),
        (
            {"architecture": "GptOssForCausalLM"},
            (
                *COMMON,
                *("--enable-auto-tool-choice", "--tool-call-parser", "openai"),
                *("--reasoning-parser", "openai_gptoss"),
            ),
        ),
        ({"architecture": "GptOssForCausalLM", "mode": Mode.EMBEDDING}, (*POOLING, *LISTEN)),
        ({"gpu_count": 4}, (*COMMON, "--tensor-parallel-size", "4")),
        (
            {"gpu_count": 4, "options": Options(pipeline_parallel_size=2)},
            (*COMMON, "--tensor-parallel-size", "2", "--pipeline-parallel-size", "2"),
        ),
        ({"flags": ("--block-size", "32")}, (*COMMON, "--block-size", "32")),
        (
            {
                "adapters": (
                    Adapter("one", PurePosixPath("/lora/1")),
                    Adapter("two", PurePosixPath("/lora/2")),
                )
            },
            (
                *(*COMMON, "--enable-lora", "--max-loras", "2", "--max-lora-rank", "64"),
                "--lora-modules",
                '{"name":"one","path":"/lora/1"}',
                '{"name":"two","path":"/lora/2"}',
            ),
        ),
        (
            {"draft_model": PurePosixPath("/draft")},
            (*COMMON, "--speculative-config", '{"model":"/draft","num_speculative_tokens":5}'),
        ),
        (
            {"draft_model": PurePosixPath("/draft"), "options": Options(draft_tokens=3)},
            (*COMMON, "--speculative-config", '{"model":"/draft","num_speculative_tokens":3}'),
        ),
    ],
)
def test_arguments(changes: dict[str, Any], arguments: tuple[str, ...]) -> None:
    assert command(**changes).arguments == arguments


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"parallel": 8}, ("--max-num-seqs", "8")),
        ({"batch_size": 512}, ("--max-num-batched-tokens", "512")),
        ({"max_batched_tokens": 512}, ("--max-num-batched-tokens", "512")),
        ({"batch_size": 512, "max_batched_tokens": 512}, ("--max-num-batched-tokens", "512")),
        ({"gpu_memory_utilization": 0.5}, ("--gpu-memory-utilization", "0.5")),
        ({"cpu_offload_gb": 4.0}, ("--cpu-offload-gb", "4.0")),
        ({"dtype": "half"}, ("--dtype", "half")),
        ({"quantization": "fp8"}, ("--quantization", "fp8")),
        ({"kv_cache_dtype": "fp8"}, ("--kv-cache-dtype", "fp8")),
        ({"seed": 7}, ("--seed", "7")),
        ({"enforce_eager": True}, ("--enforce-eager",)),
        ({"enforce_eager": False}, ()),
        ({"trust_remote_code": True}, ("--trust-remote-code",)),
        ({"trust_remote_code": False}, ()),
        ({"mmap": True}, ("--safetensors-load-strategy", "lazy")),
        ({"mmap": False}, ("--safetensors-load-strategy", "eager")),
        ({"tensor_parallel_size": 1}, ()),
        ({"tool_parser": "hermes"}, ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")),
        ({"tool_parser": "none"}, ()),
        ({"reasoning_parser": "qwen3"}, ("--reasoning-parser", "qwen3")),
        (
            {"hf_overrides": {"max_position_embeddings": 4096}},
            ("--hf-overrides", '{"max_position_embeddings":4096}'),
        ),
        ({"gpus": ("0",), "chat_template": "/a", "lora": ("a",), "draft_model": "d"}, ()),
    ],
)
def test_an_option_becomes_its_flag(options: dict[str, Any], arguments: tuple[str, ...]) -> None:
    assert with_options(**options) == (*COMMON, *arguments)


def test_the_rope_options_become_rope_parameters() -> None:
    made = with_options(rope_scaling=RopeScaling.LINEAR, rope_scale=2.0, rope_freq_base=5000.0)
    overrides = json.loads(made[made.index("--hf-overrides") + 1])
    assert overrides == {
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}
    }


def test_what_is_no_override_sets_the_option_and_the_context() -> None:
    made = with_options(hf_overrides={"max_model_len": 512, "gpu_memory_utilization": 0.7})
    assert made == (
        *(*MODEL, "--runner", "generate", "--max-model-len", "512"),
        *(*LISTEN, "--gpu-memory-utilization", "0.7"),
    )


def test_an_option_goes_before_an_override_of_the_same() -> None:
    made = with_options(dtype="half", hf_overrides={"quantization": "fp8", "seed": 1}, seed=2)
    assert made == (*COMMON, "--dtype", "half", "--quantization", "fp8", "--seed", "2")


@pytest.mark.parametrize(
    ("kv_bytes", "options", "expected"),
    [
        (None, {}, GIB),
        (2048 * 1000, {}, 17 * 128 * 1000),
        (2048 * 1000, {"dtype": "float32"}, 2 * 17 * 128 * 1000),
        (2048 * 1000, {"hf_overrides": {"max_model_len": 100}}, 2 * 128 * 1000),
    ],
)
def test_on_a_cpu_it_never_compiles_and_holds_one_whole_context(
    kv_bytes: int | None, options: dict[str, Any], expected: int
) -> None:
    made = command(gpu_count=0, kv_bytes=kv_bytes, options=Options(**options)).arguments
    assert made[made.index("--kv-cache-memory-bytes") + 1] == str(expected)
    assert "--enforce-eager" in made


def test_on_a_cpu_a_share_of_the_memory_may_be_asked_for() -> None:
    made = with_options(gpu_count=0, gpu_memory_utilization=0.4)
    assert made == (*COMMON, "--gpu-memory-utilization", "0.4", "--enforce-eager")


@pytest.mark.parametrize(
    ("gpu_count", "environment"),
    [
        (0, {"OMP_NUM_THREADS": "3", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}),
        (1, {"OMP_NUM_THREADS": "3"}),
    ],
)
def test_threads_are_said_in_the_environment(gpu_count: int, environment: dict[str, str]) -> None:
    made = command(gpu_count=gpu_count, options=Options(threads=3))
    assert made.environment == environment
    assert command(gpu_count=gpu_count).environment == {}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"options": Options(gpu_layers=4)}, "gpu_layers"),
        ({"options": Options(memory_lock=True, cache_type_k="q8_0")}, "cache_type_k, memory_lock"),
        ({"options": Options(tensor_parallel_size=2)}, "tensor_parallel_size: 2 GPUs are needed"),
        ({"options": Options(tensor_parallel_size=2), "gpu_count": 0}, "the engine gets 0"),
        ({"options": Options(pipeline_parallel_size=2)}, "pipeline_parallel_size"),
        (
            {
                "options": Options(tensor_parallel_size=2, pipeline_parallel_size=2),
                "gpu_count": 2,
            },
            "tensor_parallel_size: 4 GPUs",
        ),
        ({"options": Options(hf_overrides={"tensor_parallel_size": 2})}, "tensor_parallel_size"),
        ({"options": Options(batch_size=1, max_batched_tokens=2)}, "batch_size"),
        ({"options": Options(draft_tokens=2)}, "draft_tokens"),
        ({"options": Options(cpu_offload_gb=1.0), "gpu_count": 0}, "cpu_offload_gb"),
        ({"options": Options(enforce_eager=False), "gpu_count": 0}, "enforce_eager"),
        ({"options": Options(rope_freq_base=1e6)}, "rope_scaling"),
        ({"mmproj": PurePosixPath("/model/mmproj.gguf")}, "mmproj"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput) as refused:
        command(**changes)
    assert named in refused.value.message
    assert refused.value.hint


def test_every_flag_it_writes_is_one_of_the_pinned_version() -> None:
    everything = Options(
        parallel=1,
        batch_size=1,
        gpu_memory_utilization=0.5,
        cpu_offload_gb=1.0,
        dtype="half",
        quantization="fp8",
        kv_cache_dtype="fp8",
        seed=1,
        mmap=True,
        trust_remote_code=True,
        enforce_eager=True,
        hf_overrides={"a": 1},
        tensor_parallel_size=2,
        pipeline_parallel_size=2,
        tool_parser="hermes",
        reasoning_parser="qwen3",
    )
    adapters = (Adapter("one", PurePosixPath("/lora")),)
    written = {
        word
        for changes in (
            {"options": everything, "gpu_count": 4, "adapters": adapters},
            {"gpu_count": 0, "listen": TcpEndpoint("h", 1)},
            {"draft_model": PurePosixPath("/d"), "chat_template": PurePosixPath("/t")},
        )
        for word in command(**changes).arguments
        if word.startswith("--")
    }
    assert written <= set(flag_rules().known)
    assert len(written) > 25


def test_what_it_supports_are_options() -> None:
    assert set(Options.__dataclass_fields__) >= SUPPORTED
    assert {"max_batched_tokens", "lora", "hf_overrides"} <= SUPPORTED
