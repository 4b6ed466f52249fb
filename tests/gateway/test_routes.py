from __future__ import annotations

import pytest

from runner.engines.base import Mode
from runner.errors import EngineNotFound
from runner.gateway.routes import find


@pytest.mark.parametrize(
    ("target", "engine", "upstream"),
    [
        (b"/v1/chat/completions", None, b"/v1/chat/completions"),
        (b"/v1/completions", None, b"/v1/completions"),
        (b"/engines/v1/chat/completions", None, b"/v1/chat/completions"),
        (b"/engines/v1/completions", None, b"/v1/completions"),
        (b"/engines/llama.cpp/v1/chat/completions", "llama.cpp", b"/v1/chat/completions"),
        (b"/engines/vllm/v1/completions", "vllm", b"/v1/completions"),
        (b"/engines/llamacpp/v1/completions", "llama.cpp", b"/v1/completions"),
        (b"/engines/LLAMA-CPP/v1/completions", "llama.cpp", b"/v1/completions"),
        (b"/engines/mlx/v1/completions", "mlx-lm", b"/v1/completions"),
        (b"/engines/llama%2Ecpp/v1/completions", "llama.cpp", b"/v1/completions"),
        (b"/engines/my-engine/v1/completions", "my-engine", b"/v1/completions"),
        (b"/engines/VLLM:cuda/v1/completions", "vllm:cuda", b"/v1/completions"),
        (b"/engines/any:rocm/v1/completions", "any:rocm", b"/v1/completions"),
        (b"/v1/completions?beta=1&x=%20", None, b"/v1/completions?beta=1&x=%20"),
        (b"http://localhost:12434/v1/completions", None, b"/v1/completions"),
    ],
)
def test_inference_paths(target: bytes, engine: str | None, upstream: bytes) -> None:
    route = find(target)
    assert route is not None
    assert (route.engine, route.mode, route.upstream) == (engine, Mode.COMPLETION, upstream)


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"*",
        b"/v1/models",
        b"/v1/chat/completions/",
        b"/v1/chat/completions/x",
        b"/engines/v1/models",
        b"/engines/vllm/v1/models",
        b"/engines/ps",
        b"/engines/llama.cpp/_configure",
        b"/models/create",
        b"/enginesv1/completions",
        b"//v1/completions/..",
        b"localhost:443",
        b"/%ff",
    ],
)
def test_every_other_path_is_not_the_data_planes(target: bytes) -> None:
    assert find(target) is None


@pytest.mark.parametrize("name", ["v1", "status", "install", "ps", "Unload", "_configure"])
def test_words_of_the_api_are_no_engines(name: str) -> None:
    with pytest.raises(EngineNotFound, match="not an engine"):
        find(f"/engines/{name}/v1/completions".encode())


@pytest.mark.parametrize("name", ["", "v!m", "-vllm", "vllm:", "vllm:cu%20da", "%C3%BC"])
def test_what_can_not_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(EngineNotFound):
        find(f"/engines/{name}/v1/completions".encode())


@pytest.mark.parametrize("target", [b"/vllm/v1/completions", b"/x/v1/chat/completions"])
def test_an_engine_stands_only_under_engines(target: bytes) -> None:
    assert find(target) is None
