"""From a request's words to an order: the key, the context, the folders and the command."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runner.artifacts.media import Dialect, ModelFormat
from runner.demo import Quantization, gguf_path
from runner.engines.base import Command, Mode, Plan
from runner.engines.native import NativeProgram
from runner.engines.selection import Offer, choose
from runner.errors import (
    BadSettings,
    EngineNotInstalled,
    ModelNotFound,
    NoEngineFits,
    Unsupported,
)
from runner.hardware.host import HostFacts
from runner.home import Home
from runner.launch.base import InstanceSpec, LauncherKind
from runner.launch.process import ProcessLauncher
from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.registry.reference import Defaults, parse
from runner.scheduler.planning import Order, Planner
from runner.settings import BackendSettings, Placement, Settings
from runner.state import Install, State
from runner.store.store import ModelStore, StoredModel
from tests.models.artifacts import Artifact, Part, cncf, docker
from tests.models.packaging import package_gguf
from tests.store.tars import tar
from tests.weights.gguf_bytes import LLAMA, STRING, gguf

MODEL = "localhost:5000/demo:1"
TRAINED = 2048
KV_BYTES_PER_TOKEN = 3 * 2 * (64 + 64) * 2
"""The demo model: 3 layers, 2 heads, 64 numbers each for key and value, two bytes a number."""

GIB = 1024**3
MIB = 1024**2
CPU = Install("llama.cpp", "cpu", "b1", "sha256:image", "", "sha256:" + "a" * 64, (), "built", 1, 1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "my-llama-server"
    path.touch()
    return path


@pytest.fixture
def planner(home: Home, binary: Path) -> Planner:
    """One demo model, and an engine of the user's own."""
    home.prepare()
    found = Planner(
        home=home,
        settings=_settings(binary=binary),
        store=ModelStore(home.store),
        state=State(home.state_file),
        host=HostFacts("Linux", 64 * GIB),
    )
    _package(found)
    return found


def _settings(
    *,
    binary: Path | None = None,
    context_size: int | None = None,
    flags: tuple[str, ...] = (),
    placement: Placement = Placement.AUTO,
) -> Settings:
    backend = BackendSettings(
        binary=binary, context_size=context_size, flags=flags, placement=placement
    )
    return Settings(backends={"llama.cpp": backend})


def _package(
    planner: Planner,
    name: str = MODEL,
    quantization: Quantization = Quantization.F16,
    *,
    context_size: int | None = None,
    chat_template: Path | None = None,
) -> StoredModel:
    return package_gguf(
        planner.store,
        gguf_path(quantization),
        parse(name),
        context_size=context_size,
        chat_template=chat_template,
    )


def _order(planner: Planner, model: str = MODEL, mode: Mode = Mode.COMPLETION) -> Order:
    return planner.order(None, model, mode)


def _spec(planner: Planner, model: str = MODEL) -> InstanceSpec:
    return planner.spec(_order(planner, model), "0123456789ab", ProcessLauncher())


def _value(spec: InstanceSpec, option: str) -> str:
    """What follows an option on the engine's command line."""
    arguments = spec.command.arguments
    return arguments[arguments.index(option) + 1]


def test_the_users_own_binary_is_the_program(planner: Planner, binary: Path) -> None:
    order = _order(planner)
    assert order.launcher is LauncherKind.PROCESS
    assert (order.key.engine, order.key.variant) == ("llama.cpp", "native")
    assert order.key.model == planner.store.get(MODEL).id
    assert _spec(planner).program == (str(binary),)
    assert _spec(planner).identity.version == "binary my-llama-server"


def test_a_binary_that_is_not_there_is_named(planner: Planner, tmp_path: Path) -> None:
    lost = replace(planner, settings=_settings(binary=tmp_path / "lost"))
    with pytest.raises(BadSettings, match=r"backends\.llama\.cpp\.binary: no such file: .*lost"):
        _order(lost)


def test_an_installed_image_is_the_program(planner: Planner) -> None:
    planner.state.record(CPU)
    order = _order(planner)
    assert order.launcher is LauncherKind.DOCKER
    assert (order.key.engine, order.key.variant) == ("llama.cpp", "cpu")
    assert _spec(planner).program == ("sha256:image",)
    assert _spec(planner).identity.version == "b1"


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
    planner: Planner, wanted: int | None, packaged: int | None, memory: int, expected: int
) -> None:
    """The model's trained length is the default's cap; what the user says is kept."""
    planner = replace(
        planner,
        settings=_settings(binary=Path(__file__), context_size=wanted),
        host=replace(planner.host, memory=memory),
    )
    model = _package(planner, context_size=packaged)
    order, spec = _order(planner), _spec(planner)
    assert order.context_size == spec.identity.context_size == expected
    assert _value(spec, "--ctx-size") == str(expected)
    weights = gguf_path().stat().st_size
    assert model.size == weights
    assert order.kv_bytes == expected * 1536 == expected * KV_BYTES_PER_TOKEN
    assert spec.memory_bytes == weights * 6 // 5 + GIB + expected * 1536


def test_the_command_names_the_model_as_it_was_asked_for(planner: Planner) -> None:
    spec = _spec(planner)
    model = planner.store.bundle(planner.store.get(MODEL).id).model_file
    assert spec.folders.model == model.parent
    assert _value(spec, "--model") == str(model)
    assert _value(spec, "--alias") == MODEL
    assert spec.identity.reference == MODEL
    assert _value(spec, "--host") == str(planner.home.instance("0123456789ab") / "engine.sock")


def test_every_spelling_of_a_model_shares_an_instance(planner: Planner) -> None:
    model = planner.store.get(MODEL)
    keys = {_order(planner, name).key for name in (MODEL, model.id, model.short_id)}
    assert len(keys) == 1


def test_what_makes_another_instance(planner: Planner, binary: Path) -> None:
    _package(planner, "localhost:5000/other:1", Quantization.Q8_0)
    other = binary.with_name("other")
    other.touch()
    keys = [
        _order(planner).key,
        _order(planner, "localhost:5000/other:1").key,
        _order(planner, mode=Mode.EMBEDDING).key,
        _order(replace(planner, settings=_settings(binary=binary, context_size=512))).key,
        _order(replace(planner, settings=_settings(binary=binary, flags=("--slots",)))).key,
        _order(replace(planner, settings=_settings(binary=other))).key,
    ]
    planner.state.record(CPU)
    keys.append(_order(planner).key)
    planner.state.record(replace(CPU, config_digest="sha256:" + "b" * 64))
    keys.append(_order(planner).key)
    assert len(set(keys)) == len(keys) == 8
    assert _order(planner).key == keys[-1]


def test_a_cache_belongs_to_one_program_and_one_model(planner: Planner) -> None:
    _package(planner, "localhost:5000/other:1", Quantization.Q8_0)
    caches = [_spec(planner).folders.cache, _spec(planner, "localhost:5000/other:1").folders.cache]
    planner.state.record(CPU)
    caches.append(_spec(planner).folders.cache)
    planner.state.record(replace(CPU, config_digest="sha256:" + "b" * 64))
    caches.append(_spec(planner).folders.cache)
    assert len(set(caches)) == 4
    assert all(cache.is_relative_to(planner.home.root / "cache") for cache in caches)


def test_a_cache_outlives_a_change_of_settings(planner: Planner, binary: Path) -> None:
    changed = replace(planner, settings=_settings(binary=binary, context_size=512))
    assert _spec(changed).folders.cache == _spec(planner).folders.cache


def test_a_packaged_chat_template_is_passed(planner: Planner, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages[0].content }}")
    assert "--chat-template-file" not in _spec(planner).command.arguments
    _package(planner, "localhost:5000/templated:1", chat_template=template)
    passed = Path(_value(_spec(planner, "localhost:5000/templated:1"), "--chat-template-file"))
    assert passed.read_text() == template.read_text()


def test_pickles_are_loaded_only_where_they_are_allowed(planner: Planner) -> None:
    """Whether the config speaks of them, or they hide in an archive."""
    weights = gguf_path().read_bytes()
    hidden = tar(("sub/pytorch_model.bin", pickle.dumps({"a": 1})))
    Artifact(
        Dialect.DOCKER_V01, [docker("gguf.v3", weights)], {"format": "gguf", "pickles": True}
    ).enter(planner.store, "told")
    Artifact(Dialect.DOCKER_V01, [docker("gguf.v3", weights), docker("dir.tar", hidden)]).enter(
        planner.store, "hidden"
    )
    allowing = replace(planner, settings=planner.settings.model_copy(update={"allow_pickle": True}))
    for name in ("told", "hidden"):
        with pytest.raises(Unsupported, match=f"weights of {name} are pickles") as caught:
            _order(planner, name)
        assert "allow_pickle: true" in caught.value.hint
        assert _order(allowing, name).context_size == TRAINED


def test_pickles_that_no_engine_serves_are_refused_for_that(planner: Planner) -> None:
    parts = [cncf("weight.v1.raw", pickle.dumps({"a": 1}), "pytorch_model.bin")]
    config = {"config": {"format": "pytorch"}}
    Artifact(Dialect.MODELPACK, parts, config).enter(planner.store, "torch")
    with pytest.raises(NoEngineFits, match="the model is pytorch") as caught:
        _order(planner, "torch")
    assert "allow_pickle" not in caught.value.hint


def test_a_pickle_that_no_engine_sees_keeps_no_model_out(planner: Planner) -> None:
    parts = [
        docker("gguf.v3", gguf_path().read_bytes()),
        Part("text/plain", pickle.dumps({"a": 1}), "pytorch_model.bin"),
    ]
    Artifact(Dialect.DOCKER_V01, parts).enter(planner.store, "beside")
    assert _order(planner, "beside").context_size == TRAINED


def test_files_in_folders_are_named_as_the_engine_sees_them(planner: Planner) -> None:
    """Of a model whose config does not even say its format."""
    parts = [
        cncf("weight.v1.tar", tar(("deep/down/m.gguf", gguf_path().read_bytes()))),
        cncf("weight.config.v1.raw", b"{{ m }}", "deep/chat.jinja"),
    ]
    Artifact(Dialect.MODELPACK, parts, {}).enter(planner.store, "packed")
    spec = _spec(planner, "packed")
    assert _value(spec, "--model") == str(spec.folders.model / "deep/down/m.gguf")
    assert _value(spec, "--chat-template-file") == str(spec.folders.model / "deep/chat.jinja")
    unpacked = gguf_path().stat().st_size + len(b"{{ m }}")
    assert spec.memory_bytes == unpacked * 6 // 5 + GIB + TRAINED * KV_BYTES_PER_TOKEN


def test_an_adapter_answers_nothing_alone(planner: Planner, tmp_path: Path) -> None:
    path = tmp_path / "lora.gguf"
    path.write_bytes(gguf({**LLAMA, "general.type": (STRING, "adapter")}))
    package(planner.store, PackageOrder(parse("lora"), lora=path, base="ai/base"))
    with pytest.raises(Unsupported, match="lora is an adapter"):
        _order(planner, "lora")


def test_the_users_flags_come_last(planner: Planner, binary: Path) -> None:
    flags = ("--threads", "1")
    planner = replace(planner, settings=_settings(binary=binary, flags=flags))
    assert _spec(planner).command.arguments[-2:] == flags


@pytest.mark.parametrize("name", ["demo:1", "team/demo:1", "registry.example/team/demo:1"])
def test_the_default_registry_completes_names(planner: Planner, name: str) -> None:
    long = "registry.example/team/demo:1"
    model = _package(planner, long, Quantization.Q8_0)
    store = ModelStore(
        planner.store.root, Defaults(registry="registry.example", organisation="team")
    )
    order = _order(replace(planner, store=store), name)
    assert order.key.model == model.id
    assert order.reference == name
    if name != long:
        with pytest.raises(ModelNotFound):
            _order(planner, name)


def test_the_stamp_changes_with_models_and_installs(planner: Planner) -> None:
    stamps = [planner.stamp()]
    assert planner.stamp() == stamps[0]
    _package(planner, "localhost:5000/other:1", Quantization.Q8_0)
    stamps.append(planner.stamp())
    planner.state.record(CPU)
    stamps.append(planner.stamp())
    planner.store.remove(MODEL)
    stamps.append(planner.stamp())
    assert len(set(stamps)) == 4


def test_an_engine_that_this_version_cannot_start_is_refused(planner: Planner) -> None:
    with pytest.raises(EngineNotInstalled, match="vllm can't be started by this version"):
        planner.order("vllm", MODEL, Mode.COMPLETION)


@dataclass(frozen=True)
class _GgufEngine:
    name: str
    formats: frozenset[ModelFormat] = frozenset({ModelFormat.GGUF})
    modes: frozenset[Mode] = frozenset(Mode)
    health_path: str = "/health"
    own_flags: frozenset[str] = frozenset()

    def command(self, plan: Plan) -> Command:
        return Command(())

    def hint(self, log: object) -> str:
        return ""


ENGINES = {name: _GgufEngine(name) for name in ("llama.cpp", "vllm")}
NATIVE = {name: NativeProgram((name,), "1") for name in ENGINES}


@pytest.mark.parametrize(
    ("preference", "wanted", "native", "chosen"),
    [
        ((), None, NATIVE, "llama.cpp"),
        (("llama.cpp", "vllm"), None, NATIVE, "llama.cpp"),
        (("vllm", "llama.cpp"), None, NATIVE, "vllm"),
        (("vllm",), None, NATIVE, "vllm"),
        (("sglang", "vllm"), None, NATIVE, "vllm"),
        (("vllm",), None, {"llama.cpp": NATIVE["llama.cpp"]}, "llama.cpp"),
        (("vllm",), "llama.cpp", NATIVE, "llama.cpp"),
    ],
)
def test_engines_are_tried_in_the_users_order(
    preference: tuple[str, ...],
    wanted: str | None,
    native: Mapping[str, NativeProgram],
    chosen: str,
) -> None:
    choice = choose(
        ENGINES,
        Offer((), native, is_mac=False),
        Settings(preference=preference),
        wanted=wanted,
        model_format=ModelFormat.GGUF,
        mode=Mode.COMPLETION,
    )
    assert choice.engine.name == chosen
