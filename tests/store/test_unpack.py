"""Unpacking archives: what is in them comes out, and nothing else happens."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.artifacts.media import Packing
from runner.errors import BadModelFile, DiskFull
from runner.store import tar_stream, unpack
from runner.store.tree import Tree
from runner.store.unpack import Unpacker
from tests.store.tars import header, packed, raw_header, tar, zstd

PACKINGS = [Packing.TAR, Packing.TAR_GZIP, Packing.TAR_ZSTD]
END = bytes(1024)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "outer" / "box" / "model")


def unpacked(tree: Tree, content: bytes, packing: Packing = Packing.TAR) -> dict[str, bytes]:
    archive = tree.root.parent.parent / "archive"
    archive.write_bytes(content)
    Unpacker(tree, lambda size: None).unpack(archive, packing)
    return {name: (tree.root / name).read_bytes() for name in tree.files()}


def refused(tree: Tree, content: bytes, message: str, packing: Packing = Packing.TAR) -> None:
    with pytest.raises(BadModelFile, match=message):
        unpacked(tree, content, packing)
    outer = tree.root.parent.parent
    assert {path.name for path in (*outer.iterdir(), *(outer / "box").iterdir())} == {
        "archive",
        "box",
        "model",
    }


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_and_folders(tree: Tree, packing: Packing, form: int) -> None:
    long = "deep/" * 25 + "x" * 90
    names = ["./first", "a/b/second", "empty"] + ([long] if form != tarfile.USTAR_FORMAT else [])
    entries = [(name, name.encode()) for name in names]
    folders = [header("./", tarfile.DIRTYPE), header("a", tarfile.DIRTYPE)]
    content = tar(*folders, *entries, format=form)
    assert unpacked(tree, packed(content, packing), packing) == {
        name.removeprefix("./"): name.encode() for name in names
    }


def test_modes_owners_and_times_are_not_taken_over(tree: Tree) -> None:
    info = header("tool.sh", size=0)
    info.mode, info.mtime, info.uid = 0o6777, 1, 12345
    unpacked(tree, tar(info, header("sub/", tarfile.DIRTYPE), ("sub/x", b"1")))
    status = (tree.root / "tool.sh").stat()
    assert stat.S_IMODE(status.st_mode) == 0o444
    assert (status.st_uid, status.st_mtime == 1) == (os.getuid(), False)
    assert stat.S_IMODE((tree.root / "sub").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "a\\b", "C:x", "a/./b", "a//b", "a\nb", "x" * 256]
)
def test_names_that_lead_elsewhere(tree: Tree, name: str) -> None:
    refused(tree, tar((name, b"1")), "path can't be used")
    refused(tree, tar(header(name, tarfile.DIRTYPE)), "path can't be used")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "a symbolic link: 'x'"),
        (tarfile.LNKTYPE, "a hard link: 'x'"),
        (tarfile.CHRTYPE, "a device: 'x'"),
        (tarfile.BLKTYPE, "a device: 'x'"),
        (tarfile.FIFOTYPE, "a pipe: 'x'"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"Z", "something that is no file: 'x'"),
    ],
)
def test_what_is_no_file(tree: Tree, kind: bytes, message: str) -> None:
    refused(tree, tar(header("x", kind, linkname="/etc/passwd")), message)


def test_a_link_with_a_long_name(tree: Tree) -> None:
    info = header("x", tarfile.SYMTYPE, linkname="y" * 300)
    refused(tree, tar(info, format=tarfile.GNU_FORMAT), "a symbolic link")


@pytest.mark.parametrize(
    "names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("kept", "x"), ("kept/x", "y")]
)
def test_names_that_clash(tree: Tree, names: tuple[str, str]) -> None:
    tree.place("kept").write_bytes(b"mine")
    if "kept" in names:
        names = ("kept", "kept")
    refused(tree, tar(*((name, b"1") for name in names)), "want the name")
    assert (tree.root / "kept").read_bytes() == b"mine"


def test_a_file_in_the_way_of_a_folder(tree: Tree) -> None:
    refused(tree, tar(("a", b"1"), header("a", tarfile.DIRTYPE)), "want the name 'a'")


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_cut_is_noticed(tree: Tree, packing: Packing) -> None:
    content = packed(tar(("a", b"1" * 700), ("b", b"2")), packing)
    whole = len(content) if packing is not Packing.TAR else content.rindex(b"2") + 512
    for length in range(0, whole - 1, 7):
        box = Tree(tree.root / f"at-{length}")
        archive = tree.root.parent / "archive"
        archive.write_bytes(content[:length])
        with pytest.raises(BadModelFile, match=r"cut short|damaged"):
            Unpacker(box, lambda size: None).unpack(archive, packing)


def test_the_end_of_an_archive_is_required(tree: Tree) -> None:
    whole = tar(("a", b"1"))
    refused(tree, whole[:1024], "cut short")
    refused(tree, tar(("b", b"1")) + b"more", "something after its end")


@pytest.mark.parametrize("packing", [Packing.TAR_GZIP, Packing.TAR_ZSTD])
def test_a_wrong_checksum(tree: Tree, packing: Packing) -> None:
    archive = tar(("a", os.urandom(5000)))
    options = {int(zstd.CompressionParameter.checksum_flag): 1}
    content = gzip.compress(archive) if packing is Packing.TAR_GZIP else zstd.compress(
        archive, options=options
    )  # fmt: skip
    at = -6 if packing is Packing.TAR_GZIP else -2
    wrong = bytearray(content)
    wrong[at] ^= 1
    refused(tree, bytes(wrong), "damaged", packing)


@pytest.mark.parametrize("packing", [Packing.TAR_GZIP, Packing.TAR_ZSTD])
def test_what_is_not_compressed_as_it_says(tree: Tree, packing: Packing) -> None:
    refused(tree, tar(("a", b"1")), "damaged", packing)


@pytest.mark.parametrize("content", [b"", b"<html>" * 200, b"GGUF" + bytes(2000)])
def test_what_is_no_archive(tree: Tree, content: bytes) -> None:
    refused(tree, content, "cut short|no readable tar")


def zeros(packing: Packing, mebibytes: int) -> bytes:
    """An archive of one file of zeros."""
    size = mebibytes * 1024 * 1024
    compressor = zstd.ZstdCompressor()
    if packing is Packing.TAR_GZIP:
        return gzip.compress(raw_header("z", size=size) + bytes(size) + END, mtime=0)
    parts = [compressor.compress(raw_header("z", size=size))]
    parts += [compressor.compress(bytes(1024 * 1024)) for _ in range(mebibytes)]
    return b"".join([*parts, compressor.compress(END), compressor.flush()])


@pytest.mark.parametrize("packing", [Packing.TAR_GZIP, Packing.TAR_ZSTD])
def test_a_bomb(tree: Tree, packing: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "SMALL", 1024 * 1024)
    content = zeros(packing, 16)
    assert len(content) < 32 * 1024
    refused(tree, content, "unpacks to more than", packing)
    assert sum(status.st_size for status in tree.files().values()) <= 100 * len(content) + 2**20


def test_a_bomb_behind_the_end(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "SMALL", 1024 * 1024)
    content = gzip.compress(tar(("a", b"1")) + bytes(64 * 1024 * 1024))
    refused(tree, content, "unpacks to more than", Packing.TAR_GZIP)


def test_small_archives_may_compress_well(tree: Tree) -> None:
    files = unpacked(tree, zeros(Packing.TAR_ZSTD, 64), Packing.TAR_ZSTD)
    assert len(files["z"]) == 64 * 1024 * 1024


def test_bytes_are_counted_over_all_archives(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "MAX_UNPACKED", 25 * 1024)
    unpacker = Unpacker(tree, lambda size: None)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(tar((name, b"1")))
        unpacker.unpack(tmp_path / name, Packing.TAR)
    (tmp_path / "c").write_bytes(tar(("c", b"1")))
    with pytest.raises(BadModelFile, match="unpacks to more"):
        unpacker.unpack(tmp_path / "c", Packing.TAR)


def test_entries_are_counted(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_ENTRIES", 3)
    monkeypatch.setattr(tar_stream, "MAX_RECORDS", 6)
    refused(tree, tar(*((str(n), b"") for n in range(4))), "more than 3 files")
    refused(tree, raw_header("x", tarfile.XHDTYPE) * 10 + END, "too many records")


def test_a_window_of_gigabytes(tree: Tree) -> None:
    options = {int(zstd.CompressionParameter.window_log): 28}
    compressor = zstd.ZstdCompressor(options=options)
    content = compressor.compress(tar(("a", b"1"))) + compressor.flush()
    refused(tree, content, "damaged: .*[Ww]indow|damaged: .*memory", Packing.TAR_ZSTD)


def test_a_window_that_the_zstd_program_takes(tree: Tree) -> None:
    options = {int(zstd.CompressionParameter.window_log): 27}
    compressor = zstd.ZstdCompressor(options=options)
    content = compressor.compress(tar(("a", b"1"))) + compressor.flush()
    assert unpacked(tree, content, Packing.TAR_ZSTD) == {"a": b"1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (raw_header("a", size=2**50 + 1), "impossible size"),
        (raw_header("x", tarfile.XHDTYPE, size=2**40), "record of"),
        (raw_header("x", tarfile.GNUTYPE_LONGNAME, size=2**21), "record of"),
        (raw_header("x", tarfile.XHDTYPE, size=12) + b"99 path=abc\n".ljust(512, b"\0"), "damaged"),
        (raw_header("x", tarfile.XHDTYPE, size=12) + b"xx path=abc\n".ljust(512, b"\0"), "damaged"),
        (raw_header("x", tarfile.XHDTYPE, size=12) + b"0 path=abcd\n".ljust(512, b"\0"), "damaged"),
        (raw_header("x", tarfile.XHDTYPE, size=14) + b"14 size=-1234\n".ljust(512, b"\0"), "damag"),
        (
            raw_header("x", tarfile.XGLTYPE, size=12) + b"12 path=abc\n".ljust(512, b"\0"),
            "one name",
        ),
        (
            raw_header("x", tarfile.XHDTYPE, size=22)
            + b"22 GNU.sparse.major=1\n".ljust(512, b"\0"),
            "sparse",
        ),
        (bytes([1]) * 512, "no readable tar"),
    ],
)
def test_headers_that_cant_be(tree: Tree, content: bytes, message: str) -> None:
    refused(tree, content + raw_header("a", size=0) + END, message)


def test_records_say_what_headers_cant(tree: Tree) -> None:
    """A size beyond a header's eleven octal digits, and a global comment."""
    info = header("x", size=3)
    info.pax_headers = {"size": "3", "path": "grüße/x"}
    comment = raw_header("c", tarfile.XGLTYPE, size=18) + b"18 comment=abcdef\n".ljust(512, b"\0")
    content = comment + info.tobuf(tarfile.PAX_FORMAT) + b"abc".ljust(512, b"\0") + END
    assert unpacked(tree, content) == {"grüße/x": b"abc"}


def test_a_record_of_many_words_takes_no_time(tree: Tree) -> None:
    """Read in one pass: 200,000 words copied anew for each one would be 100 GB."""
    words = b"5 a=\n" * 200_000
    content = raw_header("x", tarfile.XHDTYPE, size=len(words)) + words + bytes(-len(words) % 512)
    assert unpacked(tree, content + raw_header("a") + END) == {"a": b""}


def test_a_negative_size(tree: Tree) -> None:
    block = bytearray(raw_header("a"))
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    refused(tree, bytes(block) + END, "impossible size")


def test_a_full_disk_is_said_before_a_file_is_written(tree: Tree, tmp_path: Path) -> None:
    asked: list[int] = []

    def full(size: int) -> None:
        asked.append(size)
        raise DiskFull("full")

    archive = tmp_path / "archive"
    archive.write_bytes(tar(("a", b"123")))
    with pytest.raises(DiskFull):
        Unpacker(tree, full).unpack(archive, Packing.TAR)
    assert asked == [3]
    assert tree.files() == {}


@pytest.mark.parametrize("packing", PACKINGS)
def test_memory_is_bounded(tree: Tree, packing: Packing) -> None:
    content = zeros(packing, 96) if packing is not Packing.TAR else (
        raw_header("z", size=96 * 2**20) + bytes(96 * 2**20) + END
    )  # fmt: skip
    archive = tree.root.parent / "archive"
    archive.write_bytes(content)
    del content
    tracemalloc.start()
    try:
        Unpacker(tree, lambda size: None).unpack(archive, packing)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    assert (tree.root / "z").stat().st_size == 96 * 2**20


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_come_only_one_error_does(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A real archive with some bytes changed, in every packing."""
    packing = data.draw(st.sampled_from(PACKINGS))
    content = bytearray(tar(("a/b", b"1" * 600), header("d", tarfile.DIRTYPE), ("ä" * 80, b"2")))
    blocks = data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4))
    for at in blocks:
        content[at] = data.draw(st.integers(0, 255))
    squeezed = bytearray(packed(bytes(content), packing))
    for at in data.draw(st.lists(st.integers(0, len(squeezed) - 1), max_size=2)):
        squeezed[at] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "archive").write_bytes(squeezed)
    tree = Tree(folder / "model")
    with suppress(BadModelFile):
        Unpacker(tree, lambda size: None).unpack(folder / "archive", packing)
    assert {path.name for path in folder.iterdir()} == {"archive", "model"}
    assert all(not path.is_symlink() for path in tree.root.rglob("*"))
