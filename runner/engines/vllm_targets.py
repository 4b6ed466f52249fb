"""For which GPUs that vLLM is compiled for it has no kernels for a quantization. Pure."""

from __future__ import annotations

from collections.abc import Mapping

_FP8 = frozenset({"fp8", "fbgemm_fp8", "modelopt-fp8", "compressed-tensors-fp8"})
_FROM_SM_80 = frozenset({"mxfp4", "fbgemm_fp8", "modelopt-fp8"})

LACKING: Mapping[str, frozenset[str]] = {
    "sm_75": _FROM_SM_80,
    **dict.fromkeys(("gfx90a", "gfx1100", "gfx1101", "gfx1150", "gfx1151"), _FP8),
}
"""Target → quantizations, of vLLM 0.32. For NVIDIA it is what `get_min_capability` of each method
says; fp8 weights are unpacked where there are no units for them. For AMD nothing unpacks: there
`supports_fp8` and ROCmFP8ScaledMMLinearKernel want CDNA 3 or RDNA 4, and so does `torch._scaled_mm`
where vLLM itself lets gfx90a pass."""


def has_kernels(quantization: str, target: str) -> bool:
    return quantization not in LACKING.get(target, ())
