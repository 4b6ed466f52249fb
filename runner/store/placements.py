"""Which of a model's layers go where in its bundle. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from runner.artifacts.artifact import Layer, Manifest, settle
from runner.artifacts.laid_out import laid_out
from runner.artifacts.media import Dialect, ModelFormat, Packing


@dataclass(frozen=True, slots=True)
class Placement:
    """A layer and its file's name in the bundle; an archive's files have names of their own."""

    layer: Layer
    name: str = ""

    @property
    def is_archive(self) -> bool:
        return self.layer.packing is not Packing.RAW


def placements(manifest: Manifest, model_format: ModelFormat) -> tuple[Placement, ...]:
    """Every layer that engines have a use for, in the manifest's order."""
    by_kind = manifest.dialect is Dialect.DOCKER_V01
    layers = manifest.layers if by_kind else settle(manifest, model_format).layers
    raw = [layer for layer in layers if layer.packing is Packing.RAW]
    names = iter(laid_out([(layer.kind, layer.path) for layer in raw], manifest.dialect))
    places = (
        Placement(layer, next(names) if layer.packing is Packing.RAW else "") for layer in layers
    )
    return tuple(place for place in places if place.name or place.is_archive)
