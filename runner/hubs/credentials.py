"""Tokens for hubs, from where each hub's own tools keep them; they are no settings of ours."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from runner.registry.reference import Source

log = logging.getLogger(__name__)


def token_for(source: Source, variables: Mapping[str, str] | None = None) -> str:
    """The token for a hub, empty for none; registries have other credentials.

    Hugging Face: HF_TOKEN, else the file that `hf auth login` writes (HF_TOKEN_PATH, HF_HOME and
    XDG_CACHE_HOME move it). ModelScope: MODELSCOPE_API_TOKEN.
    """
    known = os.environ if variables is None else variables
    if source is Source.REGISTRY:
        return ""
    if source is Source.MODELSCOPE:
        return _usable(known.get("MODELSCOPE_API_TOKEN", ""))
    named = known.get("HF_TOKEN") or known.get("HUGGING_FACE_HUB_TOKEN") or ""
    return _usable(named) or _from_file(_token_file(known))


def _token_file(known: Mapping[str, str]) -> Path:
    cache = known.get("XDG_CACHE_HOME") or "~/.cache"
    home = known.get("HF_HOME") or f"{cache}/huggingface"
    return Path(known.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()


def _from_file(path: Path) -> str:
    try:
        return _usable(path.read_text("utf-8", "replace"))
    except FileNotFoundError:
        return ""
    except OSError as error:
        log.warning("no token from %s: %s", path, error.strerror)
        return ""


def _usable(text: str) -> str:
    """A token as a header can carry it."""
    token = text.strip()
    return token if token.isascii() and token.isprintable() and " " not in token else ""
