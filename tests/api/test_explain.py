"""Explanations, engines and choices by the API, on recorded hosts; no engine starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from runner.errors import BadInput, EngineNotFound, MissingModel, ModelNotFound
from runner.state import ChoiceKind, Install
from tests.api.control import MODEL, PROBLEM, Control, control, recorded, refusal

ENGINES, CHOICES = "/runner/v1/engines", "/runner/v1/engines/choices"


@pytest.fixture
def api(home: Path) -> Iterator[Control]:
    with control(recorded("nvidia")) as found:
        yield found


@pytest.fixture
def packaged(api: Control) -> str:
    return api.package_demo()


def install(api: Control, variant: str, engine: str = "llama.cpp") -> None:
    digest = "sha256:" + "a" * 64
    api.services.state.record(Install(engine, variant, "v1", digest, "", digest, (), "built", 1, 1))


def explained(api: Control, **query: str) -> dict[str, Any]:
    words = "&".join(f"{name}={quote(value)}" for name, value in query.items())
    found: dict[str, Any] = api.get(f"/runner/v1/explain?model={MODEL}&{words}")
    return found


def test_the_choice_is_told_with_its_reason_and_command(api: Control, packaged: str) -> None:
    api.post(
        "/runner/v1/configure",
        {
            "model": MODEL,
            "values": {"context_size": 512, "sampling.top_k": 40},
            "environment": {"LD_PRELOAD": "x", "GGML_TOKEN": "abc"},
        },
    )
    found = explained(api)
    assert found["model"]["id"] == packaged
    assert found["model"]["format"] == "gguf"
    assert found["choice"]["label"] == "llama.cpp/native"
    assert "llama.cpp" in found["reason"]
    assert found["problem"] is None
    command = found["command"]
    assert command[command.index("--ctx-size") + 1] == "512"
    assert command[command.index("--top-k") + 1] == "40"
    start = found["start"]
    assert start["context_size"] == 512
    assert start["launcher"] == "process"
    assert {fate["name"]: fate["outcome"] for fate in start["fates"]} == {
        "LD_PRELOAD": "dropped",
        "GGML_TOKEN": "kept",
    }
    assert "abc" not in str(found)
    assert found["host"]["gpus"][0]["name"] == "NVIDIA GeForce RTX 4090"


def test_every_variant_has_every_verdict(api: Control, packaged: str) -> None:
    found = explained(api)
    variants = {one["label"]: one for one in found["variants"]}
    offered = {
        variant.label
        for engine in api.services.engines.values()
        for variant in engine.description.variants
    }
    assert set(variants) == offered | {"llama.cpp/native"}
    assert [one["label"] for one in found["variants"] if one["chosen"]] == ["llama.cpp/native"]
    rocm = [one for one in variants["vllm/rocm"]["verdicts"] if not one["ok"]]
    assert {one["code"] for one in rocm} == {"format", "accelerator", "installed"}
    assert all(one["found"] and one["required"] and one["hint"] for one in rocm)
    native = variants["llama.cpp/native"]
    assert native["can_serve"]
    assert native["verdicts"] and all(one["ok"] for one in native["verdicts"])


def test_an_engine_of_the_path_is_honoured_or_refused(api: Control, packaged: str) -> None:
    found = explained(api, engine="vllm:cuda")
    assert found["choice"] is None
    assert found["start"] is None and found["command"] == []
    assert found["problem"]["code"] == "no_engine_fits"
    assert "gguf" in found["problem"]["message"]
    assert explained(api, engine="any:cpu")["choice"]["accelerator"] == "cpu"
    with pytest.raises(EngineNotFound) as caught:
        explained(api, engine="vlm")
    assert caught.value.hint == "did you mean vllm?"


def test_a_command_that_cannot_be_made_says_why(api: Control, packaged: str) -> None:
    """No Docker Engine answers now, though one did when the host was looked at."""
    install(api, "cpu")
    found = explained(api)
    assert found["choice"]["label"] == "llama.cpp/cpu"
    assert found["problem"]["code"] == "docker_unavailable"


def test_bad_questions_are_refused(api: Control, packaged: str) -> None:
    with pytest.raises(BadInput, match="mode") as caught:
        explained(api, mode="completions")
    assert caught.value.hint == "did you mean completion?"
    with pytest.raises(MissingModel):
        api.get("/runner/v1/explain")
    with pytest.raises(ModelNotFound):
        api.get("/runner/v1/explain?model=ai/nobody")


def test_engines_are_listed_with_what_is_wrong(api: Control) -> None:
    install(api, "cuda12")
    found = api.get(ENGINES)
    llama, vllm = found["engines"]
    assert (llama["backend"], vllm["backend"]) == ("llama.cpp", "vllm")
    assert llama["origin"] == "built-in"
    assert "gguf" in llama["formats"]
    variants = {one["variant"]: one for one in llama["variants"]}
    assert variants["cuda12"]["installed"]
    assert variants["cuda12"]["version"] == "v1"
    assert variants["native"]["form"] == "wheel"
    assert not variants["cuda13"]["installed"]
    assert found["problems"] == [
        {"code": PROBLEM.code, "message": PROBLEM.message, "hint": PROBLEM.hint}
    ]


@pytest.mark.parametrize(
    ("choice", "kind", "subject", "value"),
    [
        (("format", "GGUF", "llamacpp"), ChoiceKind.FORMAT, "gguf", "llama.cpp"),
        (("variant", "llamacpp", "cuda12"), ChoiceKind.VARIANT, "llama.cpp", "cuda12"),
        (("variant", "llama.cpp", "native"), ChoiceKind.VARIANT, "llama.cpp", "native"),
        (("fallback", "safetensors", "vllm, vllm"), ChoiceKind.FALLBACK, "safetensors", "vllm"),
        (("fallback", "ai/m", "vllm,llamacpp"), *(ChoiceKind.FALLBACK, "docker.io/ai/m:latest"),
         "vllm,llama.cpp"),
        (("fallback", "ai/gguf", "vllm"), ChoiceKind.FALLBACK, "docker.io/ai/gguf:latest", "vllm"),
    ],
)  # fmt: skip
def test_a_choice_is_kept_shown_and_taken_back(
    api: Control, choice: tuple[str, str, str], kind: ChoiceKind, subject: str, value: str
) -> None:
    body = dict(zip(("kind", "subject", "value"), choice, strict=True))
    done = api.post(CHOICES, body)
    assert done == {"kind": kind, "subject": subject, "value": value}
    assert api.services.state.choices(kind) == {subject: value}
    asked = f"{CHOICES}?kind={kind}&subject={quote(choice[1])}"
    assert api.get(asked)["value"] == value
    assert api.get(ENGINES)["choices"][kind] == {subject: value}
    api.post(CHOICES, {**body, "value": ""})
    assert api.services.state.choices(kind) == {}
    assert api.get(asked)["value"] == ""


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (("format", "ggfu", "llama.cpp"), "did you mean gguf?"),
        (("format", "gguf", "lama.cpp"), "did you mean llama.cpp?"),
        (("format", "gguf", "vllm"), "engines that do: llama.cpp"),
        (("variant", "vlm", "cuda"), "did you mean vllm?"),
        (("variant", "llama.cpp", "cuda21"), "did you mean cuda1"),
        (("fallback", "gguf", "llama.cpp,vllm"), "vllm does not read gguf"),
        (("fallback", "Bad Name", "vllm"), "Bad Name"),
        (("fallback", MODEL, "vllm"), "vllm does not read gguf"),
        (("sort", "gguf", "vllm"), "kind"),
    ],
)
def test_a_choice_of_what_is_not_there_is_refused(
    api: Control, packaged: str, choice: tuple[str, str, str], said: str
) -> None:
    error = refusal(api, CHOICES, dict(zip(("kind", "subject", "value"), choice, strict=True)))
    assert said in f"{error.message} {error.hint}"
    assert all(not api.services.state.choices(kind) for kind in ChoiceKind)


def test_a_choice_of_an_engine_that_is_gone_can_be_taken_back(api: Control) -> None:
    api.services.state.choose(ChoiceKind.VARIANT, "gone", "cuda")
    api.post(CHOICES, {"kind": "variant", "subject": "gone", "value": ""})
    assert api.services.state.choices(ChoiceKind.VARIANT) == {}


def test_status_knows_the_engines_by_the_registry(api: Control) -> None:
    install(api, "cpu")
    install(api, "cuda12")
    told = api.get("/engines/status")
    assert told["llama.cpp"].startswith("Running: llama.cpp v1 (cpu), v1 (cuda12), ")
    assert told["vllm"] == "Not Installed: runner install-runner --backend vllm"
    rows = api.get("/runner/v1/status")["engines"]
    assert [(row["variant"], row["launcher"]) for row in rows] == [
        ("cpu", "docker"),
        ("cuda12", "docker"),
        ("native", "process"),
    ]


def test_models_under_an_engines_path(api: Control, packaged: str) -> None:
    def listed(engine: str) -> list[str]:
        return [one["id"] for one in api.get(f"/engines/{engine}/v1/models")["data"]]

    assert listed("llamacpp") == listed("llama.cpp:cpu") == listed("any:cuda") == [MODEL]
    assert listed("vllm") == []
    with pytest.raises(EngineNotFound) as caught:
        listed("vlm")
    assert caught.value.hint == "did you mean vllm?"


def test_what_is_not_there_is_not_taken_away(api: Control) -> None:
    install(api, "cpu")
    for more, said in {
        ("variant", "cuda12"): "cuda12 is not installed",
        ("version", "v2"): "llama.cpp v2 is not installed",
        ("gpu", "cude"): "did you mean cuda?",
        ("backend", "lama.cpp"): "did you mean llama.cpp?",
    }.items():
        body = {"backend": "llama.cpp", more[0]: more[1]}
        error = refusal(api, "/engines/uninstall-backend", body)
        assert said in f"{error.message} {error.hint}"
    assert [one.variant for one in api.services.state.installs()] == ["cpu"]
