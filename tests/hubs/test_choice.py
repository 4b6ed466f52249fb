"""Which files make a model, for repositories as they are found at Hugging Face."""

from __future__ import annotations

import pytest

from runner.errors import BadInput, BadModelFile, ModelNotFound, RunnerError
from runner.hubs.choice import Choice, Shape, best_projector, choose
from runner.hubs.listing import HubFile

BARTOWSKI = """
.gitattributes README.md Llama-3.2-3B-Instruct-IQ3_M.gguf Llama-3.2-3B-Instruct-IQ4_XS.gguf
Llama-3.2-3B-Instruct-Q4_0.gguf Llama-3.2-3B-Instruct-Q4_K_L.gguf
Llama-3.2-3B-Instruct-Q4_K_M.gguf Llama-3.2-3B-Instruct-Q4_K_S.gguf
Llama-3.2-3B-Instruct-Q8_0.gguf Llama-3.2-3B-Instruct-f16.gguf Llama-3.2-3B-Instruct.imatrix.gguf
"""
UNSLOTH = """
README.md BF16/big-BF16-00001-of-00002.gguf BF16/big-BF16-00002-of-00002.gguf
Q8_0/big-Q8_0-00002-of-00002.gguf Q8_0/big-Q8_0-00001-of-00002.gguf
big-UD-Q4_K_XL.gguf big-UD-IQ2_XXS.gguf big-Q6_K.gguf mmproj-BF16.gguf mmproj-F16.gguf
mmproj-F32.gguf config.json imatrix_unsloth.gguf
"""
LLAMA = """
.gitattributes LICENSE.txt README.md USE_POLICY.md config.json generation_config.json
model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json
original/consolidated.00.pth original/params.json original/tokenizer.model
special_tokens_map.json tokenizer.json tokenizer_config.json chat_template.jinja
"""
MISTRAL = """
README.md config.json consolidated.safetensors model-00001-of-00001.safetensors params.json
tekken.json tokenizer.json model.safetensors.index.json
"""
BERT = """
README.md config.json model.safetensors pytorch_model.bin tf_model.h5 flax_model.msgpack
model.onnx onnx/model.onnx onnx/model_quantized.onnx openvino/openvino_model.xml
openvino/openvino_model.bin rust_model.ot coreml/x.mlmodel tokenizer.json vocab.txt
training_args.bin checkpoint-500/model.safetensors checkpoint-500/optimizer.pt runs/a/events.out
1_Pooling/config.json 2_Dense/config.json 2_Dense/pytorch_model.bin figure.png
"""
DIFFUSERS = """
model_index.json README.md sd_xl_base_1.0.safetensors scheduler/scheduler_config.json
text_encoder/config.json text_encoder/model.safetensors text_encoder/model.fp16.safetensors
unet/config.json unet/diffusion_pytorch_model.safetensors
unet/diffusion_pytorch_model.fp16.safetensors unet/diffusion_pytorch_model.bin
vae/config.json vae/diffusion_pytorch_model.fp16.safetensors tokenizer/vocab.json
"""
MLX = "config.json model.safetensors model.safetensors.index.json tokenizer.json README.md"
TORCH = "config.json pytorch_model.bin tf_model.h5 vocab.txt tokenizer.json modeling_x.py"
BOTH = "config.json model.safetensors tokenizer.json x-q4_k_m.gguf x-q8_0.gguf"


def files(text: str) -> tuple[HubFile, ...]:
    """Larger ones later, so that the smallest is the first."""
    return tuple(HubFile(path, 100 + n, f"sha256:{n:064}") for n, path in enumerate(text.split()))


def paths(choice: Choice) -> list[str]:
    return [file.path for file in choice.files]


@pytest.mark.parametrize(
    ("name", "text", "tag", "chosen"),
    [
        ("a/L-GGUF", BARTOWSKI, "", "Llama-3.2-3B-Instruct-Q4_K_M.gguf"),
        ("a/L-GGUF", BARTOWSKI, "latest", "Llama-3.2-3B-Instruct-Q4_K_M.gguf"),
        ("a/L-GGUF", BARTOWSKI, "Q4_K_S", "Llama-3.2-3B-Instruct-Q4_K_S.gguf"),
        ("a/L-GGUF", BARTOWSKI, "q4_k_s", "Llama-3.2-3B-Instruct-Q4_K_S.gguf"),
        ("a/L-GGUF", BARTOWSKI, "iq4_xs", "Llama-3.2-3B-Instruct-IQ4_XS.gguf"),
        ("a/L-GGUF", BARTOWSKI, "F16", "Llama-3.2-3B-Instruct-f16.gguf"),
        ("a/L-GGUF", BARTOWSKI, "FP16", "Llama-3.2-3B-Instruct-f16.gguf"),
        ("a/L-GGUF", BARTOWSKI, "Q8", "Llama-3.2-3B-Instruct-Q8_0.gguf"),
        (
            "a/L-GGUF",
            BARTOWSKI,
            "Llama-3.2-3B-Instruct-Q8_0.gguf",
            "Llama-3.2-3B-Instruct-Q8_0.gguf",
        ),
        ("a/L-GGUF", BARTOWSKI, "llama-3.2-3b-instruct-q8_0", "Llama-3.2-3B-Instruct-Q8_0.gguf"),
        ("u/big-GGUF", UNSLOTH, "", "big-UD-Q4_K_XL.gguf"),
        ("u/big-GGUF", UNSLOTH, "UD-Q4_K_XL", "big-UD-Q4_K_XL.gguf"),
        ("u/big-GGUF", UNSLOTH, "Q4_K_XL", "big-UD-Q4_K_XL.gguf"),
        (
            "u/big-GGUF",
            UNSLOTH,
            "Q8_0",
            "Q8_0/big-Q8_0-00001-of-00002.gguf Q8_0/big-Q8_0-00002-of-00002.gguf",
        ),
        (
            "u/big-GGUF",
            UNSLOTH,
            "BF16",
            "BF16/big-BF16-00001-of-00002.gguf BF16/big-BF16-00002-of-00002.gguf",
        ),
        ("a/x-GGUF", "x-IQ2_XXS.gguf x-F16.gguf x-Q2_K.gguf", "", "x-IQ2_XXS.gguf"),
        ("a/x-GGUF", "x-F32.gguf x-Q8_0.gguf x-Q5_K_M.gguf", "", "x-Q5_K_M.gguf"),
        ("a/x-GGUF", "x-Q4_K_M.gguf x-UD-Q4_K_M.gguf", "", "x-Q4_K_M.gguf"),
        ("a/x-GGUF", "x-MXFP4_MOE.gguf x-F16.gguf", "mxfp4", "x-MXFP4_MOE.gguf"),
        ("a/x", "model.gguf README.md", "", "model.gguf"),
        ("a/flux", "flux1-dev-Q4_0.gguf flux1-schnell-Q4_0.gguf", "dev", "flux1-dev-Q4_0.gguf"),
        ("a/x", BOTH, "Q8_0", "x-q8_0.gguf"),
        ("a/x-GGUF", BOTH, "", "x-q4_k_m.gguf"),
        ("a/x", "x.dduf README.md", "", "x.dduf"),
        ("a/x", "x-small.dduf x-large.dduf", "x-large", "x-large.dduf"),
    ],
)
def test_files_are_chosen(name: str, text: str, tag: str, chosen: str) -> None:
    choice = choose(name, files(text), tag)
    assert paths(choice) == chosen.split()
    assert choice.shape is Shape.FILES


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        (LLAMA, ".gitattributes original/"),
        (MISTRAL, "consolidated.safetensors"),
        (
            BERT,
            "pytorch_model.bin tf_model.h5 flax_model.msgpack model.onnx onnx/ openvino/"
            " rust_model.ot coreml/ training_args.bin checkpoint-500/ runs/ figure.png",
        ),
        (
            DIFFUSERS,
            "sd_xl_base_1.0.safetensors text_encoder/model.fp16.safetensors"
            " unet/diffusion_pytorch_model.fp16.safetensors unet/diffusion_pytorch_model.bin",
        ),
        (MLX, ""),
        (TORCH, "tf_model.h5"),
        (BOTH, "x-q4_k_m.gguf x-q8_0.gguf"),
        ("params.json consolidated.safetensors tekken.json", ""),
        ("config.json original/consolidated.00.pth", ""),
        ("config.json onnx/model.onnx onnx/model.onnx_data", ""),
    ],
)
def test_folders_hold_one_set_of_weights(text: str, left_out: str) -> None:
    choice = choose("org/model", files(text))
    unwanted = left_out.split()
    expected = [
        path
        for path in sorted(text.split())
        if not any(path == out or (out.endswith("/") and path.startswith(out)) for out in unwanted)
    ]
    assert paths(choice) == expected
    assert choice.shape is Shape.FOLDER


@pytest.mark.parametrize(
    ("name", "text", "tag", "error", "said", "hint"),
    [
        ("a/L-GGUF", BARTOWSKI, "Q5_K_M", ModelNotFound, "has no Q5_K_M", "Q4_K_M, Q4_K_S, Q8_0"),
        ("a/L-GGUF", BARTOWSKI, "Q4_K", ModelNotFound, "has no Q4_K", "Q4_K_M"),
        ("a/L-GGUF", BARTOWSKI, "Q4", BadInput, "fits several", "Instruct-Q4_K_S.gguf"),
        ("a/L-GGUF", BARTOWSKI, "main", ModelNotFound, "has no main", "Q4_0"),
        ("meta/L", LLAMA, "Q4_K_M", ModelNotFound, "no GGUF files", "@REVISION"),
        ("a/x", "a-Q4_0.gguf b-Q4_0.gguf", "", BadInput, "several models", "a-Q4_0.gguf"),
        ("a/x", "a-Q4_0.gguf b-Q4_0.gguf", "q4_0", BadInput, "several files", "b-Q4_0.gguf"),
        ("a/x", "a.dduf b.dduf", "", BadInput, "several DDUF", "a, b"),
        ("a/x", "README.md config.json", "", ModelNotFound, "no weights", ""),
        ("a/x", "config.json tf_model.h5", "", ModelNotFound, "no weights", "safetensors"),
        ("a/whisper", "ggml-base.bin ggml-tiny.bin", "", ModelNotFound, "no weights", "GGUF"),
        ("a/x", "", "", ModelNotFound, "no weights", ""),
        ("a/x-GGUF", "mmproj-F16.gguf", "", ModelNotFound, "no weights", ""),
        (
            "a/x-GGUF",
            "x-Q4_K_M-00001-of-00003.gguf x-Q4_K_M-00003-of-00003.gguf",
            "",
            BadModelFile,
            "part 2 of 3 of x-Q4_K_M.gguf is missing",
            "later",
        ),
        (
            "a/x",
            "config.json model-00002-of-00002.safetensors",
            "",
            BadModelFile,
            "part 1 of 2 of model.safetensors",
            "later",
        ),
    ],
)
def test_what_cannot_be_chosen_says_what_is_there(
    name: str, text: str, tag: str, error: type[RunnerError], said: str, hint: str
) -> None:
    with pytest.raises(RunnerError) as caught:
        choose(name, files(text), tag)
    assert type(caught.value) is error
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_long_lists_are_cut() -> None:
    many = " ".join(f"m{n}.gguf" for n in range(40))
    with pytest.raises(ModelNotFound) as caught:
        choose("a/x", files(many), "nothing")
    assert caught.value.hint.endswith("and 20 more")


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        (UNSLOTH, "mmproj-BF16.gguf mmproj-F16.gguf mmproj-F32.gguf"),
        ("x-Q4_0.gguf", ""),
        ("a/x-Q4_0.gguf a/mmproj.gguf b/mmproj.gguf", "a/mmproj.gguf"),
        ("a/x-Q4_0.gguf b/mmproj.gguf", "b/mmproj.gguf"),
    ],
)
def test_projectors_are_candidates(text: str, candidates: str) -> None:
    choice = choose("a/x-GGUF", files(text))
    assert [file.path for file in choice.projectors] == candidates.split()


@pytest.mark.parametrize(
    ("precisions", "best"),
    [
        ("F32 F16 BF16", 1),
        ("F32 BF16", 1),
        ("Q8_0 F32", 1),
        ("Q8_0 Q4_0", 0),
        ("Unknown", 0),
        ("F16 F16", 0),
    ],
)
def test_the_best_projector_is_told_by_its_precision(precisions: str, best: int) -> None:
    listed = files(" ".join(f"mmproj-{n}.gguf" for n in range(len(precisions.split()))))
    found = list(zip(listed, precisions.split(), strict=True))
    assert best_projector(found) is listed[best]
    assert best_projector(found[::-1]) is listed[best]
