"""From an order to what a launcher is given: folders, paths, devices, limits, environment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runner.demo import Quantization, gguf_path
from runner.dockerhost import DockerHost
from runner.engines.base import TcpEndpoint, UnixEndpoint
from runner.engines.description import Form
from runner.errors import BadInput, ModelNotFound, NoEngineFits, Unsupported
from runner.hardware.gpu import Gpu
from runner.launch.base import InstanceSpec, LauncherKind
from runner.launch.devices import NO_DEVICES
from runner.launch.docker import DockerLauncher
from runner.scheduler.memory import GIB
from runner.scheduler.planning import Planner
from tests.engines.stage import DOCKER, PLAIN, TRANSFORMERS
from tests.scheduler.house import (
    ADAPTER,
    FOLDER,
    LARGE,
    LARGER,
    MODEL,
    OTHER,
    SMALL,
    backend,
    configure,
    install,
    on,
    order,
    package_adapter,
    package_demo,
    package_folder,
    planner,
    spec,
    value,
    with_gpus,
)

CACHE_BYTES = 2048 * 1536
THREE = with_gpus(SMALL, LARGE, LARGER)


@pytest.fixture
def native(tmp_path: Path) -> Planner:
    made = backend(planner(tmp_path / "home"), "llama.cpp", binary=Path(__file__))
    package_demo(made)
    return made


@pytest.fixture
def gpus(tmp_path: Path) -> Planner:
    """Three GPUs; vLLM and llama.cpp with CUDA."""
    made = planner(tmp_path / "home", host=THREE)
    for label in ("llama.cpp/cuda12", "vllm/cuda", "vllm/cpu"):
        install(made, label)
    package_demo(made)
    package_folder(made)
    return made


def _contained(planner: Planner, model: str = MODEL, engine: str | None = None) -> InstanceSpec:
    """As a container sees it; no Docker Engine is asked."""
    launcher = DockerLauncher(DockerHost({}), "home", publish_ports=False)
    return spec(planner, model, engine, launcher)


# What goes with a model


def test_a_draft_model_of_the_store_goes_with_it(native: Planner) -> None:
    draft = package_demo(native, OTHER, Quantization.Q8_0)
    alone = spec(native)
    configure(native, MODEL, options={"draft_model": OTHER, "draft_tokens": 3})
    made, bundle = spec(native), native.store.bundle(draft.id)
    assert made.folders.others == (bundle.folder,)
    assert value(made, "--spec-draft-model") == str(bundle.model_file)
    assert value(made, "--spec-draft-n-max") == "3"
    assert made.memory_bytes - alone.memory_bytes == pytest.approx(bundle.size * 1.2, abs=2)


def test_adapters_of_the_store_go_with_it(native: Planner, tmp_path: Path) -> None:
    adapter = package_adapter(native, tmp_path)
    configure(native, MODEL, options={"lora": [ADAPTER]})
    made, bundle = spec(native), native.store.bundle(adapter.id)
    assert made.folders.others == (bundle.folder,)
    assert value(made, "--lora") == str(bundle.model_file)
    weights = gguf_path().stat().st_size + bundle.size
    assert made.memory_bytes == weights * 12 // 10 + GIB + CACHE_BYTES


def test_in_a_container_each_has_its_own_place(native: Planner, tmp_path: Path) -> None:
    install(native, "llama.cpp/cpu")
    package_demo(native, OTHER, Quantization.Q8_0)
    package_adapter(native, tmp_path)
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages }}")
    configure(
        native,
        MODEL,
        options={"draft_model": OTHER, "lora": [ADAPTER], "chat_template": str(template)},
    )
    made = _contained(native)
    names = [str(other) for other in made.folders.others]
    assert len(names) == len(set(names)) == 3
    assert value(made, "--model").startswith("/model/")
    seen = [value(made, flag) for flag in ("--spec-draft-model", "--lora", "--chat-template-file")]
    assert [Path(path).parts[1] for path in seen] == ["others"] * 3
    assert len({Path(path).parts[2] for path in seen}) == 3
    assert not any(str(native.home.root) in argument for argument in made.command.arguments)
    assert made.listen == UnixEndpoint("/run/engine/engine.sock")


def test_a_draft_of_safetensors_is_named_as_a_folder(tmp_path: Path) -> None:
    made = planner(tmp_path / "home")
    install(made, "vllm/cpu")
    package_folder(made)
    configure(made, FOLDER, options={"draft_model": FOLDER})
    found = _contained(made, FOLDER)
    assert json.loads(value(found, "--speculative-config"))["model"].startswith("/others/")
    assert value(found, "--model") == "/model"


@pytest.mark.parametrize("options", [{"draft_model": "no/body"}, {"lora": ["no/body"]}])
def test_what_is_not_in_the_store_is_named(native: Planner, options: dict[str, object]) -> None:
    configure(native, MODEL, options=options)
    with pytest.raises(ModelNotFound, match="no/body is not in the model store") as caught:
        order(native)
    assert "runner pull no/body" in caught.value.hint


def test_another_model_under_the_same_name_makes_another_instance(native: Planner) -> None:
    package_demo(native, OTHER, Quantization.Q8_0)
    configure(native, MODEL, options={"draft_model": OTHER})
    before = order(native).key
    package_demo(native, OTHER, Quantization.F16, context_size=600)
    assert order(native).key != before


# The user's own chat template


def test_the_users_template_goes_before_the_packaged_one(native: Planner, tmp_path: Path) -> None:
    packaged, own = tmp_path / "packaged.jinja", tmp_path / "own.jinja"
    packaged.write_text("{{ packaged }}")
    own.write_text("{{ own }}")
    package_demo(native, OTHER, chat_template=packaged)
    assert Path(value(spec(native, OTHER), "--chat-template-file")).read_text() == "{{ packaged }}"
    configure(native, OTHER, options={"chat_template": str(own)})
    made = spec(native, OTHER)
    assert made.folders.others == (own,)
    assert value(made, "--chat-template-file") == str(own)
    assert made.command.arguments.count("--chat-template-file") == 1


def test_memory_is_locked_where_the_option_says_so(native: Planner) -> None:
    assert not spec(native).locks_memory
    configure(native, MODEL, options={"memory_lock": True})
    assert spec(native).locks_memory


@pytest.mark.parametrize("name", ["lost.jinja", "/nowhere/lost.jinja", "/"])
def test_a_template_that_is_no_file_is_named(native: Planner, name: str) -> None:
    configure(native, MODEL, options={"chat_template": name})
    with pytest.raises(BadInput, match=f"chat_template: no such file: {name}") as caught:
        spec(native)
    assert "its whole path" in caught.value.hint


# GPUs


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, (LARGER,)),
        ({"tensor_parallel_size": 2}, (LARGE, LARGER)),
        ({"pipeline_parallel_size": 2}, (LARGE, LARGER)),
        ({"gpus": ["0"]}, (SMALL,)),
        ({"gpus": ["GPU-b"]}, (LARGE,)),
        ({"gpus": ["nvidia:2", "0"]}, (SMALL, LARGER)),
        ({"gpus": ["all"], "tensor_parallel_size": 1}, (SMALL, LARGE, LARGER)),
    ],
)
def test_which_gpus_an_engine_that_shards_is_given(
    gpus: Planner, options: dict[str, object], chosen: tuple[Gpu, ...]
) -> None:
    """In the host's order, so that numbers inside are those that a person expects."""
    configure(gpus, FOLDER, options=options)
    assert order(gpus, FOLDER, "vllm:cuda").gpus == chosen
    (request,) = _contained(gpus, FOLDER, "vllm:cuda").devices.device_requests
    assert request.driver == "cdi"
    assert request.ids == tuple(f"nvidia.com/gpu={gpu.index}" for gpu in chosen)


def test_an_engine_that_spreads_by_itself_gets_all(gpus: Planner) -> None:
    assert order(gpus).gpus == (SMALL, LARGE, LARGER)
    configure(gpus, MODEL, options={"gpus": ["1"]})
    assert order(gpus).gpus == (LARGE,)


def test_shards_get_room_to_speak(gpus: Planner) -> None:
    package_folder(gpus, OTHER)
    assert _contained(gpus, OTHER, "vllm:cuda").devices.shm_size == 0
    assert _contained(gpus).devices.shm_size == 0
    for options in ({"tensor_parallel_size": 2}, {"gpus": ["0", "1"]}):
        configure(gpus, OTHER, options=options)
        made = _contained(gpus, OTHER, "vllm:cuda")
        assert made.devices.shm_size >= 2 * GIB
        assert value(made, "--tensor-parallel-size") == "2"


def test_other_gpus_are_another_instance(gpus: Planner) -> None:
    keys = [order(gpus, FOLDER).key]
    for name in ("0", "1", "GPU-bbbb"):
        configure(gpus, FOLDER, options={"gpus": [name]})
        keys.append(order(gpus, FOLDER).key)
    assert len(set(keys)) == 4


@pytest.mark.parametrize("name", ["3", "GPU-d", "amd:0", "GPU-"])
def test_a_gpu_that_is_not_there_is_named(gpus: Planner, name: str) -> None:
    configure(gpus, FOLDER, options={"gpus": [name]})
    with pytest.raises(NoEngineFits, match=name) as caught:
        order(gpus, FOLDER, "vllm:cuda")
    assert "nvidia:0" in caught.value.hint


def test_a_wish_for_gpus_speaks_against_variants_without(gpus: Planner) -> None:
    for wish in ({"gpus": ["1"]}, {"tensor_parallel_size": 2}):
        configure(gpus, FOLDER, options=wish)
        with pytest.raises(NoEngineFits, match="it uses no GPU"):
            order(gpus, FOLDER, "vllm:cpu")
        configure(gpus, FOLDER, options=dict.fromkeys(wish))


def test_more_shards_than_gpus_or_heads_are_refused_before_the_start(gpus: Planner) -> None:
    configure(gpus, FOLDER, options={"tensor_parallel_size": 4})
    with pytest.raises(NoEngineFits, match="there are 3 GPUs, required: 4") as caught:
        order(gpus, FOLDER, "vllm:cuda")
    assert caught.value.hint == "set tensor_parallel_size to 3 or less"
    configure(gpus, FOLDER, options={"tensor_parallel_size": 3})
    with pytest.raises(NoEngineFits, match="4 attention heads, required: a number that 3 divides"):
        order(gpus, FOLDER, "vllm:cuda")


def test_a_cpu_is_given_no_devices(gpus: Planner) -> None:
    made = _contained(gpus, FOLDER, "vllm:cpu")
    assert made.devices == NO_DEVICES
    assert order(gpus, FOLDER, "vllm:cpu").gpus == ()


def test_gpus_that_docker_can_not_give_are_an_error(gpus: Planner) -> None:
    """Those that were asked for by number, where others can be given."""
    few = replace(DOCKER, cdi_devices=("nvidia.com/gpu=0",), runtimes=frozenset({"runc"}))
    limited = on(gpus, replace(THREE, docker=few))
    configure(limited, FOLDER, options={"gpus": ["1"]})
    with pytest.raises(Unsupported) as caught:
        _contained(limited, FOLDER, "vllm:cuda")
    assert caught.value.hint


# Environment and the rest


def test_what_the_plan_needs_goes_before_what_was_set(gpus: Planner) -> None:
    configure(
        gpus, FOLDER, options={"threads": 4}, environment={"OMP_NUM_THREADS": "1", "MINE": "1"}
    )
    found = _contained(gpus, FOLDER, "vllm:cpu").command.environment
    assert (found["OMP_NUM_THREADS"], found["MINE"]) == ("4", "1")


def test_the_engines_own_memory_is_what_its_description_says(native: Planner) -> None:
    install(native, "vllm/cpu", version="0.32")
    package_folder(native)
    made = _contained(native, FOLDER)
    found = order(native, FOLDER)
    size = native.store.bundle(found.model.id).size
    own = found.candidate.engine.description.memory
    assert found.kv_bytes is not None
    assert made.memory_bytes == size * 12 // 10 + own + found.kv_bytes
    assert made.identity.version == "0.32"


def test_an_engine_without_unix_sockets_listens_on_tcp(tmp_path: Path) -> None:
    about = replace(TRANSFORMERS.description, listens_on_tcp=True)
    served = planner(tmp_path / "home", [replace(TRANSFORMERS, description=about)])
    install(served, "transformers/cpu")
    package_folder(served)
    assert _contained(served, FOLDER).listen == TcpEndpoint("0.0.0.0", 8080)
    alone = replace(about.variants[0], form=Form.ENVIRONMENT)
    native = planner(
        tmp_path / "two",
        [replace(TRANSFORMERS, description=replace(about, variants=(alone,)))],
    )
    install(native, "transformers/cpu", image="/opt/python")
    package_folder(native)
    listen = spec(native, FOLDER).listen
    assert isinstance(listen, TcpEndpoint)
    assert listen.host == "127.0.0.1"
    assert spec(native, FOLDER).uses_tcp


def test_an_engine_that_starts_itself_needs_no_install(tmp_path: Path) -> None:
    about = TRANSFORMERS.description
    own = replace(about.variants[0], form=Form.CODE)
    engine = replace(TRANSFORMERS, description=replace(about, variants=(own,)))
    served = planner(tmp_path / "home", [engine], host=replace(PLAIN, docker=None))
    package_folder(served)
    assert order(served, FOLDER).launcher is LauncherKind.CODE
