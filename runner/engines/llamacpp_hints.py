"""What a person can do about the lines that llama.cpp ends with."""

from __future__ import annotations

from runner.engines.host_hints import NO_DRIVER, NO_DRIVER_LIBRARY, anew, library_missing
from runner.engines.loghints import Hint

_LESS_MEMORY = (
    "use a smaller context (`--context-size`), fewer parallel requests (`--parallel`), "
    "or a smaller quantization of the model"
)

HINTS = (
    NO_DRIVER_LIBRARY,
    library_missing("llama.cpp"),
    Hint(
        r"failed to load \S*libggml-cuda\.so",
        f"llama.cpp's part for NVIDIA GPUs can't be loaded, most often for want of the driver: "
        f"{NO_DRIVER}",
    ),
    Hint(
        r"failed to load \S*(?P<library>libggml-[\w.+-]+)",
        f"llama.cpp's part {{library}} can't be loaded: {anew('llama.cpp')}",
    ),
    Hint(
        r"no kernel image is available|device kernel image is invalid",
        "this variant has no code for this GPU: choose another one (`runner explain` tells which "
        "fit), or use --gpu none",
    ),
    Hint(
        r"driver version is insufficient|forward compatibility was attempted|"
        r"(cuda|hip) error: .*unsupported (driver|display|toolchain)|"
        r"compiled with an unsupported toolchain",
        "the GPU's driver is older than this image needs: update the driver, or choose another "
        "variant with --gpu (`runner explain` tells which fit)",
    ),
    Hint(
        r"failed to initialize (?P<library>cuda|rocm|hip|musa): (?P<reason>[^\n]+)",
        "the GPU can't be used ({reason}): look whether nvidia-smi or rocm-smi works on the host, "
        "or use --gpu none",
    ),
    Hint(
        r"unknown (model )?architecture:? '?(?P<name>[\w.-]+)",
        "this llama.cpp does not know the architecture {name}: update the engine, "
        "or use another one (`runner explain`)",
    ),
    Hint(
        r"unknown pre-tokenizer type: '?(?P<name>[\w.-]+)",
        "this llama.cpp does not know the model's tokenizer ({name}): update the engine",
    ),
    Hint(
        r"failed to (process|encode) (an? )?image|failed to encode mtmd|failed to process mtmd|"
        r"clip_image_batch_encode.*failed|failed to decode image",
        "an image could not be processed, most often for want of memory: use a smaller context, "
        "or a smaller image (the flag --image-max-tokens)",
    ),
    Hint(
        r"failed to load (multimodal|clip) model|does not support (vision|audio) input|"
        r"(image|audio) input is not supported",
        "the model's projector does not fit it, or it has none for this kind of input: "
        "pull the model again, or use another one",
    ),
    Hint(
        r"request \((?P<tokens>\d+) tokens\) exceeds the available context size "
        r"\((?P<size>\d+) tokens\)",
        "a request of {tokens} tokens came to a context of {size}: "
        "configure a larger one (`--context-size`)",
    ),
    Hint(
        r"exceeds? the available context|context size has been exceeded|"
        r"larger than the max context size|context shift is disabled",
        "a request was longer than the context: configure a larger one (`--context-size`), "
        "or fewer parallel requests (`--parallel`)",
    ),
    Hint(
        r"input \((?P<tokens>\d+) tokens\) is too large to process",
        "this mode takes a text of at most one physical batch, and {tokens} tokens came: "
        "configure `--micro-batch-size` {tokens} or more",
    ),
    Hint(
        r"kv cache is full|failed to find a memory slot|too big compared to kv size|"
        r"no kv cache slot",
        "the KV cache is full: configure a larger context (`--context-size`), or fewer parallel "
        "requests (`--parallel`); where memory is short, fewer layers on the GPU (`--gpu-layers`)",
    ),
    Hint(
        r"failed to mlock|rlimit_memlock",
        "the model's memory could not be locked: raise the limit (`ulimit -l`, or the daemon's "
        "memlock limit), or take the option `memory_lock` away",
    ),
    Hint(
        r"cudamalloc failed|hipmalloc failed|erroroutofdevicememory|outofmemory|"
        r"failed to allocate (metal |\w+ )?buffer|unable to allocate \S+ buffer|"
        r"failed to allocate compute|insufficient memory",
        f"there is not enough memory for the model and its context: {_LESS_MEMORY}, "
        "or fewer layers on the GPU (`--gpu-layers`)",
    ),
    Hint(
        r"out of memory|cannot allocate memory|bad_alloc|failed to allocate|oom-kill|^killed$",
        f"there is not enough memory: {_LESS_MEMORY}",
    ),
    Hint(
        r"split_mode_tensor (needs|requires)|invalid value for main_gpu",
        "these GPU options do not fit the GPUs that the engine is given: take `split_mode` and "
        "`main_gpu` out, or choose other GPUs (`gpus`)",
    ),
    Hint(
        r"quantized v cache requires flash_attn|v cache quantization requires flash",
        "a quantized cache (`cache_type_v`) needs flash attention: configure "
        "`--flash-attention on`, or take the cache's type away",
    ),
    Hint(
        r"failed to apply lora adapter|failed to load lora adapter",
        "a LoRA adapter does not fit this model: it must be made for the same base model, as GGUF",
    ),
    Hint(
        r"failed to load draft model|draft model .*(not compatible|incompatible)|"
        r"vocab.* (must match|differ)",
        "the draft model does not fit this model: it must have the same vocabulary",
    ),
    Hint(
        r"chat template (parsing error|is not supported)|supplied chat template",
        "the chat template can't be used: give another with `--chat-template`",
    ),
    Hint(
        r"invalid magic|not a gguf|bad gguf version|corrupt|unexpectedly reached end of file|"
        r"not within the file|data is not within|failed to read (magic|tensor|key)|"
        r"missing tensor|wrong number of tensors|has invalid (data|gguf type|ggml type)",
        "the model's file is damaged: `runner check`, then remove and pull the model again",
    ),
    Hint(
        r"gguf file is version (?P<version>\d+) but",
        "the file's GGUF version {version} is newer than this llama.cpp: update the engine",
    ),
    Hint(
        r"(invalid argument|unknown argument): (?P<flag>\S+)",
        "this llama.cpp does not know the flag {flag}: see `runner configure show`",
    ),
    Hint(
        r"error while handling argument \"(?P<flag>[^\"]+)\": (?P<reason>[^\n]*)",
        "the flag {flag} has a value that llama.cpp does not take ({reason}): "
        "see `runner configure show`",
    ),
    Hint(
        r"couldn't bind|address already in use",
        "the engine's address is in use by another process: stop that one, or try again",
    ),
)
"""The first that fits a line counts: what is more exact stands before what is vaguer."""
