"""What zip archives list, without filling the memory."""

from __future__ import annotations

import io
import os
from pathlib import Path

from runner.errors import BadModelFile

MAX_LIST = 8 * 1024 * 1024
"""Bytes of a list of members; PyTorch's largest checkpoints need about one million."""


class _Bounded(io.FileIO):
    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > MAX_LIST:
            raise ValueError("its list of members is too long")
        return super().read(size) or b""


def member_names(path: Path) -> tuple[str, ...]:
    """The names in an archive; raises BadModelFile where it can't be read."""
    import zipfile

    try:
        with _Bounded(path) as content, zipfile.ZipFile(content) as archive:
            return tuple(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadModelFile(
            f"{path.name} is no readable zip archive: {error}", hint="download or copy it again"
        ) from error
