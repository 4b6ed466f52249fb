"""What vLLM says when it ends, and what a person is told. The lines are vLLM 0.32.0's own words,
those of the first table printed by runs of its CPU image."""

from __future__ import annotations

import pytest

from runner.engines.catalog import description_of
from runner.engines.vllm import Vllm

SEEN = [
    (
        "(EngineCore pid=27) ERROR 11-21 13:55:14 [core.py:1510] ValueError: To serve at least one "
        "request with the model's max seq len (2048), (0.0 GiB KV cache is needed, which is larger "
        "than the available KV cache memory (0.0 GiB). Based on the available memory, the "
        "estimated maximum model length is 384. Try increasing `gpu_memory_utilization` (which "
        "also controls CPU memory on the CPU backend) or decreasing `max_model_len` when "
        "initializing the engine.",
        "--context-size 384",
    ),
    (
        '{"error":{"message":"This model\'s maximum context length is 2048 tokens. However, your '
        "prompt contains at least 2049 input tokens, which exceeds this limit even without any "
        "output tokens.",
        "context of 2048 tokens",
    ),
    (
        "TypeError: --tool-call-parser llama3_json cannot be used with the tokenizer of '/model': "
        "Llama3JsonToolParser could not locate the bot token '<|python_tag|>' in the tokenizer.",
        "tool_parser none",
    ),
    (
        "RuntimeError: Insufficient space in /dev/shm for shared-memory allocation: 160 MiB "
        "required, 64 MiB free. Increase /dev/shm (e.g. --shm-size or --ipc=host).",
        "160 MiB of shared memory at a time, and there is less: "
        "`runner install-runner --backend vllm --force`",
    ),
    (
        "RuntimeError: Unable to find torch_shm_manager at /engine/lib/python3.11/site-packages/"
        "torch/bin/torch_shm_manager",
        "`runner install-runner --backend vllm --force`",
    ),
]
SOURCES = [
    (
        "ValueError: No available memory for the cache blocks. Try increasing "
        "`gpu_memory_utilization` when initializing the engine",
        "gpu_memory_utilization",
    ),
    (
        "User-specified max_model_len (9000) is greater than the derived max_model_len "
        "(max_position_embeddings=2048.0 or model_max_length=None in model's config.json).",
        "made for 2048",
    ),
    (
        "ValueError: This model's maximum context length is 512 tokens. However, you requested 600 "
        "output tokens and your prompt contains 20 input tokens",
        "512 tokens",
    ),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "GPU's memory"),
    ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.", "GPU's memory"),
    ("Failed to load model - not enough GPU memory. Try lowering", "GPU's memory"),
    (
        "ValueError: Free memory on device cuda:0 (2.0/79.2 GiB) on startup is less than desired "
        "GPU memory utilization (0.92, 72.8 GiB).",
        "other programs",
    ),
    (
        "ValueError: Available memory on node 0 (2.0/10.7 GiB) on startup is less than desired CPU "
        "memory utilization (0.92, 9.8 GiB).",
        "gpu_memory_utilization",
    ),
    (
        "ValueError: Available memory on node 0 (1.0/4.0 GiB) on kv cache allocation is less than "
        "requested memory for kv (8.0 GiB). Decrease --kv-cache-memory-bytes",
        "VLLM_CPU_KVCACHE_SPACE",
    ),
    ("RuntimeError: [enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't", "memory is"),
    ("OSError: [Errno 12] Cannot allocate memory", "memory is full"),
    (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12040).",
        "580.65.06",
    ),
    ("CUDA driver version is insufficient for CUDA runtime version", "580.65.06"),
    ("CUDA error: no kernel image is available for execution on the device", "no code for this"),
    ("CUDA error: the provided PTX was compiled with an unsupported toolchain.", "older than"),
    ("RuntimeError: Found no NVIDIA driver on your system.", "sees no GPU: `runner explain MODEL`"),
    (
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
        "nvidia-ctk cdi generate",
    ),
    (
        "OSError: libnvidia-ml.so.1: cannot open shared object file: No such file or directory",
        "given no NVIDIA driver",
    ),
    ("RuntimeError: Failed to infer device type, please set the environment variable", "no GPU"),
    (
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0.",
        "--dtype half",
    ),
    (
        "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
        "lacks the library libcudart.so.13: `runner install-runner --backend vllm --force`",
    ),
    (
        "python3: error while loading shared libraries: libnuma.so.1: cannot open shared object "
        "file",
        "lacks the library libnuma.so.1:",
    ),
    ("RuntimeError: operator torchvision::nms does not exist", "don't belong together"),
    (
        "ValueError: Model architecture BaichuanForCausalLM was supported in vLLM until v0.23.0, "
        "and is not supported anymore. Please use an older version of vLLM",
        "dropped BaichuanForCausalLM after 0.23.0",
    ),
    (
        "ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported "
        "architectures: dict_keys([...])",
        "architecture FooForCausalLM",
    ),
    (
        "please pass the argument `trust_remote_code=True` to allow custom code to be run.",
        "--trust-remote-code",
    ),
    ("Unknown quantization method: bitsandbytes. Must be one of", "quantization bitsandbytes"),
    ("ValueError: Unsupported quantization config: bits=3, sym=True", "bits=3, sym=True"),
    ("quark quantization is currently not supported in cpu.", "quantization quark"),
    ("ValueError: LoRA rank 128 is greater than max_lora_rank 64.", "rank 128"),
    (
        "ValueError: Total number of attention heads (28) must be divisible by tensor parallel "
        "size (8).",
        "28 attention heads",
    ),
    ("safetensors_rust.SafetensorError: Error while deserializing header", "damaged"),
    ("RuntimeError: Cannot find any model weights with `/model`", "damaged or missing"),
    ("api_server.py: error: unrecognized arguments: --nope 3", "no flag --nope 3"),
    (
        "api_server.py: error: argument --max-num-seqs: invalid int value: 'x'",
        "--max-num-seqs has a value that vLLM refuses",
    ),
    ("OSError: [Errno 28] No space left on device", "full"),
]


@pytest.mark.parametrize(("line", "hint"), [*SEEN, *SOURCES])
def test_hints(line: str, hint: str) -> None:
    log = ("INFO starts", line, "RuntimeError: Engine core initialization failed.")
    assert hint in Vllm(description_of("vllm")).hint(log)


def test_no_hint_where_nothing_is_known() -> None:
    assert Vllm(description_of("vllm")).hint(("INFO all is well", "")) == ""
