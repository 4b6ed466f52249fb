"""What models' own files say of them."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runner.artifacts.artifact import ModelConfig
from runner.artifacts.media import ModelFormat
from runner.errors import BadInput, BadModelFile
from runner.models.describe import (
    bytes_text,
    count_text,
    dduf_config,
    decimal_text,
    folder_config,
    gguf_config,
    metadata_texts,
)
from runner.models.folder import walk
from runner.weights.gguf import parse_gguf
from tests.artifacts import golden
from tests.weights.gguf_bytes import ARRAY, BOOL, F32, F64, I16, LLAMA, STRING, U32, U64, gguf
from tests.weights.safetensors_bytes import safetensors

CONFIG = json.dumps({"architectures": ["ToyModel"], "n_ctx": 32}).encode()
CT2 = struct.pack("<IH", 6, 12) + b"WhisperSpec\0" + struct.pack("<II", 3, 0)
PICKLE = pickle.dumps({"a": 1})


@pytest.fixture
def made(tmp_path: Path) -> Callable[[Mapping[str, bytes]], ModelConfig]:
    """The config of a folder of these files."""

    def make(files: Mapping[str, bytes]) -> ModelConfig:
        for name, content in files.items():
            path = tmp_path / "folder" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder_config(walk(tmp_path / "folder"))

    return make


Made = Callable[[Mapping[str, bytes]], ModelConfig]


@pytest.mark.parametrize(
    ("file_type", "text"),
    [(15, "IQ2_XXS/Q4_K_M"), (18, "IQ1_S/Q6_K"), (7, "Q8_0"), (32, "BF16"), (28, "IQ2_S")],
)
def test_quantizations_of_gguf(file_type: int, text: str) -> None:
    content = gguf({**LLAMA, "general.file_type": (U32, file_type)})
    assert gguf_config(parse_gguf(content, len(content))).quantization == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (183, "183"),
        (1000, "1K"),
        (1_312_512, "1.31M"),
        (16_780_000, "16.78M"),
        (361_821_120, "361.82M"),
        (7_000_000_000, "7B"),
        (1_000_000_000_000, "1T"),
    ],
)
def test_count_texts(count: int, text: str) -> None:
    assert count_text(count) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (864, "864B"),
        (1000, "1KB"),
        (1024, "1KiB"),
        (268_800_000, "256.35MiB"),
        (10**9, "1GB"),
        (2**30, "1GiB"),
    ],
)
def test_bytes_texts(size: int, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0.00"), (999, "999.00"), (1000, "1.00K"), (7 * 10**9, "7.00B"), (10**16, "10000.00T")],
)
def test_decimal_texts(number: int, text: str) -> None:
    assert decimal_text(number, ("", "K", "M", "B", "T")) == text


def test_metadata_texts() -> None:
    content = gguf(
        {
            "f": (F32, 0.123456789),
            "a": (U64, 1311768467463790320),
            "b": (I16, -4661),
            "c": (BOOL, False),
            "d": (F64, float("inf")),
            "e": (F64, float("nan")),
            "g": (ARRAY, I16, [1, 2, 3, 4]),
            "h": (ARRAY, STRING, ["x"] * 11),
            "i": (ARRAY, BOOL, [True]),
            "j": (F64, float("-inf")),
        }
    )
    assert list(metadata_texts(parse_gguf(content, len(content)).metadata).items()) == [
        ("a", "1311768467463790320"),
        ("b", "-4661"),
        ("c", "false"),
        ("d", "+Inf"),
        ("e", "NaN"),
        ("f", "0.123457"),
        ("g", "1, 2, 3, 4"),
        ("i", "true"),
        ("j", "-Inf"),
    ]


def test_the_golden_folder(made: Made) -> None:
    assert made(golden.FOLDER) == ModelConfig(
        ModelFormat.SAFETENSORS,
        quantization="F16",
        parameters="8.00",
        architecture="LlamaForCausalLM",
        size="200.00B",
        context_size=64,
        metadata={"architecture": "LlamaForCausalLM", "format": "pt", "tensor_count": "2"},
    )


def test_a_folder_of_one_gguf(made: Made) -> None:
    config = made({"a/model.gguf": golden.GGUF, "README.md": b"#", "mmproj.gguf": golden.GGUF})
    assert (config.format, config.parameters, config.size) == (ModelFormat.GGUF, "8", "16B")
    assert config.context_size is None


def test_a_folder_of_two_ggufs(made: Made) -> None:
    with pytest.raises(BadInput, match=r"2 GGUF models: a\.gguf, b\.gguf"):
        made({"a.gguf": golden.GGUF, "b.gguf": golden.GGUF})


def test_safetensors_without_any_config(made: Made) -> None:
    config = made({"m.safetensors": safetensors({"a": ("F16", [2]), "b": ("F32", [1])})})
    assert (config.quantization, config.architecture, config.context_size) == ("mixed", "", None)
    assert config.parameters == "3.00"


def test_safetensors_without_any_tensor(made: Made) -> None:
    config = made({"m.safetensors": safetensors({})})
    assert (config.quantization, config.parameters) == ("unknown", "")


@pytest.mark.parametrize(
    ("quantization", "tensors", "text", "parameters"),
    [
        (
            {"quantization_config": {"quant_method": "awq", "bits": 4}},
            {"l.qweight": ("I32", [2, 2]), "l.scales": ("F16", [2]), "l.qzeros": ("I32", [1])},
            "awq-int4",
            "35.00",
        ),
        (
            {"quantization": {"bits": 4, "group_size": 64}},
            {"l.weight": ("U32", [2, 2]), "l.scales": ("F16", [2]), "n.weight": ("BF16", [3])},
            "mlx-int4",
            "37.00",
        ),
        (
            {"quantization_config": {"quant_method": "fp8"}},
            {"l.weight": ("F8_E4M3", [2, 2])},
            "fp8",
            "4.00",
        ),
    ],
)
def test_quantized_safetensors(
    made: Made,
    quantization: dict[str, object],
    tensors: dict[str, tuple[str, list[int]]],
    text: str,
    parameters: str,
) -> None:
    config = made(
        {
            "config.json": json.dumps(quantization).encode(),
            "model.safetensors": safetensors(tensors),
        }
    )
    assert (config.quantization, config.parameters) == (text, parameters)


def test_an_adapter_names_its_base(made: Made) -> None:
    config = made(
        {
            "adapter_config.json": b'{"base_model_name_or_path":"org/base"}',
            "adapter_model.safetensors": safetensors({"a": ("F16", [1])}),
        }
    )
    assert config.base == "org/base"


def test_a_pipeline_folder(made: Made) -> None:
    config = made(
        {
            "model_index.json": b'{"_class_name":"StableDiffusionPipeline"}',
            "unet/model.safetensors": safetensors({"a": ("F16", [2])}),
            "vae/model.safetensors": safetensors({"a": ("F16", [1])}),
        }
    )
    assert (config.format, config.architecture) == (
        ModelFormat.DIFFUSERS,
        "StableDiffusionPipeline",
    )
    assert config.parameters == "3.00"


@pytest.mark.parametrize(
    ("files", "model_format", "architecture", "pickles"),
    [
        ({"pytorch_model.bin": PICKLE}, ModelFormat.PYTORCH, "ToyModel", True),
        ({"a.ckpt": PICKLE, "x.bin": b"raw"}, ModelFormat.PYTORCH, "ToyModel", True),
        (
            {"model.bin": CT2, "vocabulary.txt": b"a\n"},
            ModelFormat.CTRANSLATE2,
            "ToyModel",
            False,
        ),
        ({"a/model.onnx": b"\x08\x08:3"}, ModelFormat.ONNX, "ToyModel", False),
        (
            {"net.xml": b'<?xml version="1.0"?>\n<net name="x">', "net.bin": b"\0"},
            ModelFormat.OPENVINO,
            "ToyModel",
            False,
        ),
    ],
)
def test_other_formats(
    made: Made,
    files: dict[str, bytes],
    model_format: ModelFormat,
    architecture: str,
    pickles: bool,
) -> None:
    config = made({"config.json": CONFIG, **files})
    assert (config.format, config.architecture) == (model_format, architecture)
    assert (config.pickles, config.context_size) == (pickles, 32)


def test_a_ctranslate2_model_says_what_it_is(made: Made) -> None:
    assert made({"model.bin": CT2, "vocabulary.json": b"[]"}).architecture == "WhisperSpec"


def test_contents_count_and_not_names(made: Made) -> None:
    vocabulary = {"vocabulary.txt": b"a\n", "net.xml": b"<other/>", "net.bin": b"\0"}
    config = made({**vocabulary, "model.onnx": b"<html>", "model.bin": PICKLE})
    assert (config.format, config.pickles) == (ModelFormat.PYTORCH, True)


@pytest.mark.parametrize(
    "files",
    [
        {"README.md": b"#"},
        {"model.bin": b"raw"},
        {"model.onnx": b"version https://git-lfs.github.com/spec/v1\n"},
        {"net.xml": b"<net/>"},
        {"model.bin": CT2[:5], "vocabulary.txt": b""},
        {"training_args.bin": PICKLE},
    ],
)
def test_folders_without_weights(made: Made, files: dict[str, bytes]) -> None:
    with pytest.raises(BadInput, match="no weights of a format that is known"):
        made(files)


def test_pickles_beside_safetensors(made: Made) -> None:
    weights = safetensors({"a": ("F16", [1])})
    assert not made({"m.safetensors": weights, "training_args.bin": PICKLE}).pickles
    assert made({"sub/hidden.dat": PICKLE}).pickles


def test_a_config_that_is_none(made: Made) -> None:
    with pytest.raises(BadModelFile, match=r"the file config\.json is not JSON"):
        made({"config.json": b"{", "m.safetensors": safetensors({})})


def test_a_dduf_file(tmp_path: Path) -> None:
    path = tmp_path / "x.dduf"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model_index.json", "{}")
    assert dduf_config(path) == ModelConfig(
        ModelFormat.DDUF,
        architecture="diffusers",
        size=f"{path.stat().st_size}.00B",
        metadata={"dduf_file": "x.dduf", "layout": "dduf"},
    )
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadModelFile, match="no readable zip"):
        dduf_config(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.json", "{}")
    with pytest.raises(BadModelFile, match=r"no model_index\.json"):
        dduf_config(path)
