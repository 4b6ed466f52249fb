"""The media types and annotations of models as OCI artifacts."""

from __future__ import annotations

from enum import StrEnum

CONFIG_V01 = "application/vnd.docker.ai.model.config.v0.1+json"
CONFIG_V02 = "application/vnd.docker.ai.model.config.v0.2+json"
CONFIG_CNCF = "application/vnd.cncf.model.config.v1+json"
IMAGE_CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)

FILE_PATH = "org.cncf.model.filepath"
FILE_METADATA = "org.cncf.model.file.metadata+json"
MEDIATYPE_UNTESTED = "org.cncf.model.file.mediatype.untested"
TITLE = "org.opencontainers.image.title"


class ModelFormat(StrEnum):
    """How a model's weights are stored."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"


class LayerKind(StrEnum):
    """What a layer holds, named by the media type it is written with."""

    GGUF = "application/vnd.docker.ai.gguf.v3"
    SAFETENSORS = "application/vnd.docker.ai.safetensors"
    MMPROJ = "application/vnd.docker.ai.mmproj"
    CHAT_TEMPLATE = "application/vnd.docker.ai.chat.template.jinja"
    LICENSE = "application/vnd.docker.ai.license"
    OTHER = ""

    @classmethod
    def of(cls, media_type: str) -> LayerKind:
        try:
            return cls(media_type)
        except ValueError:
            return cls.OTHER
