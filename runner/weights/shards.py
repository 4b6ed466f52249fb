"""Models split over several files: `NAME-00001-of-00003.gguf`, safetensors likewise. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from runner.errors import BadModelFile

MAX_SHARDS = 10_000
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.[A-Za-z0-9]+)", re.ASCII)
_SHOWN = 5


def stem_of(path: str) -> str:
    """A file's name without its suffix and without its number among shards."""
    place = PurePosixPath(path)
    match = _NAME.fullmatch(place.name)
    return match[1] if match else place.stem


def shard_of(path: str) -> tuple[int, int]:
    """Which shard of how many a file's name says it is; (1, 1) for a file that is whole."""
    match = _NAME.fullmatch(PurePosixPath(path).name)
    return (int(match[2]), int(match[3])) if match else (1, 1)


def shard_names(path: str) -> tuple[str, ...]:
    """The paths of all shards of the model that a shard belongs to, the first one first; a file
    that is none stands alone. Raises BadModelFile for a number that can't be."""
    given = PurePosixPath(path)
    match = _NAME.fullmatch(given.name)
    if not match:
        return (path,)
    stem, number, count, suffix = match[1], int(match[2]), int(match[3]), match[4]
    if not 1 <= number <= count <= MAX_SHARDS:
        raise BadModelFile(f"{given.name} can't be shard {number} of {count}")
    return tuple(
        str(given.with_name(f"{stem}-{other:05d}-of-{count:05d}{suffix}"))
        for other in range(1, count + 1)
    )


def require_shards(wanted: Collection[str], present: Collection[str]) -> None:
    """Raises BadModelFile that names the files that are missing."""
    missing = sorted(set(wanted) - set(present))
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise BadModelFile(
            f"the model is not whole: {', '.join(missing[:_SHOWN])}{more} is missing",
            hint="download or copy all of its files into one folder",
        )
