"""llama.cpp's command lines and the hints read from its log."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from runner.engines.base import Mode, Plan, TcpEndpoint, UnixEndpoint
from runner.engines.llamacpp import LlamaCpp

PLAN = Plan(
    model_file=PurePosixPath("/model/model.gguf"),
    listen=UnixEndpoint("/run/engine/engine.sock"),
    context_size=2048,
    names=("demo:1", "docker.io/ai/demo:1"),
)
COMMON = ("--alias", "demo:1", "--ctx-size", "2048")
ALWAYS = ("--jinja", "--metrics", "--no-webui")
UNIX = ("--model", "/model/model.gguf", "--host", "/run/engine/engine.sock")


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, (*UNIX, *COMMON, *ALWAYS)),
        (
            {"listen": TcpEndpoint("0.0.0.0", 8080)},
            (*UNIX[:2], "--host", "0.0.0.0", "--port", "8080", *COMMON, *ALWAYS),
        ),
        ({"mode": Mode.EMBEDDING}, (*UNIX, *COMMON, *ALWAYS, "--embeddings")),
        ({"mode": Mode.RERANKING}, (*UNIX, *COMMON, *ALWAYS, "--embeddings", "--reranking")),
        (
            {"chat_template": PurePosixPath("/model/template.jinja")},
            (*UNIX, *COMMON, *ALWAYS, "--chat-template-file", "/model/template.jinja"),
        ),
        ({"flags": ("--threads", "2")}, (*UNIX, *COMMON, *ALWAYS, "--threads", "2")),
    ],
)
def test_arguments(changes: dict[str, object], arguments: tuple[str, ...]) -> None:
    from dataclasses import replace

    assert LlamaCpp().command(replace(PLAN, **changes)).arguments == arguments  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("llama_model_load: error loading model: unknown model architecture: 'x'", "update"),
        ("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer", "memory"),
        ("gguf_init_from_file: invalid magic characters: 'XXXX'", "damaged"),
        ("error: invalid argument: --nope", "flag"),
        ("all is well", ""),
    ],
)
def test_hints(line: str, hint: str) -> None:
    found = LlamaCpp().hint(("first line", line))
    assert hint in found
    assert bool(found) == bool(hint)
