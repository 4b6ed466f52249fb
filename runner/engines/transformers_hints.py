"""What a person can do about the lines that transformers ends with."""

from __future__ import annotations

from runner.engines.host_hints import NO_DRIVER_LIBRARY, NO_GPU, anew, library_missing
from runner.engines.loghints import Hint

HINTS = (
    Hint(
        r"CUDA out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory",
        "not enough memory: use a smaller context (`--context-size`), a smaller model, or a "
        "quantized one with another engine (`runner explain`)",
    ),
    Hint(
        r"NVIDIA driver on your system is too old|no kernel image is available",
        "the GPU or its driver is older than this image needs: update the driver, or choose "
        "another variant with --gpu (`runner explain` tells which fit)",
    ),
    Hint(
        r"model type `?(?P<name>[\w.-]+)`? but Transformers does not recognize",
        "this transformers does not know the model type {name}: update the engine, or use another "
        "one (`runner explain`)",
    ),
    Hint(
        r"module transformers has no attribute (?P<name>\w+)",
        "this transformers does not know the architecture {name}: update the engine, or use "
        "another one (`runner explain`)",
    ),
    Hint(
        r"trust_remote_code=True|contains custom code",
        "the model brings code of its own that would be run: read it, then "
        "`runner configure MODEL --trust-remote-code`, or use another model",
    ),
    Hint(
        r"error while deserializing header|SafetensorError|HeaderTooLarge|"
        r"MetadataIncompleteBuffer|incomplete metadata|PytorchStreamReader failed",
        "the model's weights are damaged: remove and pull the model again",
    ),
    Hint(
        r"the weights lack (?P<count>\d+) of the model's tensors: (?P<name>[^\s,]+)",
        "the model's files lack weights, {name} among {count}: remove and pull the model again; "
        "if that doesn't help, they are not for its config.json: use another model",
    ),
    Hint(
        r"no file named model\.safetensors|does not appear to have a file named",
        "a file of the model is missing: remove and pull the model again",
    ),
    Hint(
        r"ignore_mismatched_sizes|size mismatch for",
        "the weights don't fit the model's config.json: remove and pull the model again",
    ),
    Hint(
        r"(requires?|required for) (the )?(?P<name>gptqmodel|optimum|bitsandbytes|"
        r"compressed[-_]tensors|torchao|"
        r"hqq|aqlm|vptq|auto[-_]round|kernels)|using `?(?P<method>bitsandbytes|compressed_tensors)",
        "the engine's image has no package for this quantization: use another engine "
        "(`runner explain` tells which read it)",
    ),
    Hint(
        r"Unrecognized (processing class|model) in|Couldn't instantiate the backend tokenizer|"
        r"Can't (load|instantiate) (tokenizer|a processor)|Unable to load (vocabulary|tokenizer)",
        "the model's tokenizer or config.json is missing or damaged: pull the model again",
    ),
    NO_GPU,
    NO_DRIVER_LIBRARY,
    library_missing("transformers"),
    Hint(
        r"No module named '?(?P<name>[\w.]+)",
        f"{{name}} is missing: the engine's image is incomplete; run {anew('transformers')}",
    ),
    Hint(
        r"No such option:? '?(?P<flag>-[\w-]+)",
        "{flag} is no flag of this transformers: take it out of the flags",
    ),
    Hint(
        r"sequence length is longer than the specified maximum .*\((?P<tokens>\d+) > (?P<size>\d+)",
        "a request of {tokens} tokens came to a model of {size}: shorten it, or use another model",
    ),
    Hint(
        r"No working C\+\+ compiler|InvalidCxxCompiler",
        "--compile needs a compiler, which the image has not: take the flag out",
    ),
    Hint(
        r"chat_template is not set|does not have a chat template",
        "the model has no chat template: set one with `chat_template`, or ask /v1/completions",
    ),
)
