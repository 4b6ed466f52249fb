"""A GGUF model's manifest and config, byte for byte as Docker Model Runner writes them. Pure.

Its Go program fixes the bytes: the order of fields, sorted maps, `<`, `>` and `&` escaped in
JSON, how numbers of the GGUF header become text, sizes such as `256.35MiB`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from runner.errors import BadInput
from runner.models import media
from runner.models.artifact import MAX_CONTEXT, ModelConfig, safe_path
from runner.models.gguf import GgufInfo
from runner.models.gguf_header import Array, Scalar, Value
from runner.models.media import LayerKind
from runner.registry.digest import digest_of
from runner.registry.media import OCI_MANIFEST

FILE_MODE = 0o644
KEPT_ARRAY = 10
_SHARED_NAMES = {
    "Q3_K_S": "Q3_K/Q3_K_S",
    "Q3_K_M": "Q4_K/Q3_K_M",
    "Q3_K_L": "Q5_K/Q3_K_L",
    "Q4_K_S": "Q6_K/Q4_K_S",
    "Q4_K_M": "IQ2_XXS/Q4_K_M",
    "Q5_K_S": "IQ2_XS/Q5_K_S",
    "Q5_K_M": "IQ3_XXS/Q5_K_M",
    "Q6_K": "IQ1_S/Q6_K",
}
"""Docker Model Runner's parser numbers file types twice; where one of its two names is
llama.cpp's we write its pair, elsewhere llama.cpp's name alone."""

_COUNTS = ((10**15, "Q"), (10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_BYTES = (
    (2**50, "Pi"),
    (10**15, "P"),
    (2**40, "Ti"),
    (10**12, "T"),
    (2**30, "Gi"),
    (10**9, "G"),
    (2**20, "Mi"),
    (10**6, "M"),
    (2**10, "Ki"),
    (10**3, "K"),
)
_GO_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that is already in the store and becomes a layer."""

    kind: LayerKind
    name: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Packed:
    """An artifact's two documents, whose digests name them."""

    manifest: bytes
    config: bytes


def write_gguf_artifact(
    info: GgufInfo,
    files: Sequence[PackedFile],
    *,
    context_size: int | None = None,
    created: int = 0,
) -> Packed:
    """The documents for `files`, weights first. The same input gives the same bytes: `created`
    (seconds since 1970) stands for every time in them. Raises BadInput."""
    if context_size is not None and not 0 < context_size <= MAX_CONTEXT:
        raise BadInput(f"a context size of {context_size} is out of range")
    _check_names(files)
    config = _json(
        {
            "config": _config(info, context_size).to_json(),
            "descriptor": {"created": _rfc3339(created)},
            "rootfs": {"type": "rootfs", "diff_ids": [file.digest for file in files]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": media.CONFIG_V01,
                "size": len(config),
                "digest": digest_of(config),
            },
            "layers": [_layer(file, created) for file in files],
        }
    )
    return Packed(manifest, config)


def metadata_texts(metadata: Mapping[str, Value]) -> dict[str, str]:
    """GGUF metadata as sorted texts, without arrays of more than ten items."""
    return {
        key: _value_text(value)
        for key, value in sorted(metadata.items())
        if not isinstance(value, Array) or value.length <= KEPT_ARRAY
    }


def count_text(count: int) -> str:
    """Parameters as `183`, `16.78M`, `1.5B`."""
    return _scaled(count, _COUNTS)


def bytes_text(size: int) -> str:
    """Bytes as `864B`, `256.35MiB`."""
    return f"{_scaled(size, _BYTES)}B"


def _config(info: GgufInfo, context_size: int | None) -> ModelConfig:
    return ModelConfig(
        format=media.ModelFormat.GGUF,
        quantization=_SHARED_NAMES.get(info.quantization, info.quantization),
        parameters=count_text(info.parameters),
        architecture=info.architecture,
        size=bytes_text(info.data_size),
        gguf=metadata_texts(info.metadata),
        context_size=context_size,
    )


def _layer(file: PackedFile, created: int) -> dict[str, object]:
    metadata = {
        "name": file.name,
        "mode": FILE_MODE,
        "uid": 0,
        "gid": 0,
        "size": file.size,
        "mtime": _rfc3339(created),
        "typeflag": 0,
    }
    annotations = {
        media.FILE_PATH: file.name,
        media.FILE_METADATA: _json(metadata).decode(),
        media.MEDIATYPE_UNTESTED: "false",
    }
    return {
        "mediaType": file.kind.value,
        "size": file.size,
        "digest": file.digest,
        "annotations": dict(sorted(annotations.items())),
    }


def _check_names(files: Sequence[PackedFile]) -> None:
    seen: set[str] = set()
    for file in files:
        if file.name in seen and file.kind is not LayerKind.LICENSE:
            raise BadInput(f"two files are called {file.name!r}", hint="rename one of them")
        safe_path(file.name)
        seen.add(file.name)


def _value_text(value: Value) -> str:
    if isinstance(value, Array):
        return ", ".join(_scalar_text(item) for item in value.values or ())
    return _scalar_text(value)


def _scalar_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return f"{value:+f}".title() if math.isinf(value) else f"{value:f}"
    return str(value)


def _scaled(number: int, units: Sequence[tuple[int, str]]) -> str:
    base, unit = next(((b, u) for b, u in units if number >= b), (1, ""))
    return f"{number / base:.2f}".removesuffix(".00") + unit


def _rfc3339(seconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadInput(f"{seconds} is not a time in seconds since 1970") from error
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(document: object) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    for character, escape in _GO_ESCAPES.items():
        text = text.replace(character, escape)
    return text.encode("utf-8", "replace")
