"""Models split over several files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.errors import BadInput, BadModelFile
from runner.models.describe import folder_config, gguf_config
from runner.models.folder import walk
from runner.weights.gguf_shards import read_gguf_model
from runner.weights.shards import require_shards, shard_names, shard_of, stem_of
from tests.weights.gguf_bytes import LLAMA, STRING, U16, U32, Typed, gguf, tensor
from tests.weights.safetensors_bytes import safetensors


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("model.gguf", ("model.gguf",)),
        ("a/m-00002-of-00002.gguf", ("a/m-00001-of-00002.gguf", "a/m-00002-of-00002.gguf")),
        ("m-00001-of-00001.safetensors", ("m-00001-of-00001.safetensors",)),
        ("m-1-of-2.gguf", ("m-1-of-2.gguf",)),
        (
            "m-\u0660\u0660\u0660\u0660\u0661-of-00002.gguf",
            ("m-\u0660\u0660\u0660\u0660\u0661-of-00002.gguf",),
        ),
    ],
)
def test_names(path: str, names: tuple[str, ...]) -> None:
    assert shard_names(path) == names


@pytest.mark.parametrize(
    ("path", "stem", "shard"),
    [
        ("a/b-00002-of-00003.gguf", "b", (2, 3)),
        ("a/b.gguf", "b", (1, 1)),
        ("b-1-of-2.gguf", "b-1-of-2", (1, 1)),
        ("model-00001-of-00001.safetensors", "model", (1, 1)),
        ("b-\u0660\u0660\u0660\u0660\u0661-of-00002.gguf", None, (1, 1)),
        ("-00001-of-00002.gguf", None, (1, 1)),
    ],
)
def test_stems_and_numbers(path: str, stem: str | None, shard: tuple[int, int]) -> None:
    """What is no shard to `shard_names` is none here."""
    assert (stem_of(path), shard_of(path)) == (stem or path.removesuffix(".gguf"), shard)


@pytest.mark.parametrize(
    "path", ["m-00003-of-00002.gguf", "m-00000-of-00002.gguf", "m-00001-of-10001.gguf"]
)
def test_numbers_that_can_not_be(path: str) -> None:
    with pytest.raises(BadModelFile, match="can't be shard"):
        shard_names(path)


def test_what_is_missing_is_named() -> None:
    require_shards(["a", "b"], ["b", "c", "a"])
    with pytest.raises(BadModelFile, match="not whole: b, d is missing"):
        require_shards(["a", "d", "b"], ["a"])
    with pytest.raises(BadModelFile, match="and 15 more is missing"):
        require_shards([f"{number:02}" for number in range(20)], [])


def shard(number: int, count: int, data: bytes = bytes(16), **more: Typed) -> bytes:
    """The first shard describes the model, the others only themselves."""
    own = LLAMA if number == 0 else {"general.architecture": (STRING, "llama")}
    split = {"split.no": (U16, number), "split.count": (U16, count)}
    tensors = (tensor(f"blk.{number}.attn_q.weight", (4, 2), 1, 0),)
    return gguf(
        {**own, **split, **{k.replace("_", "."): v for k, v in more.items()}}, tensors, data
    )


def written(folder: Path, *shards: bytes, name: str = "m-{:05}-of-{:05}.gguf") -> list[Path]:
    paths = [folder / name.format(number, len(shards)) for number in range(1, len(shards) + 1)]
    for path, content in zip(paths, shards, strict=True):
        path.write_bytes(content)
    return paths


def test_a_whole_model(tmp_path: Path) -> None:
    paths = written(tmp_path, shard(0, 3), shard(1, 3, bytes(64)), shard(2, 3))
    for path in paths:
        model = read_gguf_model(path)
        assert model.paths == tuple(paths)
        assert (model.info.parameters, model.info.data_size) == (24, 96)
        assert model.info.context_length == 256
        assert len(model.info.tensors) == 3
    config = gguf_config(read_gguf_model(paths[0]).info)
    assert (config.parameters, config.size, config.quantization) == ("24", "96B", "F16")
    assert config == folder_config(walk(tmp_path))


def test_a_model_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    model = read_gguf_model(path)
    assert model.paths == (path,)
    assert model.info.parameters == 8


def test_a_missing_shard(tmp_path: Path) -> None:
    paths = written(tmp_path, shard(0, 3), shard(1, 3), shard(2, 3))
    paths[1].unlink()
    for path in (paths[0], paths[2]):
        with pytest.raises(BadModelFile, match=r"not whole: m-00002-of-00003\.gguf is missing"):
            read_gguf_model(path)
    with pytest.raises(BadModelFile, match=r"m-00002-of-00003\.gguf is missing"):
        folder_config(walk(tmp_path))


@pytest.mark.parametrize(
    ("stranger", "reason"),
    [
        (gguf(), r"m-00002-of-00002\.gguf says that it is shard None of 1"),
        (shard(1, 3), "shard 1 of 3"),
        (shard(0, 2), "shard 0 of 2"),
    ],
)
def test_a_shard_of_another_model(tmp_path: Path, stranger: bytes, reason: str) -> None:
    paths = written(tmp_path, shard(0, 2), stranger)
    with pytest.raises(BadModelFile, match=reason):
        read_gguf_model(paths[0])


def test_a_shard_of_fewer_tensors(tmp_path: Path) -> None:
    total: Typed = (U32, 3)
    content = gguf({**LLAMA, "split.count": (U16, 2), "split.tensors.count": total})
    paths = written(tmp_path, content, shard(1, 2))
    with pytest.raises(BadModelFile, match="speaks of 3 tensors, its shards hold 2"):
        read_gguf_model(paths[0])


def test_a_broken_shard(tmp_path: Path) -> None:
    paths = written(tmp_path, shard(0, 2), shard(1, 2)[:-1])
    with pytest.raises(BadModelFile, match=r"m-00002-of-00002\.gguf is cut short"):
        read_gguf_model(paths[0])


def test_a_shard_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "first.gguf").write_bytes(shard(0, 2))
    with pytest.raises(BadModelFile, match=r"first\.gguf is one of 2 shards") as caught:
        read_gguf_model(tmp_path / "first.gguf")
    assert "model-00001-of-00002.gguf" in caught.value.hint


WEIGHTS = safetensors({"a": ("F16", [4])})
INDEX = json.dumps({"metadata": {"total_size": 16}, "weight_map": {"a": "x.safetensors"}}).encode()


def files(folder: Path, **contents: bytes) -> Path:
    for name, content in contents.items():
        (folder / f"{name}.safetensors").write_bytes(content)
    return folder


def test_safetensors_by_their_names(tmp_path: Path) -> None:
    names = ["m-00001-of-00002", "m-00002-of-00002"]
    files(tmp_path, **dict.fromkeys(names, WEIGHTS))
    assert folder_config(walk(tmp_path)).parameters == "8.00"
    (tmp_path / "m-00001-of-00002.safetensors").unlink()
    with pytest.raises(BadModelFile, match=r"m-00001-of-00002\.safetensors is missing"):
        folder_config(walk(tmp_path))


def test_safetensors_by_their_index(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(INDEX)
    files(tmp_path, y=WEIGHTS)
    with pytest.raises(BadModelFile, match=r"not whole: x\.safetensors is missing"):
        folder_config(walk(tmp_path))
    files(tmp_path, x=safetensors({"a": ("F32", [1])}))
    config = folder_config(walk(tmp_path))
    assert (config.parameters, config.quantization) == ("1.00", "F32")


def test_an_index_in_a_sub_folder(tmp_path: Path) -> None:
    inner = tmp_path / "unet"
    inner.mkdir()
    (inner / "model.safetensors.index.json").write_bytes(INDEX)
    files(tmp_path, x=WEIGHTS)
    with pytest.raises(BadModelFile, match=r"unet/x\.safetensors is missing"):
        folder_config(walk(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"weight_map":{"a":1}}', b"[]", b"\xff"])
def test_an_index_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(content)
    files(tmp_path, x=WEIGHTS)
    with pytest.raises(BadModelFile, match=r"index\.json is no index of shards"):
        folder_config(walk(tmp_path))


def test_broken_weights_are_named(tmp_path: Path) -> None:
    files(tmp_path, x=WEIGHTS, y=WEIGHTS[:-1])
    with pytest.raises(BadModelFile, match=r"y\.safetensors is cut short"):
        folder_config(walk(tmp_path))


def test_several_ggufs_of_which_one_is_split(tmp_path: Path) -> None:
    written(tmp_path, shard(0, 2), shard(1, 2))
    (tmp_path / "other.gguf").write_bytes(gguf())
    with pytest.raises(BadInput, match="2 GGUF models"):
        folder_config(walk(tmp_path))
