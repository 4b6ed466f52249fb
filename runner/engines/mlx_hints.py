"""What a person can do about the lines that MLX LM ends with."""

from __future__ import annotations

from runner.engines.host_hints import anew, library_missing
from runner.engines.loghints import Hint

HINTS = (
    Hint(
        r"Insufficient Memory|kIOGPUCommandBufferCallbackErrorOutOfMemory|\[malloc|out of memory|"
        r"Cannot allocate memory|\[metal::malloc\]|maximum allowed buffer size",
        "not enough memory: use a smaller context (`--context-size`), `kv_cache_dtype` int8, "
        "fewer parallel requests (`--parallel`), or a smaller quantization of the model",
    ),
    Hint(
        r"Model type (?P<name>[\w.-]+) not supported",
        "this MLX LM does not know the model type {name}: update the engine, or use another one "
        "(`runner explain`)",
    ),
    Hint(
        r"requires importing and running a custom module|trust_remote_code",
        "the model brings code of its own that would be run: read it, then "
        "`runner configure MODEL --trust-remote-code`, or use another model",
    ),
    Hint(
        r"unsupported compressed-tensors format|Only bits=.* is supported|"
        r"Found \S*g_idx in weights|requested number of bits \d+ is not supported|"
        r"Unsupported modelopt quant_algo|Cannot infer the quantization mode|"
        r"error: 'quant_method'$|"
        r"Received \d+ parameters not in model: .*"
        r"\.(absmax|quant_map|qweight|weight_scale|weight_scale_inv|weight_packed|codebooks)\b",
        "MLX LM can't read this quantization: use one of mlx-community's, or another engine "
        "(`runner explain`)",
    ),
    Hint(
        r"local variable 'model_dtype'",
        "config.json tells of a quantization that the weights don't have: remove and pull the "
        "model again, or use another one",
    ),
    Hint(
        r"\[load_safetensors\]|Invalid json (header )?length|Unable to (read|load)|"
        r"\[read\] Unable|parse_error",
        "the model's weights are damaged: remove and pull the model again",
    ),
    Hint(
        r"No safetensors found|No such file or directory: .*config\.json",
        "a file of the model is missing: remove and pull the model again",
    ),
    Hint(
        r"Missing \d+ parameters|Received \d+ parameters not in model|"
        r"Expected shape .* but received",
        "the weights don't fit the model's config.json: remove and pull the model again",
    ),
    Hint(
        r"Unrecognized (processing class|model) in|Couldn't instantiate the backend tokenizer|"
        r"Can't (load|instantiate) tokenizer",
        "the model's tokenizer is missing or damaged: pull the model again",
    ),
    library_missing("mlx-lm", "environment"),
    Hint(
        r"No module named '?(?P<name>[\w.]+)|Library not loaded: (?P<lib>\S+)",
        f"{{name}}{{lib}} is missing: the engine's environment is incomplete; run {anew('mlx-lm')}",
    ),
    Hint(
        r"macOS .* or (newer|later)|built for newer macOS|Metal .*(not supported|version)",
        "macOS or its Metal is older than MLX needs: update macOS",
    ),
    Hint(
        r"the prompt has (?P<tokens>\d+) tokens, more than the context of (?P<size>\d+)",
        "a request of {tokens} tokens came to a context of {size}: "
        "configure a larger one (`--context-size`)",
    ),
    Hint(
        r"sequence length is longer than the specified maximum .*\((?P<tokens>\d+) > (?P<size>\d+)",
        "a request of {tokens} tokens came to a model of {size}: shorten it, or use another model",
    ),
    Hint(
        r"unrecognized arguments: (?P<flag>-[\w-]+)",
        "{flag} is no flag of this MLX LM: take it out of the flags",
    ),
    Hint(
        r"Address already in use|AF_UNIX path too long",
        "its socket can't be made: run `runner restart-runner`",
    ),
)
