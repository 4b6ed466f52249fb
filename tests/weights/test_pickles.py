"""Telling files that run code from those that do not."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.errors import BadInput
from runner.weights import zips
from runner.weights.pickles import (
    is_ctranslate2,
    is_left_over,
    is_openvino,
    is_pickle,
    pickled_names,
)
from tests.artifacts import golden


class Evil:
    """Calls something when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return print, ("loaded",)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.dat"


def archive(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as written:
        for name in names:
            written.writestr(name, b"x")
    return target.getvalue()


def old_torch() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as written:
        written.addfile(tarfile.TarInfo("sys_info"))
    return target.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [Evil(), OrderedDict(a=1), [{"a": Evil()}]])
def test_all_protocols(file: Path, protocol: int, value: object) -> None:
    file.write_bytes(pickle.dumps(value, protocol))
    assert is_pickle(file)


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cos\nsystem\nS'true'\n\x85R.",
        b"(S'true'\nios\nsystem\n.",
        b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"N0" * 100_000 + b"cos\nsystem\n(S'true'\ntR.",
        pickle.dumps(0x1950A86A20F9469CFC6C, 2),
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)[2:],
        pickle.dumps({"w": bytes(200_000)}, 4),
        archive("archive/data.pkl", "archive/data/0"),
        archive("x/constants.pkl"),
        archive("archive/data.pkl")[:-1],
        b"PK\x03\x04" + bytes(100),
        old_torch(),
    ],
)
def test_pickles(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert is_pickle(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"\x80\x04",
        b'{"a": 1}',
        b"can\nthe\ntable\n",
        b"in\nthe\nto\n",
        b"(in\nthe beginning\n",
        b"(c) 2024 Somebody\nAll rights reserved\n",
        b"0.5 0.25\n",
        b"# Title\n\nText.\n",
        golden.GGUF,
        golden.SAFETENSORS,
        archive("model_index.json", "unet/model.safetensors"),
        struct.pack("<IH", 6, 12) + b"WhisperSpec\0",
        b"\x08\x08:3\n\x0c",
        bytes(100_000),
    ],
)
def test_others(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert not is_pickle(file)


@given(st.binary(max_size=200))
@example(b"\x80\x04\x8d" + b"\xff" * 8)
@example(b"\x80\x02\x8b\xff\xff\xff\xff")
@example(b"(I" + b"9" * 5000 + b"\n")
def test_any_bytes_are_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "x"
    path.write_bytes(content)
    is_pickle(path)


def test_a_zip_with_an_endless_list_is_not_read(file: Path) -> None:
    size = zips.MAX_LIST + 1
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, size, 4, 0)
    with file.open("wb") as content:
        content.write(b"PK\x03\x04")
        content.truncate(4 + size)
        content.seek(4 + size)
        content.write(end)
    assert is_pickle(file)


def test_a_zip_with_a_long_list_is_not_trusted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(archive("model_index.json"))
    assert not is_pickle(file)
    monkeypatch.setattr(zips, "MAX_LIST", 30)
    assert is_pickle(file)


def test_what_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't read"):
        is_pickle(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("names", "pickled"),
    [
        (("a/pytorch_model.bin", "model.safetensors"), ("a/pytorch_model.bin",)),
        (("x.PT", "y.ckpt", "z.pkl", "v.pth"), ("x.PT", "y.ckpt", "z.pkl", "v.pth")),
        (("training_args.bin", "a/optimizer.pt", "rng_state_0.pth", "scheduler.pt"), ()),
        (("model.bin", "config.json"), ("model.bin",)),
        (("model.bin", "config.json", "shared_vocabulary.txt"), ()),
        (("net.xml", "net.bin", "other.bin"), ("other.bin",)),
        (("a/net.xml", "net.bin"), ("net.bin",)),
        (("", "bin", "x.json"), ()),
    ],
)
def test_by_their_names(names: tuple[str, ...], pickled: tuple[str, ...]) -> None:
    assert pickled_names(names) == pickled


def test_one_name() -> None:
    assert is_pickle("a/pytorch_model.bin")
    assert not is_pickle("model.safetensors")
    assert is_left_over("run/training_args.bin")
    assert not is_left_over("run/model.bin")


def test_formats_that_share_a_suffix() -> None:
    assert is_ctranslate2({"model.bin", "source_vocabulary.json"})
    assert not is_ctranslate2({"model.bin", "vocab.json"})
    assert is_openvino({"a/x.xml", "a/x.bin"})
    assert not is_openvino({"a/x.xml", "x.bin"})
