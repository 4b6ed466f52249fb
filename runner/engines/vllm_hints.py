"""What a person can do about vLLM's last words. The most telling pattern of a line stands first."""

from __future__ import annotations

from runner.engines.host_hints import NO_DRIVER_LIBRARY, NO_GPU, anew, library_missing
from runner.engines.loghints import Hint

_SMALLER = "or set a smaller context_size, or a smaller quantization of the model"

HINTS = (
    # The KV cache: v1/core/kv_cache_utils.py says how much would fit.
    Hint(
        r"estimated maximum model length is (?P<tokens>\d+)",
        "the KV cache holds {tokens} tokens at the most: `runner configure MODEL --context-size "
        "{tokens}`, or less; more fit with a higher gpu_memory_utilization, or on a CPU with "
        "VLLM_CPU_KVCACHE_SPACE (GiB)",
    ),
    Hint(
        r"KV cache is needed, which is larger than|No available memory for the cache blocks",
        "no room is left for the KV cache: raise gpu_memory_utilization (on a CPU, "
        f"VLLM_CPU_KVCACHE_SPACE in GiB), {_SMALLER}",
    ),
    Hint(
        r"max_model_len \((?P<wanted>\d+)\) is greater than the derived max_model_len "
        r"\([\w.]+=(?P<trained>[\d.]+)",
        "the model was made for {trained} tokens: set context_size to that at the most, or stretch "
        "it with rope_scaling",
    ),
    Hint(
        r"maximum context length is (?P<tokens>\d+) tokens",
        "the request is longer than the context of {tokens} tokens: shorten it, or raise "
        "context_size",
    ),
    # Memory.
    Hint(
        r"CUDA out of memory|HIP out of memory|OutOfMemoryError|not enough GPU memory",
        f"the GPU's memory is full: lower gpu_memory_utilization if others use it, {_SMALLER}, "
        "or spread the model with tensor_parallel_size",
    ),
    Hint(
        r"Free memory on device .* is less than desired GPU memory utilization",
        "other programs hold the GPU's memory: end them, or lower gpu_memory_utilization",
    ),
    Hint(
        r"is less than desired CPU memory utilization|is less than requested memory for kv",
        "the memory is too small for the KV cache: set a smaller VLLM_CPU_KVCACHE_SPACE (GiB) or "
        "gpu_memory_utilization, or a smaller context_size",
    ),
    Hint(
        r"Cannot allocate memory|can't allocate memory|DefaultCPUAllocator|std::bad_alloc|"
        r"MemoryError",
        "the memory is full: unload other models, set a smaller context_size, or take a smaller "
        "quantization of the model",
    ),
    Hint(
        r"Insufficient space in /dev/shm .*?: (?P<size>\d+ MiB) required",
        "its processes need {size} of shared memory at a time, and there is less: "
        f"{anew('vllm')}, and tell us if that does not help",
    ),
    # Drivers and libraries.
    Hint(
        r"driver (?:on your system )?is too old|CUDA driver version is insufficient|"
        r"forward compatibility was attempted|unsupported display driver|"
        r"compiled with an unsupported toolchain",
        "the GPU's driver is older than this image's CUDA: update it (580.65.06 or newer), or "
        "install another variant",
    ),
    Hint(
        r"no kernel image is available|not compiled for (?:this|your)|invalid device function",
        "this image has no code for this GPU: use another engine, or --gpu none",
    ),
    NO_GPU,
    Hint(
        r"Bfloat16 is only supported on GPUs",
        "this GPU can't compute in bfloat16: `runner configure MODEL --dtype half`",
    ),
    NO_DRIVER_LIBRARY,
    library_missing("vllm"),
    Hint(
        r"operator torchvision::nms does not exist|undefined symbol: .*(?:c10|torch|at)|"
        r"Unable to find torch_shm_manager",
        f"the engine's image holds parts that don't belong together: {anew('vllm')}",
    ),
    # The model.
    Hint(
        r"architecture (?P<name>\w+) was supported in vLLM until v?(?P<version>[\d.]+\d)",
        "vLLM has dropped {name} after {version}: use another engine, such as transformers or "
        "llama.cpp",
    ),
    Hint(
        r"Model architectures? \[?'?(?P<name>\w+)'?\]? (?:are|is) not supported for now|"
        r"not recognize this architecture|Cannot find model module",
        "this vLLM does not know the model's architecture {name}: update the engine, or use "
        "another one, such as transformers or llama.cpp",
    ),
    Hint(
        r"trust_remote_code=True|--trust-remote-code|contains custom code which must be executed",
        "the model brings its own code: if you trust its maker, "
        "`runner configure MODEL --trust-remote-code`",
    ),
    Hint(
        r"quantization method \(?(?P<method>[\w-]+)\)? does not match|"
        r"Unknown quantization method: (?P<unknown>[\w-]+)|"
        r"Unsupported quantization config: (?P<width>[\w=, ]+)|"
        r"(?P<other>[\w-]+) quantization is currently not supported",
        "this vLLM can't read the quantization {method}{unknown}{width}{other}: take the model in "
        "another one, or use another engine",
    ),
    Hint(
        r"LoRA rank (?P<rank>\d+) is greater than max_lora_rank",
        "an adapter has the rank {rank}: `runner configure MODEL -- --max-lora-rank N`, N being "
        "1, 8, 16, 32, 64, 128, 256, 320 or 512, at least {rank}",
    ),
    Hint(
        r"attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size",
        "the model has {heads} attention heads: tensor_parallel_size must divide them",
    ),
    Hint(
        r"SafetensorError|safetensors_rust|InvalidHeader|incomplete metadata|"
        r"Cannot find any model weights",
        "the model's files are damaged or missing: `runner check`, then remove and pull it again",
    ),
    Hint(
        r"Is a LoRA tensor|size of tensor .* must match|shape mismatch|Attempted to load weight",
        "the weights don't fit the model's config.json: pull the model again, or check "
        "hf_overrides",
    ),
    Hint(
        r"--(?:tool-call|reasoning)-parser (?P<name>[\w-]+) (?:and .*)?cannot be used with the "
        r"tokenizer",
        "the parser {name} is for other models: choose one with the options tool_parser and "
        "reasoning_parser, or none, as in tool_parser none",
    ),
    # The start itself.
    Hint(
        r"unrecognized arguments: (?P<flags>.+)",
        "this vLLM has no flag {flags}: `runner configure show MODEL` lists what is set",
    ),
    Hint(
        r"error: argument (?P<flag>[^:]+): (?P<why>.+)",
        "the flag {flag} has a value that vLLM refuses ({why}): `runner configure show MODEL`",
    ),
    Hint(
        r"No space left on device|Bus error|SIGBUS",
        "the shared memory or the cache is full: `runner df` shows what takes the space",
    ),
)
