"""Pickles: files that run code when they are loaded, told by what is in them, or by their names.

A file is one by how Python's pickle begins, by PyTorch's zip archive with a `data.pkl` in it, or by
the tar that PyTorch wrote before.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from runner.errors import BadInput, BadModelFile
from runner.weights.zips import member_names

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_LEFT_OVER = ("training_args.", "optimizer.", "scheduler.", "rng_state", "scaler.")
_VOCABULARIES = ("vocabulary.", "shared_vocabulary.", "source_vocabulary.")
_FIRST = 64 * 1024
_NUMBER_SIZE, _NEARLY = 2, 1024
_PROTOCOL, _HIGHEST = 0x80, 5
_TORCH_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""The number that PyTorch pickled first before it wrote zip archives."""
_NAMING = frozenset({"GLOBAL", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
_RUNNING = frozenset({"REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ"})
_CALLABLE = re.compile(r"[A-Za-z_][\w.]* [A-Za-z_][\w.]*")
_ARGUMENTS = frozenset(
    {"MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "EMPTY_DICT", "DICT", "SETITEMS"}
    | {"GET", "BINGET", "LONG_BINGET", "STOP"}
)
_MEMO = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_ZIP = b"PK\x03\x04"
_TAR, _TAR_AT = b"ustar", 257
_TAR_MEMBERS = (b"sys_info\0", b"pickle\0", b"storages\0", b"tensors\0")


def is_pickle(file: Path | str) -> bool:
    """Whether loading a file may run code in it: a path's content is read, a name says what it
    can. Raises BadInput where a path can't be read."""
    if isinstance(file, str):
        return bool(pickled_names([file]))
    try:
        with file.open("rb") as content:
            first = content.read(_FIRST)
    except OSError as error:
        raise BadInput(f"can't read {file}: {error.strerror}") from error
    if first.startswith(_ZIP):
        return _zip_has_pickle(file)
    return _begins_as_pickle(first)


def pickled_names(names: Iterable[str]) -> tuple[str, ...]:
    """Those of a model's files that are pickles as far as their names say.

    The `.bin` of CTranslate2 and OpenVINO are none, which the files beside them show.
    """
    listed = tuple(names)
    spared = {_bin_beside(name) for name in listed if name.endswith(".xml")}
    if is_ctranslate2(listed):
        spared.add("model.bin")
    return tuple(name for name in listed if _is_named_so(name) and name not in spared)


def is_ctranslate2(names: Collection[str]) -> bool:
    """Whether these are the files of a CTranslate2 model: `model.bin` and a vocabulary."""
    return "model.bin" in names and any(name.startswith(_VOCABULARIES) for name in names)


def is_openvino(names: Collection[str]) -> bool:
    """Whether OpenVINO's pair is among these files: a network's XML and its weights."""
    return any(name.endswith(".xml") and _bin_beside(name) in names for name in names)


def _bin_beside(name: str) -> str:
    return f"{name.removesuffix('.xml')}.bin"


def is_left_over(name: str) -> bool:
    """Whether a file is what training leaves beside a model; engines never open it."""
    return PurePosixPath(name).name.lower().startswith(_LEFT_OVER)


def _is_named_so(name: str) -> bool:
    return PurePosixPath(name.lower()).suffix in PICKLE_SUFFIXES and not is_left_over(name)


def _begins_as_pickle(first: bytes) -> bool:
    in_tar = first[_TAR_AT:].startswith(_TAR) and first.startswith(_TAR_MEMBERS)
    return in_tar or first.startswith(_TORCH_MAGIC) or _has_opcodes(first)


def _has_opcodes(first: bytes) -> bool:
    """Whether these bytes are read as a pickle up to where it calls something.

    Protocols from 2 on begin with their number; the older ones, and who hides theirs, do not. What
    is read as opcodes all along is taken for one too.
    """
    import pickletools

    has_number = len(first) > 1 and first[0] == _PROTOCOL and first[1] <= _HIGHEST
    seen: set[str] = set()
    last, position = "", 0
    try:
        for opcode, argument, start in pickletools.genops(first):
            if _runs(opcode.name, argument, last, seen):
                return True
            seen.add(opcode.name)
            last = last if opcode.name in _MEMO else opcode.name
            position = start or 0
    except ValueError:
        return position >= (_NUMBER_SIZE if has_number else _FIRST - _NEARLY)
    return has_number


def _runs(opcode: str, argument: object, last: str, seen: set[str]) -> bool:
    if opcode == "INST":
        return "MARK" in seen and _CALLABLE.fullmatch(str(argument)) is not None
    return opcode in _RUNNING and last in _ARGUMENTS and not _NAMING.isdisjoint(seen)


def _zip_has_pickle(file: Path) -> bool:
    try:
        return any(name.endswith(".pkl") for name in member_names(file))
    except BadModelFile:
        return True  # a broken archive is nothing to trust
