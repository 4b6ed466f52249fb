"""Names of GGUF quantizations, as they stand in the names of files and folders. Pure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from runner.weights.shards import stem_of

DEFAULT = "Q4_K_M"
PREFERRED = (
    DEFAULT,
    *("Q4_K_S", "Q4_K_L", "Q4_K_XL", "Q4_K", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS"),
    *("MXFP4", "MXFP4_MOE", "NVFP4"),
    *("Q5_K_M", "Q5_K_S", "Q5_K_L", "Q5_K_XL", "Q5_K", "Q5_0", "Q5_1"),
    *("Q6_K", "Q6_K_L", "Q6_K_XL", "Q8_0", "Q8_K_XL"),
)
"""What is taken where nobody asks for one: Q4_K_M, else what is nearest to it in size, upwards
before downwards, since a model that is too coarse answers badly. Else the smallest file."""

DYNAMIC = "UD-"
"""Before the names of Unsloth's own mixtures; they may be asked for without it."""

EXPERTS = "_MOE"
"""After the names of mixtures for models of experts; the same holds."""

PROJECTORS = ("F16", "BF16", "F32")
"""Precisions of multimodal projectors, the best first."""

_NAME = re.compile(
    r"""(?<![A-Z0-9])(
        (?:UD-)?I?Q[1-8](?:_(?:K|[0-9]|XXS|XXL|XS|XL|NL|KSS|KS|KL|KT|S|M|L|R[48]))+
      | TQ[12]_0 | MXFP4(?:_MOE)? | NVFP4 | BF16 | FP?16 | FP?32
    )(?![A-Z0-9])""",
    re.VERBOSE,
)


def normal(name: str) -> str:
    """One spelling for a quantization's name."""
    upper = name.upper()
    return {"FP16": "F16", "FP32": "F32"}.get(upper, upper)


def quantization_of(path: str) -> str:
    """What a GGUF file's name says it is, else the name of the nearest folder; empty where
    neither says it."""
    place = PurePosixPath(path)
    for part in (stem_of(path), *(folder.name for folder in place.parents)):
        found = _NAME.findall(part.upper())
        if found:
            return normal(found[-1])
    return ""


def is_quantization(text: str) -> bool:
    return _NAME.fullmatch(text.upper()) is not None


def rank(quantization: str) -> int:
    """Its place among the preferred ones; behind them all where it is none."""
    plain = quantization.removeprefix(DYNAMIC)
    return PREFERRED.index(plain) if plain in PREFERRED else len(PREFERRED)
