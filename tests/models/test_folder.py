"""Which files of a folder belong to the model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.artifacts.media import LayerKind
from runner.errors import BadInput
from runner.models import folder as module
from runner.models.folder import FolderFile, walk


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def test_in_the_order_of_their_folders(tmp_path: Path) -> None:
    fill(tmp_path, "b.json", "a/z.safetensors", "a/b/c.txt", "a.txt", "B.md", "a-b")
    assert [file.path for file in walk(tmp_path).files] == [
        "B.md",
        "a/b/c.txt",
        "a/z.safetensors",
        "a-b",
        "a.txt",
        "b.json",
    ]


def test_what_is_known_of_a_file(tmp_path: Path) -> None:
    folder = walk(fill(tmp_path, "unet/x.safetensors"))
    (file,) = folder.files
    assert file == FolderFile("unet/x.safetensors", 18, LayerKind.SAFETENSORS)
    assert folder.source(file).read_bytes() == b"unet/x.safetensors"
    assert folder.of(LayerKind.SAFETENSORS) == (file,)
    assert folder.of(LayerKind.GGUF) == ()
    assert folder.names == {"unet/x.safetensors"}


def test_what_is_hidden_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, ".git/config", "a/.cache/x", ".gitattributes", "a/b")
    (tmp_path / ".link").symlink_to("/etc/passwd")
    assert walk(tmp_path).names == {"a/b"}


def test_relative_and_linked_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "model", "a")
    (tmp_path / "link").symlink_to("model")
    monkeypatch.chdir(tmp_path)
    for path in (Path("model"), Path("link"), Path("./model/../link")):
        found = walk(path)
        assert found.path == (tmp_path / "model").resolve()
        assert found.names == {"a"}


def test_links_inside_are_followed(tmp_path: Path) -> None:
    fill(tmp_path, "a/real.bin")
    (tmp_path / "link.bin").symlink_to("a/real.bin")
    assert {file.path: file.size for file in walk(tmp_path).files} == {
        "a/real.bin": 10,
        "link.bin": 10,
    }


def test_the_cache_of_hugging_face(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    fill(repository / "blobs", "0a1b")
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/0a1b")
    assert walk(snapshot).files == (FolderFile("config.json", 4, LayerKind.FILE),)
    (snapshot / "x").symlink_to("../../../secret")
    fill(tmp_path, "secret")
    with pytest.raises(BadInput, match="leads out"):
        walk(snapshot)


def test_other_folders_called_blobs_are_outside(tmp_path: Path) -> None:
    fill(tmp_path, "blobs/a", "models/m/b")
    (tmp_path / "models" / "m" / "link").symlink_to("../../blobs/a")
    with pytest.raises(BadInput, match="leads out"):
        walk(tmp_path / "models" / "m")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/etc/passwd", "leads out of the model's folder"),
        ("../outside", "leads out of the model's folder"),
        ("folder", "is not a file"),
        ("nothing", "No such file"),
        ("link", "Too many levels"),
    ],
)
def test_other_links_are_refused(tmp_path: Path, target: str, reason: str) -> None:
    fill(tmp_path, "outside", "model/folder/a")
    (tmp_path / "model" / "link").symlink_to(target)
    with pytest.raises(BadInput, match=reason):
        walk(tmp_path / "model")


def test_a_folder_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    fill(tmp_path, "model-2/a", "model/b")
    (tmp_path / "model" / "link").symlink_to("../model-2/a")
    with pytest.raises(BadInput, match="leads out"):
        walk(tmp_path / "model")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="pipe is not a file"):
        walk(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "C:x", b"\xff"])
def test_names_that_can_not_be_kept(tmp_path: Path, name: str | bytes) -> None:
    (tmp_path / os.fsdecode(name)).touch()
    with pytest.raises(BadInput, match="can't hold a file called") as caught:
        walk(tmp_path)
    assert caught.value.hint == "rename it"
    caught.value.message.encode()


def test_names_that_differ_by_composition_alone(tmp_path: Path) -> None:
    fill(tmp_path, "\u00e4", "a\u0308")
    with pytest.raises(BadInput, match="share the path"):
        walk(tmp_path)


def test_folders_that_are_none(tmp_path: Path) -> None:
    fill(tmp_path, "file", "empty/.hidden")
    for name, reason in (("nothing", "No such"), ("file", "not a folder"), ("empty", "no files")):
        with pytest.raises(BadInput, match=reason):
            walk(tmp_path / name)


def test_a_folder_of_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LAYERS", 2)
    fill(tmp_path, "a/1", "b/2")
    assert len(walk(tmp_path).files) == 2
    fill(tmp_path, "c")
    with pytest.raises(BadInput, match="more than 2 files"):
        walk(tmp_path)
