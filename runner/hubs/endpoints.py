"""The addresses of hubs, and the variables that name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.registry.reference import Source

if TYPE_CHECKING:
    from runner.settings import Settings

ENDPOINT_NAMES = {
    Source.HUGGING_FACE: "HF_ENDPOINT",
    Source.MODELSCOPE: "MODELSCOPE_ENDPOINT",
}


def endpoint_of(source: Source, settings: Settings) -> str:
    """A hub's address, or its mirror's. The settings take none with a password in it."""
    is_modelscope = source is Source.MODELSCOPE
    return settings.modelscope_endpoint if is_modelscope else settings.hub_endpoint
