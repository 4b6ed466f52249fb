"""How a stored model is shown to programs: Docker Model Runner's JSON."""

from __future__ import annotations

from runner.models.artifact import ModelConfig
from runner.models.store import StoredModel
from runner.registry.reference import parse


def short_tags(model: StoredModel) -> tuple[str, ...]:
    """The names a person would write."""
    return tuple(parse(tag).short for tag in model.tags)


def model_json(model: StoredModel) -> dict[str, object]:
    """A model as `GET /models` and `ls --json` show it."""
    return {
        "id": model.id,
        "tags": list(model.tags),
        "created": model.created,
        "config": {name: value for name, value in _config(model.config).items() if value},
    }


def _config(config: ModelConfig) -> dict[str, object]:
    return {
        "format": config.format.value,
        "quantization": config.quantization,
        "parameters": config.parameters,
        "architecture": config.architecture,
        "size": config.size,
        "gguf": dict(config.gguf),
        "context_size": config.context_size,
    }
