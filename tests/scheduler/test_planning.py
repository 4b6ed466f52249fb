"""From a request's words to an order: who serves, the key, the context, and what makes another."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.artifacts.media import Dialect
from runner.demo import Quantization, gguf_path
from runner.engines.base import Mode
from runner.errors import (
    BadInput,
    BadSettings,
    EngineNotFound,
    EngineNotInstalled,
    ModelNotFound,
    NoEngineFits,
    Unsupported,
)
from runner.launch.base import LauncherKind
from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.names import Accelerator
from runner.registry.reference import Defaults, parse
from runner.scheduler.memory import GIB
from runner.scheduler.planning import Planner
from runner.settings import Placement
from runner.state import ChoiceKind
from runner.store.store import ModelStore
from tests.engines.stage import MLX, PLAIN
from tests.models.artifacts import Artifact, Part, cncf, docker
from tests.scheduler.house import (
    FOLDER,
    LARGE,
    MODEL,
    OTHER,
    SHIPPED,
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
from tests.store.tars import tar

TRAINED = 2048
KV_BYTES_PER_TOKEN = 3 * 2 * (64 + 64) * 2
"""The demo model: 3 layers, 2 heads, 64 numbers each for key and value, two bytes a number."""

MIB = 1024**2
NVIDIA = with_gpus(SMALL, LARGE)


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "my-llama-server"
    path.touch()
    return path


@pytest.fixture
def native(tmp_path: Path, binary: Path) -> Planner:
    """One demo model, and an engine of the user's own."""
    made = backend(planner(tmp_path / "home"), "llama.cpp", binary=binary)
    package_demo(made)
    return made


def test_the_users_own_binary_is_the_program(native: Planner, binary: Path) -> None:
    found = order(native)
    assert found.launcher is LauncherKind.PROCESS
    assert (found.key.engine, found.key.variant) == ("llama.cpp", "native")
    assert found.key.model == native.store.get(MODEL).id
    assert spec(native).program == (str(binary),)
    assert spec(native).identity.version == "binary my-llama-server"


def test_a_binary_that_is_not_there_is_named(native: Planner, tmp_path: Path) -> None:
    lost = backend(native, "llama.cpp", binary=tmp_path / "lost")
    with pytest.raises(BadSettings, match=r"backends\.llama\.cpp\.binary: no such file: .*lost"):
        order(lost)


def test_an_installed_image_is_the_program(native: Planner) -> None:
    install(native, "llama.cpp/cpu")
    found = order(native)
    assert found.launcher is LauncherKind.DOCKER
    assert (found.key.engine, found.key.variant) == ("llama.cpp", "cpu")
    assert spec(native).program == ("sha256:llama.cpp/cpu",)
    assert spec(native).identity.version == "b1"


def test_an_environment_runs_as_a_native_process(tmp_path: Path) -> None:
    served = planner(tmp_path / "home", [replace(MLX, native_arguments=("-m", "mlx_lm"))])
    package_folder(served)
    python = str(tmp_path / "bin" / "python")
    install(served, "mlx-lm/cpu", image=python, version="0.32")
    found = order(served, FOLDER)
    assert found.launcher is LauncherKind.PROCESS
    assert spec(served, FOLDER).program == (python, "-m", "mlx_lm")
    assert spec(served, FOLDER).identity.version == "0.32"


@pytest.mark.parametrize(
    ("placement", "variant"),
    [(Placement.AUTO, "cpu"), (Placement.DOCKER, "cpu"), (Placement.PROCESS, "native")],
)
def test_the_settings_say_how_an_engine_runs(
    native: Planner, binary: Path, placement: Placement, variant: str
) -> None:
    install(native, "llama.cpp/cpu")
    placed = backend(native, "llama.cpp", binary=binary, placement=placement)
    assert order(placed).key.variant == variant


def test_a_placement_that_can_not_be_is_refused_with_the_setting(
    native: Planner, binary: Path
) -> None:
    placed = backend(native, "llama.cpp", binary=binary, placement=Placement.DOCKER)
    with pytest.raises(EngineNotInstalled, match=r"llama\.cpp/cpu could") as caught:
        order(placed)
    assert caught.value.hint == "runner install-runner --backend llama.cpp --gpu none"


@pytest.mark.parametrize(
    ("wanted", "packaged", "memory", "expected"),
    [
        (None, None, 64 * GIB, TRAINED),
        (None, 1000, 64 * GIB, 1000),
        (512, None, 64 * GIB, 512),
        (4096, None, 64 * GIB, 4096),
        (600, 1000, 64 * GIB, 600),
        (None, None, 8 * MIB, 1024),
        (None, None, 1 * MIB, 512),
        (2048, None, 1 * MIB, 2048),
    ],
)
def test_context_and_memory(
    native: Planner,
    binary: Path,
    wanted: int | None,
    packaged: int | None,
    memory: int,
    expected: int,
) -> None:
    """The model's trained length is the default's cap; what the user says is kept."""
    native = backend(native, "llama.cpp", binary=binary, context_size=wanted)
    native = on(native, replace(PLAIN, memory=memory))
    model = package_demo(native, context_size=packaged)
    found, made = order(native), spec(native)
    assert found.context_size == made.identity.context_size == expected
    assert value(made, "--ctx-size") == str(expected)
    weights = gguf_path().stat().st_size
    assert model.size == weights
    assert found.kv_bytes == expected * 1536 == expected * KV_BYTES_PER_TOKEN
    assert made.memory_bytes == weights * 6 // 5 + GIB + expected * 1536


def test_the_command_names_the_model_as_it_was_asked_for(native: Planner) -> None:
    made = spec(native)
    model = native.store.bundle(native.store.get(MODEL).id).model_file
    assert made.folders.model == model.parent
    assert value(made, "--model") == str(model)
    assert value(made, "--alias") == MODEL
    assert made.identity.reference == MODEL
    assert value(made, "--host") == str(made.folders.run / "engine.sock")
    assert made.folders.run == native.home.instance(made.identity.instance)


def test_every_spelling_of_a_model_shares_an_instance(native: Planner) -> None:
    model = native.store.get(MODEL)
    keys = {order(native, name).key for name in (MODEL, model.id, model.short_id)}
    assert len(keys) == 1


def test_what_makes_another_instance(native: Planner, binary: Path) -> None:
    package_demo(native, OTHER, Quantization.Q8_0)
    other = binary.with_name("other")
    other.touch()
    changed: list[dict[str, Any]] = [
        {"context_size": 512},
        {"flags": ("--no-warmup",)},
        {"environment": {"GGML_LOG": "1"}},
        {"options": {"threads": 1}},
    ]
    keys = [
        order(native).key,
        order(native, OTHER).key,
        order(native, mode=Mode.EMBEDDING).key,
        order(backend(native, "llama.cpp", binary=other)).key,
        *(order(backend(native, "llama.cpp", binary=binary, **more)).key for more in changed),
    ]
    install(native, "llama.cpp/cpu")
    keys.append(order(native).key)
    install(native, "llama.cpp/cpu", config_digest="sha256:" + "b" * 64)
    keys.append(order(native).key)
    assert len(set(keys)) == len(keys) == 10
    assert order(native).key == keys[-1]


def test_a_cache_belongs_to_one_program_and_one_model(native: Planner) -> None:
    package_demo(native, OTHER, Quantization.Q8_0)
    caches = [spec(native).folders.cache, spec(native, OTHER).folders.cache]
    install(native, "llama.cpp/cpu")
    caches.append(spec(native).folders.cache)
    install(native, "llama.cpp/cpu", config_digest="sha256:" + "b" * 64)
    caches.append(spec(native).folders.cache)
    assert len(set(caches)) == 4
    assert all(cache.is_relative_to(native.home.root / "cache") for cache in caches)


def test_a_cache_outlives_a_change_of_settings(native: Planner, binary: Path) -> None:
    changed = backend(native, "llama.cpp", binary=binary, context_size=512)
    assert spec(changed).folders.cache == spec(native).folders.cache


def test_a_packaged_chat_template_is_passed(native: Planner, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages[0].content }}")
    assert "--chat-template-file" not in spec(native).command.arguments
    package_demo(native, OTHER, chat_template=template)
    passed = Path(value(spec(native, OTHER), "--chat-template-file"))
    assert passed.read_text() == template.read_text()


def test_pickles_are_loaded_only_where_they_are_allowed(native: Planner) -> None:
    """Whether the config speaks of them, or they hide in an archive."""
    weights = gguf_path().read_bytes()
    hidden = tar(("sub/pytorch_model.bin", pickle.dumps({"a": 1})))
    Artifact(
        Dialect.DOCKER_V01, [docker("gguf.v3", weights)], {"format": "gguf", "pickles": True}
    ).enter(native.store, "told")
    Artifact(Dialect.DOCKER_V01, [docker("gguf.v3", weights), docker("dir.tar", hidden)]).enter(
        native.store, "hidden"
    )
    allowing = replace(native, settings=native.settings.model_copy(update={"allow_pickle": True}))
    for name in ("told", "hidden"):
        with pytest.raises(Unsupported, match=f"weights of {name} are pickles") as caught:
            order(native, name)
        assert "allow_pickle: true" in caught.value.hint
        assert order(allowing, name).context_size == TRAINED


@pytest.mark.parametrize("options", [{"draft_model": "hidden"}, {"lora": ["hidden"]}])
def test_pickles_that_go_with_a_model_are_no_better(
    native: Planner, options: dict[str, object]
) -> None:
    weights, hidden = gguf_path().read_bytes(), tar(("a/pytorch_model.bin", pickle.dumps(1)))
    Artifact(Dialect.DOCKER_V01, [docker("gguf.v3", weights), docker("dir.tar", hidden)]).enter(
        native.store, "hidden"
    )
    configure(native, MODEL, options=options)
    with pytest.raises(Unsupported, match="weights of hidden are pickles"):
        order(native)


def test_pickles_that_no_engine_serves_are_refused_for_that(native: Planner) -> None:
    parts = [cncf("weight.v1.raw", pickle.dumps({"a": 1}), "pytorch_model.bin")]
    config = {"config": {"format": "pytorch"}}
    Artifact(Dialect.MODELPACK, parts, config).enter(native.store, "torch")
    with pytest.raises(NoEngineFits, match="the model is pytorch") as caught:
        order(native, "torch")
    assert "allow_pickle" not in caught.value.hint


def test_a_pickle_that_no_engine_sees_keeps_no_model_out(native: Planner) -> None:
    parts = [
        docker("gguf.v3", gguf_path().read_bytes()),
        Part("text/plain", pickle.dumps({"a": 1}), "pytorch_model.bin"),
    ]
    Artifact(Dialect.DOCKER_V01, parts).enter(native.store, "beside")
    assert order(native, "beside").context_size == TRAINED


def test_files_in_folders_are_named_as_the_engine_sees_them(native: Planner) -> None:
    """Of a model whose config does not even say its format."""
    parts = [
        cncf("weight.v1.tar", tar(("deep/down/m.gguf", gguf_path().read_bytes()))),
        cncf("weight.config.v1.raw", b"{{ m }}", "deep/chat.jinja"),
    ]
    Artifact(Dialect.MODELPACK, parts, {}).enter(native.store, "packed")
    made = spec(native, "packed")
    assert value(made, "--model") == str(made.folders.model / "deep/down/m.gguf")
    assert value(made, "--chat-template-file") == str(made.folders.model / "deep/chat.jinja")
    unpacked = gguf_path().stat().st_size + len(b"{{ m }}")
    assert made.memory_bytes == unpacked * 6 // 5 + GIB + TRAINED * KV_BYTES_PER_TOKEN


def test_an_adapter_answers_nothing_alone(native: Planner, tmp_path: Path) -> None:
    package_adapter(native, tmp_path, "lora")
    with pytest.raises(NoEngineFits, match="it is an adapter, required: a whole model") as caught:
        order(native, "lora")
    assert "the model it was made for" in caught.value.hint


def test_the_users_flags_come_last(native: Planner, binary: Path) -> None:
    flags = ("--threads", "1")
    flagged = backend(native, "llama.cpp", binary=binary, flags=flags)
    assert spec(flagged).command.arguments[-2:] == flags


@pytest.mark.parametrize("name", ["demo:1", "team/demo:1", "registry.example/team/demo:1"])
def test_the_default_registry_completes_names(native: Planner, name: str) -> None:
    long = "registry.example/team/demo:1"
    model = package_demo(native, long, Quantization.Q8_0)
    defaults = Defaults(registry="registry.example", organisation="team")
    found = order(replace(native, store=ModelStore(native.store.root, defaults)), name)
    assert found.key.model == model.id
    assert found.reference == name
    if name != long:
        with pytest.raises(ModelNotFound, match="is not in the model store") as caught:
            order(native, name)
        assert f"`runner pull {name}` fetches a model" in caught.value.hint


def test_the_stamp_changes_with_models_installs_configurations_and_choices(
    native: Planner,
) -> None:
    stamps = [native.stamp()]
    assert native.stamp() == stamps[0]
    package_demo(native, OTHER, Quantization.Q8_0)
    stamps.append(native.stamp())
    install(native, "llama.cpp/cpu")
    stamps.append(native.stamp())
    configure(native, MODEL, options={"threads": 1})
    stamps.append(native.stamp())
    native.state.choose(ChoiceKind.FORMAT, "gguf", "llama.cpp")
    stamps.append(native.stamp())
    native.store.remove(MODEL)
    stamps.append(native.stamp())
    assert len(set(stamps)) == 6


def test_an_engine_that_is_not_installed_is_refused_with_the_command(native: Planner) -> None:
    package_folder(native)
    with pytest.raises(EngineNotInstalled, match="vllm/cpu could") as caught:
        native.orders("vllm", FOLDER, Mode.COMPLETION)
    assert caught.value.hint == "runner install-runner --backend vllm --gpu none"


def test_an_engine_that_can_not_read_the_model_is_refused_not_replaced(native: Planner) -> None:
    install(native, "vllm/cpu")
    with pytest.raises(NoEngineFits, match="vllm/cpu: the model is gguf, required: safetensors"):
        native.orders("vllm", MODEL, Mode.COMPLETION)


# What a path says


@pytest.fixture
def gpus(tmp_path: Path) -> Planner:
    """Both engines on CPU and GPU, and a model for each."""
    made = planner(tmp_path / "home", host=NVIDIA)
    for label in ("llama.cpp/cpu", "llama.cpp/cuda12", "llama.cpp/cuda13", "vllm/cpu", "vllm/cuda"):
        install(made, label)
    package_demo(made)
    package_folder(made)
    return made


@pytest.mark.parametrize(
    ("engine", "model", "label"),
    [
        (None, MODEL, "llama.cpp/cuda13"),
        ("any", MODEL, "llama.cpp/cuda13"),
        ("llama.cpp", MODEL, "llama.cpp/cuda13"),
        ("LlamaCpp", MODEL, "llama.cpp/cuda13"),
        ("llama.cpp:cuda", MODEL, "llama.cpp/cuda13"),
        ("llama.cpp:cuda12", MODEL, "llama.cpp/cuda12"),
        ("llama.cpp:cpu", MODEL, "llama.cpp/cpu"),
        ("llama.cpp:none", MODEL, "llama.cpp/cpu"),
        ("llama.cpp:native", MODEL, "llama.cpp/native"),
        ("vllm:cuda", FOLDER, "vllm/cuda"),
        ("vllm:cpu", FOLDER, "vllm/cpu"),
        ("any:cuda", FOLDER, "vllm/cuda"),
        ("any:cuda12", MODEL, "llama.cpp/cuda12"),
        ("any:none", MODEL, "llama.cpp/cpu"),
    ],
)
def test_a_path_names_engine_accelerator_and_variant(
    gpus: Planner, engine: str | None, model: str, label: str
) -> None:
    assert order(gpus, model, engine).candidate.label == label


def test_unknown_words_get_the_nearest(gpus: Planner) -> None:
    with pytest.raises(EngineNotFound, match="'vlm' is not an engine") as caught:
        order(gpus, FOLDER, "vlm")
    assert caught.value.hint == "did you mean vllm?"
    with pytest.raises(BadInput, match=r"llama\.cpp has no variant 'cuda14'") as variant:
        order(gpus, MODEL, "llama.cpp:cuda14")
    assert variant.value.hint.startswith("did you mean cuda1")
    with pytest.raises(ModelNotFound) as model:
        order(gpus, "localhost:5000/dmo:1")
    assert "localhost:5000/demo:1" in model.value.hint


def test_an_accelerator_that_the_host_has_not_is_never_replaced(gpus: Planner) -> None:
    with pytest.raises(NoEngineFits, match="no GPU for cuda") as caught:
        order(on(gpus, PLAIN), FOLDER, "vllm:cuda")
    assert "nvidia-smi" in caught.value.hint
    with pytest.raises(NoEngineFits, match="musa"):
        order(gpus, FOLDER, "any:musa")
    assert order(on(gpus, PLAIN), FOLDER).candidate.label == "vllm/cpu"


# What a user has chosen for good


def test_engines_are_tried_in_the_users_order(tmp_path: Path) -> None:
    served = planner(tmp_path / "home", [*SHIPPED, MLX])
    package_folder(served)
    install(served, "vllm/cpu")
    install(served, "mlx-lm/cpu", image="/opt/python")
    assert order(served, FOLDER).candidate.name == "vllm"
    preferred = replace(served, settings=served.settings.model_copy(update={"preference": (
        "sglang", "mlx-lm", "vllm")}))  # fmt: skip
    assert order(preferred, FOLDER).candidate.name == "mlx-lm"
    assert order(preferred, FOLDER, "vllm").candidate.name == "vllm"
    served.state.choose(ChoiceKind.FORMAT, "safetensors", "mlx-lm")
    assert order(served, FOLDER).candidate.name == "mlx-lm"
    assert order(served, FOLDER, "vllm").candidate.name == "vllm"
    served.state.choose(ChoiceKind.FORMAT, "safetensors", "")
    assert order(served, FOLDER).candidate.name == "vllm"


def test_a_default_variant_goes_before_the_best(gpus: Planner) -> None:
    gpus.state.choose(ChoiceKind.VARIANT, "llama.cpp", "cpu")
    assert order(gpus).candidate.label == "llama.cpp/cpu"
    assert order(gpus, MODEL, "llama.cpp:cuda").candidate.label == "llama.cpp/cuda13"


# Fallbacks


@pytest.fixture
def two(tmp_path: Path) -> Planner:
    served = planner(tmp_path / "home", [*SHIPPED, MLX])
    package_folder(served)
    install(served, "vllm/cpu")
    install(served, "mlx-lm/cpu", image="/opt/python")
    return served


def _engines(planner: Planner, engine: str | None = None, model: str = FOLDER) -> list[str]:
    return [one.candidate.name for one in planner.orders(engine, model, Mode.COMPLETION)]


@pytest.mark.parametrize("subject", ["safetensors", FOLDER, "id"])
def test_fallbacks_follow_the_choice(two: Planner, subject: str) -> None:
    assert _engines(two) == ["vllm"]
    name = two.store.get(FOLDER).id if subject == "id" else subject
    two.state.choose(ChoiceKind.FALLBACK, name, "llama.cpp,mlx-lm,vllm")
    assert _engines(two) == ["vllm", "mlx-lm"]
    assert _engines(two, model=two.store.get(FOLDER).short_id) == ["vllm", "mlx-lm"]


def test_an_explicit_engine_has_no_fallback(two: Planner) -> None:
    two.state.choose(ChoiceKind.FALLBACK, "safetensors", "mlx-lm,vllm")
    assert _engines(two, "vllm") == ["vllm"]
    assert _engines(two, "vllm:cpu") == ["vllm"]
    assert _engines(two, "mlx-lm") == ["mlx-lm"]
    assert _engines(two, "any") == ["vllm", "mlx-lm"]


def test_a_models_fallbacks_go_before_its_formats(two: Planner) -> None:
    install(two, "llama.cpp/cpu")
    two.state.choose(ChoiceKind.FALLBACK, "safetensors", "mlx-lm")
    two.state.choose(ChoiceKind.FALLBACK, FOLDER, "llama.cpp")
    assert _engines(two) == ["vllm"]


def test_a_fallback_that_is_configured_wrongly_takes_nothing_away(two: Planner) -> None:
    two.state.choose(ChoiceKind.FALLBACK, "safetensors", "mlx-lm")
    configure(two, FOLDER, "mlx-lm", flags=["--no-such-flag"])
    assert _engines(two) == ["vllm"]
    with pytest.raises(BadInput, match="--no-such-flag is no flag of this engine"):
        two.orders("mlx-lm", FOLDER, Mode.COMPLETION)


def test_the_path_may_ask_for_an_accelerator_of_any_engine(gpus: Planner) -> None:
    assert order(gpus, MODEL, "any:cuda").candidate.variant.accelerator is Accelerator.CUDA


def test_a_model_of_another_packager_is_planned_alike(native: Planner, tmp_path: Path) -> None:
    package(native.store, PackageOrder(parse(OTHER), from_model=MODEL, context_size=777))
    assert order(native, OTHER).context_size == 777
