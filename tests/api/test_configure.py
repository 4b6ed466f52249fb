"""Configurations by the API: our own routes, and Docker Model Runner's."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.demo import Quantization, gguf_path, huggingface_path
from runner.engines.base import Mode
from runner.engines.templates import KEPT_S
from runner.errors import EngineNotFound, ModelNotFound
from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.registry.reference import parse
from tests.api.control import MODEL, Control, control, recorded, refusal
from tests.models.packaging import package_gguf
from tests.scheduler.house import package_adapter

OURS, DOCKERS = "/runner/v1/configure", "/engines/_configure"
UUID = "GPU-1e0d8a2e-6c1c-0f55-8b4a-2d6f4f1f9a37"
"""Of the one GPU of the recorded NVIDIA host."""


@pytest.fixture
def api(home: Path) -> Iterator[Control]:
    with control(recorded("nvidia")) as found:
        yield found


def kept(api: Control, model: str = MODEL) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"{OURS}?model={model}")
    return found


def test_what_is_set_is_merged_field_by_field(api: Control) -> None:
    api.package_demo()
    api.post(OURS, {"model": MODEL, "values": {"context_size": "512", "n_parallel": 2}})
    api.post(OURS, {"model": MODEL, "values": {"sampling.top_k": 40}, "flags": ["--no-warmup"]})
    done = api.post(OURS, {"model": MODEL, "values": {"n_ctx": 1024}})
    (row,) = kept(api)
    assert row == {
        "model": MODEL,
        "backend": "",
        "options": {"context_size": 1024, "parallel": 2},
        "parameters": {"sampling.top_k": "40"},
        "flags": ["--no-warmup"],
        "environment": {},
    }
    (told,) = done["configured"]
    assert told["options"] == row["options"]
    (effect,) = told["effects"]
    assert effect["backend"] == "llama.cpp"
    assert effect["serves"]
    assert effect["flags"] == ["--top-k", "40", "--no-warmup"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"values": {"context_size": 0}}, "context_size"),
        ({"values": {"context_size": 512, "contxt_size": 1}}, "did you mean context_size?"),
        ({"values": {"context_size": 512}, "flags": ["--no-wramup"]}, "did you mean --no-warmup?"),
        ({"values": {"context_size": 512, "n_ctx": 1}}, "twice"),
        ({"values": {"context_size": 512}, "flags": ["-c", "1"]}, "twice"),
        ({"values": {"sampling.top_q": 1}}, "did you mean sampling.top_"),
        ({"values": {"sampling.top_k": [1]}}, "one value"),
        ({"values": {"context_size": 512}, "flags": ["--model-url", "x"]}, "operator"),
        ({"values": {"context_size": 512}, "environment": {"NO NAME": "1"}}, "NO NAME"),
        ({"values": {"context_size": 512}, "unset": ["treads"]}, "'treads' is not set"),
        ({"values": {"enforce_eager": True, "context_size": 512}}, "enforce_eager"),
        ({"values": {"context_size": 512}, "raw_flags": "--alias 'x"}, "can't be read"),
        ({"vlues": {}}, "vlues"),
    ],
)
def test_a_bad_value_leaves_all_as_it_was(api: Control, body: dict[str, Any], said: str) -> None:
    api.package_demo()
    error = refusal(api, OURS, {"model": MODEL, **body})
    assert error.exit_code == 2
    assert said in f"{error.message} {error.hint}"
    assert kept(api) == []


def test_flags_that_an_option_says_become_it(api: Control) -> None:
    api.package_demo()
    done = api.post(OURS, {"model": MODEL, "raw_flags": "--ctx-size 512 --no-warmup"})
    (told,) = done["configured"]
    assert told["options"] == {"context_size": 512}
    assert told["flags"] == ["--no-warmup"]
    assert told["messages"] == ["--ctx-size sets context_size to 512"]


def test_overrides_that_are_options_of_the_engine_become_them(api: Control) -> None:
    overrides = {"max_model_len": 4096, "gpu_memory_utilization": 0.5, "rope_theta": 1e6}
    done = api.post(
        OURS, {"model": "ai/m", "backend": "vllm", "values": {"hf_overrides": overrides}}
    )
    (told,) = done["configured"]
    assert told["options"] == {
        "context_size": 4096,
        "gpu_memory_utilization": 0.5,
        "hf_overrides": {"rope_theta": 1e6},
    }
    assert len(told["messages"]) == 2
    assert "max_model_len" in told["messages"][0]


def test_each_engine_tells_what_it_makes_of_it(api: Control) -> None:
    """The model is not here yet: every engine may serve it."""
    body = {"model": "ai/m", "values": {"n_gpu_layers": -1}, "environment": {"LD_PRELOAD": "x"}}
    done = api.post(OURS, {**body, "flags": ["--no-warmup"]})
    assert not done["in_store"]
    (told,) = done["configured"]
    llama, vllm = told["effects"]
    assert llama["serves"]
    assert "dropped" in llama["environment"][0]["text"]
    assert not vllm["serves"]
    assert "--no-warmup" in vllm["problem"]


def test_one_engines_configuration_goes_over_that_for_any(api: Control) -> None:
    api.package_demo()
    api.post(OURS, {"model": MODEL, "values": {"context_size": 512, "parallel": 2}})
    api.post(OURS, {"model": MODEL, "backend": "llamacpp", "values": {"context_size": 256}})
    rows = {row["backend"]: row["options"] for row in kept(api)}
    assert rows == {
        "": {"context_size": 512, "parallel": 2},
        "llama.cpp": {"context_size": 256},
    }
    inquiry = api.services.planner.inquire(None, MODEL, Mode.COMPLETION)
    assert inquiry.configured["llama.cpp"].options.context_size == 256


def test_things_are_taken_out_again(api: Control) -> None:
    api.package_demo()
    values = {"context_size": 512, "sampling.top_k": 1, "threads": 2}
    body = {"model": MODEL, "values": values, "flags": ["--no-warmup"], "environment": {"A": "1"}}
    api.post(OURS, body)
    api.post(OURS, {"model": MODEL, "unset": ["n_ctx", "flags", "A", "sampling.top_k"]})
    (row,) = kept(api)
    assert row["options"] == {"threads": 2}
    assert not row["flags"] and not row["environment"] and not row["parameters"]
    api.post(OURS, {"model": MODEL, "values": {"threads": None}})
    assert kept(api) == []


def test_reset_forgets_all_and_may_set_anew(api: Control) -> None:
    api.package_demo()
    api.post(OURS, {"model": MODEL, "backend": "llama.cpp", "values": {"threads": 2}})
    api.post(OURS, {"model": MODEL, "values": {"context_size": 512}})
    api.post(OURS, {"model": MODEL, "reset": True, "values": {"parallel": 1}})
    assert [(row["backend"], row["options"]) for row in kept(api)] == [("", {"parallel": 1})]


def test_a_reset_of_one_engine_leaves_the_others(api: Control) -> None:
    api.package_demo()
    api.post(OURS, {"model": MODEL, "backend": "llama.cpp", "values": {"threads": 2}})
    api.post(OURS, {"model": MODEL, "values": {"context_size": 512}})
    api.post(OURS, {"model": MODEL, "backend": "llama.cpp", "reset": True})
    assert [(row["backend"], row["options"]) for row in kept(api)] == [("", {"context_size": 512})]


def test_what_is_left_is_no_reason_to_keep_the_rest(api: Control) -> None:
    """A later version may refuse what is stored: it can still be taken out, piece by piece."""
    api.package_demo()
    document = (
        '{"options": {"threads": 2}, "parameters": {}, "flags": ["--gone"], "environment": {}}'
    )
    api.services.state.configure(MODEL, "", lambda _: document)
    done = api.post(OURS, {"model": MODEL, "unset": ["threads"]})
    assert "--gone" in done["configured"][0]["effects"][0]["problem"]
    assert kept(api)[0]["options"] == {}


def test_a_model_is_known_by_its_id_too(api: Control) -> None:
    model_id = api.package_demo()
    api.post(OURS, {"model": model_id.removeprefix("sha256:")[:12], "values": {"threads": 2}})
    api.post(OURS, {"model": MODEL, "values": {"parallel": 2}})
    assert {row["model"] for row in kept(api)} == {model_id, MODEL}
    with pytest.raises(ModelNotFound):
        api.post(OURS, {"model": "0" * 12, "values": {"threads": 2}})


def test_of_a_models_names_the_one_that_is_asked_for_counts(api: Control) -> None:
    for name, size in {"ai/a": 111, "ai/b": 222, "ai/c": None}.items():
        api.package_demo(name)
        if size:
            api.post(OURS, {"model": name, "values": {"context_size": size}})
    sizes = {
        name: api.get(f"/runner/v1/explain?model={name}")["start"]["context_size"]
        for name in ("ai/a", "docker.io/ai/b:latest")
    }
    assert sizes == {"ai/a": 111, "docker.io/ai/b:latest": 222}


def test_secrets_are_not_shown(api: Control) -> None:
    api.package_demo()
    body = {"model": MODEL, "environment": {"MY_TOKEN": "abc", "OTHER": "def"}}
    done = api.post(OURS, body)
    assert "abc" not in str(done)
    assert kept(api)[0]["environment"] == {"MY_TOKEN": "***", "OTHER": "def"}
    assert "abc" in next(iter(api.services.state.configurations().values()))


def test_an_unknown_engine_is_named_with_the_nearest(api: Control) -> None:
    with pytest.raises(EngineNotFound) as caught:
        api.post(OURS, {"model": "ai/m", "backend": "vlm", "values": {"threads": 2}})
    assert caught.value.hint == "did you mean vllm?"


def test_docker_model_runners_shape(api: Control) -> None:
    model_id = api.package_demo()
    api.package_demo("ai/draft")
    body = {
        "model": MODEL,
        "mode": "completion",
        "context-size": 512,
        "runtime-flags": ["--no-warmup"],
        "raw-runtime-flags": "--top-k 40",
        "speculative": {"draft_model": "ai/draft", "num_tokens": 4, "min_acceptance_rate": 0.5},
        "llamacpp": {"reasoning-budget": 0},
        "vllm": {"gpu-memory-utilization": 0.5},
        "keep_alive": "-1",
    }
    response = api.http.post(DOCKERS, json=body)
    assert response.status_code == 202, response.text
    rows = {row["backend"]: row for row in kept(api)}
    assert rows[""]["options"] == {
        "context_size": 512,
        "draft_model": "ai/draft",
        "draft_tokens": 4,
    }
    assert rows[""]["flags"] == ["--no-warmup", "--top-k", "40"]
    assert rows[""]["parameters"] == {"speculative.p_min": "0.5"}
    assert rows["llama.cpp"]["options"] == {"reasoning_budget": 0}
    assert rows["vllm"]["options"] == {"gpu_memory_utilization": 0.5}
    listed = {row["Backend"]: row for row in api.get(f"{DOCKERS}?model={MODEL}")}
    assert listed[""] == {
        "Backend": "",
        "Model": MODEL,
        "ModelID": model_id,
        "Mode": "completion",
        "Config": {
            "context-size": 512,
            "runtime-flags": ["--no-warmup", "--top-k", "40"],
            "speculative": {"draft_model": "ai/draft", "num_tokens": 4},
        },
    }
    assert listed["vllm"]["Config"] == {"vllm": {"gpu-memory-utilization": 0.5}}


def test_the_paths_engine_is_the_one_that_is_configured(api: Control) -> None:
    api.post("/engines/vllm/_configure", {"model": "ai/m", "context-size": 512})
    api.post("/engines/vllm/_configure", {"model": "ai/m", "vllm": {"hf-overrides": {"a": 1}}})
    (row,) = kept(api, "ai/m")
    assert row["backend"] == "vllm"
    assert row["options"] == {"context_size": 512, "hf_overrides": {"a": 1}}
    api.post("/engines/vllm/_configure", {"model": "ai/m", "context-size": -1})
    assert kept(api, "ai/m")[0]["options"] == {"hf_overrides": {"a": 1}}
    with pytest.raises(EngineNotFound):
        api.post("/engines/vlm/_configure", {"model": "ai/m", "context-size": 512})


def test_a_section_that_is_refused_keeps_the_others_out_too(api: Control) -> None:
    body = {"model": "ai/m", "context-size": 512, "vllm": {"gpu-memory-utilization": 7}}
    assert "gpu_memory_utilization" in refusal(api, DOCKERS, body).message
    assert kept(api, "ai/m") == []


def test_an_end_that_will_not_come_is_refused(api: Control) -> None:
    error = refusal(api, DOCKERS, {"model": "ai/m", "keep_alive": "5m"})
    assert "models stay loaded" in error.message


# What is named has to be there


@pytest.fixture
def models(api: Control, tmp_path: Path) -> Control:
    """With a draft model and an adapter beside the model."""
    api.package_demo()
    package_gguf(api.services.store, gguf_path(Quantization.Q8_0), parse("ai/draft"))
    package_adapter(api.services.planner, tmp_path, "ai/adapter")
    return api


@pytest.mark.parametrize(
    ("values", "said", "hint"),
    [
        ({"draft_model": "ai/darft"}, "draft_model: ai/darft is not in", "did you mean ai/draft?"),
        ({"draft_model": "ai/other"}, "draft_model: ai/other is not in", "`runner pull ai/other`"),
        ({"draft_model": "ai/Bad Name"}, "draft_model: ", ""),
        (
            {"draft_model": "sha256:" + "0" * 64},
            "draft_model: no model here",
            "runner ls lists them",
        ),
        ({"draft_model": "ai/adapter"}, "ai/adapter is an adapter, no whole", "`lora`"),
        ({"lora": "ai/adapter,ai/adaptr"}, "lora: ai/adaptr is not", "did you mean ai/adapter?"),
        ({"lora": ["ai/other"]}, "lora: ai/other is not in", "`runner pull ai/other`"),
        ({"lora": "ai/draft"}, "lora: ai/draft is a whole model", "runner package --lora"),
        ({"gpus": "1"}, "gpus: there is no GPU '1'", f"there are: nvidia:0 (NVIDIA * {UUID})"),
        ({"gpus": "0,7"}, "gpus: there is no GPU '7'", "there are: nvidia:0"),
        ({"gpus": UUID[:-1] + "8"}, "gpus: there is no GPU", f"did you mean {UUID}?"),
        ({"gpus": "nvdia:0"}, "gpus: there is no GPU", "did you mean nvidia:0?"),
        ({"gpus": "amd:0"}, "gpus: there is no GPU", "nvidia:0"),
        ({"main_gpu": 1}, "main_gpu is 1, of 1 GPUs", "up to 0"),
        ({"cache_type_k": "q8_1"}, "cache_type_k is 'q8_1'", "did you mean q8_0?"),
        ({"cache_type_v": "none"}, "cache_type_v is 'none'", "one of: f32, f16"),
        ({"speculative.draft.cache_type_k": "q9"}, "--spec-draft-type-k is 'q9'", "one of: f32"),
    ],
)
def test_what_is_not_there_is_refused_at_once(
    models: Control, values: dict[str, Any], said: str, hint: str
) -> None:
    error = refusal(models, OURS, {"model": MODEL, "values": {"threads": 2, **values}})
    assert error.exit_code == 2
    assert said in error.message
    assert all(part in error.hint for part in hint.split(" * "))
    assert kept(models) == []


@pytest.mark.parametrize(
    "values",
    [
        {"draft_model": "docker.io/ai/draft:latest", "lora": ["ai/adapter"]},
        {"gpus": ["0"], "main_gpu": 0},
        {"gpus": UUID},
        {"gpus": UUID[:12]},
        {"gpus": "nvidia:0"},
        {"gpus": "all"},
        {"cache_type_k": "q8_0", "cache_type_v": "bf16"},
        {"speculative.draft.cache_type_v": "q4_0"},
    ],
)
def test_what_is_there_is_taken(models: Control, values: dict[str, Any]) -> None:
    models.post(OURS, {"model": MODEL, "values": values})
    assert len(kept(models)) == 1


def test_an_adapter_in_safetensors_is_one_too(models: Control, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    weights = (huggingface_path() / "model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(weights)
    order = PackageOrder(parse("ai/peft"), lora=folder, base="ai/base")
    package(models.services.store, order)
    models.post(OURS, {"model": "ai/m", "backend": "vllm", "values": {"lora": "ai/peft"}})
    assert kept(models, "ai/m")[0]["options"] == {"lora": ["ai/peft"]}
    error = refusal(models, OURS, {"model": MODEL, "values": {"draft_model": "ai/peft"}})
    assert "ai/peft is an adapter" in error.message


@pytest.mark.parametrize("gpus", ["0", UUID, "all"])
def test_a_host_without_gpus_has_none(home: Path, gpus: str) -> None:
    with control(recorded("cpu")) as api:
        error = refusal(api, OURS, {"model": "ai/m", "values": {"gpus": gpus}})
        assert error.message == f"gpus names {gpus!r}, and this host has no GPU"
        assert "processor" in error.hint
        api.post(OURS, {"model": "ai/m", "values": {"main_gpu": 3}})


def test_a_gpu_that_only_other_engines_can_use_is_there(home: Path) -> None:
    """Why the engine does not serve on it, `runner explain` tells."""
    with control(recorded("mac")) as api:
        api.post(OURS, {"model": "ai/m", "backend": "vllm", "values": {"gpus": "0"}})
        error = refusal(api, OURS, {"model": "ai/m", "backend": "vllm", "values": {"gpus": "1"}})
    assert "there are: apple:0" in error.hint


def test_docker_model_runners_way_checks_the_same(api: Control) -> None:
    api.package_demo()
    body = {"model": MODEL, "speculative": {"draft_model": "ai/draft"}}
    error = refusal(api, DOCKERS, body)
    assert "`runner pull ai/draft` fetches a model" in error.hint
    flags = {"model": "ai/m", "runtime-flags": ["--kv-cache-dtype=fp9"]}
    error = refusal(api, "/engines/vllm/_configure", flags)
    assert error.hint == "did you mean fp8?"
    assert kept(api) == kept(api, "ai/m") == []


def test_one_engine_that_knows_a_type_is_enough(api: Control) -> None:
    error = refusal(api, OURS, {"model": "ai/m", "values": {"kv_cache_dtype": "fp9"}})
    assert (error.message, error.hint) == (
        "kv_cache_dtype is 'fp9', which vllm has not",
        "did you mean fp8?",
    )
    api.post(OURS, {"model": "ai/m", "values": {"kv_cache_dtype": "fp8"}})


def test_what_has_gone_meanwhile_keeps_nothing_else_from_being_set(models: Control) -> None:
    models.post(OURS, {"model": MODEL, "values": {"draft_model": "ai/draft", "lora": "ai/adapter"}})
    for name in ("ai/draft", "ai/adapter"):
        models.services.store.remove(name)
    models.post(OURS, {"model": MODEL, "values": {"threads": 2}})
    models.post(OURS, {"model": MODEL, "unset": ["lora"]})
    assert kept(models)[0]["options"] == {"draft_model": "ai/draft", "threads": 2}
    error = refusal(models, OURS, {"model": MODEL, "values": {"lora": "ai/adapter"}})
    assert "ai/adapter is not in the model store" in error.message


# Chat templates: text, never a path


def test_a_template_is_kept_as_a_file_of_the_runners_own(api: Control, home: Path) -> None:
    api.package_demo()
    api.post(OURS, {"model": MODEL, "values": {"chat-template": "{{ messages }}"}})
    path = Path(kept(api)[0]["options"]["chat_template"])
    assert path.parent == home / "templates"
    assert path.read_text() == "{{ messages }}"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    planner = api.services.planner
    inquiry = planner.inquire(None, MODEL, Mode.COMPLETION)
    assert inquiry.configured["llama.cpp"].options.chat_template == str(path)
    api.post(OURS, {"model": MODEL, "values": {"chat_template": None, "threads": 2}})
    assert kept(api)[0]["options"] == {"threads": 2}


def aged(*files: Path) -> None:
    long_ago = time.time() - KEPT_S - 60
    for file in files:
        os.utime(file, (long_ago, long_ago))


def with_template(api: Control, text: str | None, model: str = MODEL) -> None:
    api.post(OURS, {"model": model, "values": {"chat_template": text}})


def test_a_template_that_nothing_names_any_more_goes_after_a_while(
    api: Control, home: Path
) -> None:
    folder = home / "templates"
    for model in (MODEL, "ai/other"):
        with_template(api, "{{ old }}", model)
    (old,) = folder.iterdir()
    aged(old)
    with_template(api, "{{ new }}")
    (new,) = set(folder.iterdir()) - {old}
    aged(old, new)
    with_template(api, None, "ai/other")
    assert {*folder.iterdir()} == {old, new}, "a start may have read it a moment ago"
    aged(old, new)
    api.post(OURS, {"model": "ai/third", "values": {"threads": 2}})
    assert [*folder.iterdir()] == [new], "what is named stays, however old it is"
    api.post(OURS, {"model": MODEL, "reset": True})
    assert [*folder.iterdir()] == [new]


def test_a_change_that_is_refused_takes_no_template(api: Control, home: Path) -> None:
    with_template(api, "{{ old }}")
    with_template(api, None)
    (old,) = (home / "templates").iterdir()
    aged(old)
    refusal(api, OURS, {"model": MODEL, "values": {"threads": "many"}})
    assert old.is_file()
    with_template(api, "{{ old }}")
    assert old.read_text() == "{{ old }}"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (OURS, {"values": {"chat_template": "{secret}"}}),
        (OURS, {"values": {"Chat-Template": "{secret}"}}),
        (OURS, {"values": {"chat_template": ["{secret}"]}}),
        (OURS, {"values": {"chat_template_file": "{secret}"}}),
        (OURS, {"backend": "vllm", "flags": ["--chat-template", "{secret}"]}),
        (OURS, {"backend": "vllm", "raw_flags": "--chat_template={secret}"}),
        (OURS, {"backend": "vllm", "values": {"hf_overrides": {"chat-template": "{secret}"}}}),
        (OURS, {"backend": "llama.cpp", "flags": ["--chat-template-file", "{secret}"]}),
        (DOCKERS, {"runtime-flags": ["--chat-template-file", "{secret}"]}),
        ("/engines/vllm/_configure", {"runtime-flags": ["--chat-template", "{secret}"]}),
    ],
)
def test_no_client_has_a_file_read_for_it(
    api: Control, home: Path, tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    secret = tmp_path / "secret.jinja"
    secret.write_text("{{ secret }}")
    text = json.dumps({"model": "ai/m", **body}).replace("{secret}", str(secret))
    response = api.http.post(path, content=text)
    assert response.status_code == 400, response.text
    assert "secret }}" not in response.text
    assert kept(api, "ai/m") == []
    assert not (home / "templates").exists()


def test_the_reason_and_the_way_are_told(api: Control) -> None:
    flags = ["--chat-template", "/etc/passwd"]
    error = refusal(api, OURS, {"model": "ai/m", "backend": "vllm", "flags": flags})
    assert "opens no file for a client" in error.message
    assert "runner configure --chat-template FILE" in error.hint


def test_flags_that_one_engine_takes_as_text_open_no_file_in_another(api: Control) -> None:
    """llama.cpp's --chat-template is a text, vLLM's may be a path."""
    api.post(OURS, {"model": "ai/m", "flags": ["--chat-template", "/etc/passwd"]})
    done = api.post(OURS, {"model": "ai/m", "values": {"context_size": 512}})
    _, vllm = done["configured"][0]["effects"]
    assert "opens no file for a client" in vllm["problem"]
