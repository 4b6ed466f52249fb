"""Tar archives made byte by byte, good ones and bad ones, plain and compressed."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile

from runner.artifacts.media import Packing

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["Entry", "header", "packed", "raw_header", "tar", "zstd"]

Entry = tuple[str, bytes] | tarfile.TarInfo


def tar(*entries: Entry, format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    """Files of these names and contents, or entries of any kind."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=format) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                archive.addfile(header(entry[0], size=len(entry[1])), io.BytesIO(entry[1]))
    return target.getvalue()


def header(
    name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, linkname: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, linkname
    return info


def packed(archive: bytes, packing: Packing) -> bytes:
    if packing is Packing.TAR_GZIP:
        return gzip.compress(archive, mtime=0)
    return zstd.compress(archive) if packing is Packing.TAR_ZSTD else archive


def raw_header(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0) -> bytes:
    """One header block alone, with whatever it claims."""
    return header(name, kind, size=size).tobuf(tarfile.GNU_FORMAT)[:512]
