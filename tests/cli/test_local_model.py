"""Files of this machine by name: what they are called, and when they are packaged again."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from runner.cli.local_model import name_of, packaged
from runner.demo import Quantization, gguf_path
from runner.registry.reference import parse
from runner.store.store import ModelStore
from tests.weights.gguf_bytes import LLAMA, U16, gguf


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("model.gguf", "localhost/model"),
        ("Qwen2.5-0.5B-Instruct-Q4_K_M.gguf", "localhost/qwen2.5-0.5b-instruct-q4_k_m"),
        ("big-00002-of-00003.gguf", "localhost/big"),
        ("a b (copy)__x.._.gguf", "localhost/a-b-copy-x"),
        ("Überlänge.gguf", "localhost/berl-nge"),
        ("日本.gguf", "localhost/model"),
        ("pipeline.dduf", "localhost/pipeline"),
    ],
)
def test_a_file_gives_its_name(file: str, name: str) -> None:
    assert name_of(Path(file)) == name
    assert parse(name).short == name


def test_a_folder_keeps_its_whole_name(tmp_path: Path) -> None:
    folder = tmp_path / "My.Model-v1.5"
    folder.mkdir()
    assert name_of(folder) == "localhost/my.model-v1.5"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    copy = tmp_path / "demo.gguf"
    shutil.copyfile(gguf_path(), copy)
    return copy


def test_an_unchanged_file_is_packaged_once(
    store: ModelStore, tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert packaged(store, tmp_path, file) == "localhost/demo"
    assert packaged(store, tmp_path, file) == "localhost/demo"
    assert capsys.readouterr().err.count("packaged") == 1


def test_a_changed_file_is_packaged_again(store: ModelStore, tmp_path: Path, file: Path) -> None:
    packaged(store, tmp_path, file)
    before = store.get("localhost/demo").id
    damaged = bytearray(gguf_path().read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    os.utime(file, ns=(1, 1))
    packaged(store, tmp_path, file)
    assert store.get("localhost/demo").id != before


def test_a_removed_model_is_packaged_again(store: ModelStore, tmp_path: Path, file: Path) -> None:
    packaged(store, tmp_path, file)
    store.remove("localhost/demo")
    packaged(store, tmp_path, file)
    assert store.get("localhost/demo")


def test_files_of_one_name_in_two_folders_are_two_models(
    store: ModelStore, tmp_path: Path, file: Path
) -> None:
    other = tmp_path / "other" / file.name
    other.parent.mkdir()
    shutil.copyfile(gguf_path(Quantization.Q8_0), other)
    assert packaged(store, tmp_path, file) == "localhost/demo"
    name = packaged(store, tmp_path, other)
    assert re.fullmatch("localhost/demo-[0-9a-f]{6}", name)
    assert store.get(name).id != store.get("localhost/demo").id
    assert packaged(store, tmp_path, file) == "localhost/demo"
    file.unlink()
    assert packaged(store, tmp_path, other) == name


def test_a_name_is_free_when_its_file_is_gone(
    store: ModelStore, tmp_path: Path, file: Path
) -> None:
    packaged(store, tmp_path, file)
    moved = tmp_path / "other" / file.name
    moved.parent.mkdir()
    file.rename(moved)
    assert packaged(store, tmp_path, moved) == "localhost/demo"


def test_shards_of_one_model_share_its_name(store: ModelStore, tmp_path: Path) -> None:
    facts = {**LLAMA, "split.count": (U16, 2)}
    shards = [tmp_path / f"big-0000{n + 1}-of-00002.gguf" for n in range(2)]
    for number, path in enumerate(shards):
        path.write_bytes(gguf({**facts, "split.no": (U16, number)}))
    assert {packaged(store, tmp_path, path) for path in shards} == {"localhost/big"}


def test_an_unreadable_record_costs_only_time(
    store: ModelStore, tmp_path: Path, file: Path
) -> None:
    (tmp_path / "local-models.json").write_text("{]")
    assert packaged(store, tmp_path, file) == "localhost/demo"
