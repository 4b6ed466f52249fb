"""Planners for tests: a real store and state, shipped engines, hosts that are only facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.demo import Quantization, gguf_path, huggingface_path
from runner.engines.base import Engine, Mode
from runner.engines.catalog import description_of
from runner.engines.configured import Change, from_document, to_document
from runner.engines.llamacpp import LlamaCpp
from runner.engines.registered import Engines
from runner.engines.vllm import Vllm
from runner.hardware.gpu import Gpu
from runner.hardware.host import HostFacts
from runner.home import Home
from runner.launch.base import InstanceSpec, Launcher
from runner.launch.process import ProcessLauncher
from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.registry.reference import parse
from runner.scheduler.order import Order
from runner.scheduler.planning import Planner
from runner.settings import BackendSettings, Settings
from runner.state import Install, State
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from tests.engines.stage import DOCKER, GIB, PLAIN, RTX
from tests.models.packaging import package_gguf
from tests.weights.gguf_bytes import LLAMA, STRING, gguf

MODEL = "localhost:5000/demo:1"
OTHER = "localhost:5000/other:1"
FOLDER = "localhost:5000/folder:1"
ADAPTER = "localhost:5000/adapter:1"
INSTANCE = "0123456789ab"

SHIPPED = (LlamaCpp(description_of("llama.cpp")), Vllm(description_of("vllm")))

SMALL = replace(RTX, index=0, uuid="GPU-aaaa", memory=8 * GIB)
LARGE = replace(RTX, index=1, uuid="GPU-bbbb", memory=24 * GIB)
LARGER = replace(RTX, index=2, uuid="GPU-cccc", memory=48 * GIB)


def with_gpus(*gpus: Gpu) -> HostFacts:
    """A host whose Docker Engine has a CDI device for each."""
    names = tuple(f"nvidia.com/gpu={gpu.index}" for gpu in gpus)
    return replace(PLAIN, gpus=gpus, docker=replace(DOCKER, cdi_devices=names))


def planner(
    root: Path,
    engines: Sequence[Engine] = SHIPPED,
    *,
    host: HostFacts = PLAIN,
    settings: Settings | None = None,
) -> Planner:
    home = Home(root)
    home.prepare()
    return Planner(
        home=home,
        settings=settings or Settings(),
        store=ModelStore(home.store),
        state=State(home.state_file),
        host=lambda: host,
        engines=Engines(engines),
    )


def backend(planner: Planner, engine: str, **fields: object) -> Planner:
    """With these settings of one engine, in place of what it had."""
    backends = {**planner.settings.backends, engine: BackendSettings.model_validate(fields)}
    return replace(planner, settings=planner.settings.model_copy(update={"backends": backends}))


def on(planner: Planner, host: HostFacts) -> Planner:
    return replace(planner, host=lambda: host)


def install(planner: Planner, label: str, **fields: object) -> Install:
    """Records a variant such as llama.cpp/cpu, of which nothing is there."""
    engine, _, variant = label.partition("/")
    digest = "sha256:" + "a" * 64
    plain = Install(engine, variant, "b1", f"sha256:{label}", "", digest, (), "built", 1, 1)
    recorded = replace(plain, **fields)  # type: ignore[arg-type]
    planner.state.record(recorded)
    return recorded


def package_demo(
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


def package_folder(planner: Planner, name: str = FOLDER) -> StoredModel:
    """The demo model as safetensors."""
    return package(planner.store, PackageOrder(parse(name), safetensors=huggingface_path()))


def package_adapter(planner: Planner, folder: Path, name: str = ADAPTER) -> StoredModel:
    path = folder / "lora.gguf"
    path.write_bytes(gguf({**LLAMA, "general.type": (STRING, "adapter")}))
    return package(planner.store, PackageOrder(parse(name), lora=path, base="ai/base"))


def configure(
    planner: Planner,
    model: str,
    engine: str = "",
    *,
    options: Mapping[str, Any] | None = None,
    parameters: Mapping[str, str | None] | None = None,
    flags: Sequence[str] | None = None,
    environment: Mapping[str, str | None] | None = None,
) -> None:
    """Keeps it under this very name, without a look at whether it is any good."""
    change = Change(options or {}, parameters or {}, flags, environment or {})
    planner.state.configure(
        model, engine, lambda before: to_document(change.applied(from_document(before)))
    )


def order(
    planner: Planner,
    model: str = MODEL,
    engine: str | None = None,
    mode: Mode = Mode.COMPLETION,
) -> Order:
    """The first one: what serves."""
    return planner.orders(engine, model, mode)[0]


def spec(
    planner: Planner,
    model: str = MODEL,
    engine: str | None = None,
    launcher: Launcher | None = None,
) -> InstanceSpec:
    return planner.spec(order(planner, model, engine), INSTANCE, launcher or ProcessLauncher())


def value(spec: InstanceSpec, option: str) -> str:
    """What follows an option on the engine's command line."""
    arguments = spec.command.arguments
    return arguments[arguments.index(option) + 1]
