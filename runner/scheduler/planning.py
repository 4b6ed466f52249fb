"""From a request's words to an order: which instance it needs, and all that its start takes.

Reads the store, the installs and the settings; blocking, so the loop calls it in a thread.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runner.artifacts.media import ModelFormat
from runner.engines.base import Engine, Mode, Plan
from runner.engines.native import native_program
from runner.engines.registered import ENGINES, engine_named
from runner.engines.selection import Choice, Offer, choose
from runner.errors import BadSettings, ModelNotFound, Unsupported
from runner.hardware.host import HostFacts
from runner.home import Home
from runner.launch.base import Folders, Identity, InstanceSpec, Launcher, LauncherKind
from runner.scheduler.core import Key
from runner.scheduler.memory import context_size, memory_limit
from runner.settings import Settings
from runner.state import State
from runner.store.bundles import Bundle
from runner.store.store import ModelStore, StoredModel
from runner.weights.gguf import GgufInfo, kv_bytes, read_gguf


@dataclass(frozen=True, slots=True)
class Order:
    """An instance that a request needs. `reference` is the model's name as it was asked for."""

    key: Key
    choice: Choice
    model: StoredModel
    reference: str
    context_size: int
    kv_bytes: int
    flags: tuple[str, ...]

    @property
    def launcher(self) -> LauncherKind:
        return LauncherKind.DOCKER if self.choice.install else LauncherKind.PROCESS


@dataclass(frozen=True, slots=True)
class Planner:
    home: Home
    settings: Settings
    store: ModelStore
    state: State
    host: HostFacts

    def stamp(self) -> tuple[object, ...]:
        """Changes when an order may come out otherwise: models or installs have changed."""
        return (self.store.generation(), _changed_at(self.home.state_file))

    def order(self, engine: str | None, model: str, mode: Mode) -> Order:
        """Raises ModelNotFound, EngineNotInstalled, NoEngineFits, BadModelFile, Unsupported for
        weights that may run code while nobody has allowed it."""
        if engine is not None:
            engine_named(engine)
        found = self._stored(model)
        chosen = choose(
            ENGINES,
            self._offer(),
            self.settings,
            wanted=engine,
            model_format=self._format(found),
            mode=mode,
        )
        self._check_pickles(model, found.config.pickles)
        return self._order(chosen, found, model, mode)

    def _stored(self, model: str) -> StoredModel:
        """Raises ModelNotFound that says how to get it."""
        try:
            return self.store.get(model)
        except ModelNotFound as error:
            error.hint += f"; `runner pull {model}` fetches a model"
            raise

    def spec(self, order: Order, instance: str, launcher: Launcher) -> InstanceSpec:
        """Everything the launcher needs, with paths as the engine sees them."""
        bundle = self.store.bundle(order.model.id)
        folders = self._folders(order, instance, bundle)
        view = launcher.view(folders)
        template = bundle.chat_template
        plan = Plan(
            model_file=_seen(view.model, bundle, bundle.model_file),
            listen=view.listen,
            context_size=order.context_size,
            names=_names(order),
            mode=order.key.mode,
            chat_template=_seen(view.model, bundle, template) if template else None,
            flags=order.flags,
        )
        return InstanceSpec(
            identity=self.identity(order, instance),
            program=_program(order.choice),
            command=order.choice.engine.command(plan),
            folders=folders,
            memory_bytes=memory_limit(bundle.size, order.kv_bytes),
        )

    def forget(self, instance: str) -> None:
        """Takes away the folder of an instance that has ended, however it ended."""
        shutil.rmtree(self.home.instance(instance), ignore_errors=True)

    def forget_strays(self, used: Collection[str], *, all_seen: bool) -> None:
        """The same for all that ended with a daemon that was killed.

        Where not all launchers could look, a container may still run: nothing is taken away,
        unless no image was ever installed.
        """
        if not all_seen and self.state.installs():
            return
        for name in self.home.left_instances():
            if name not in used:
                self.forget(name)

    def _offer(self) -> Offer:
        installs = self.state.installs()
        native = {
            name: program
            for name in ENGINES
            if (program := native_program(name, self.settings.backend(name))) is not None
        }
        return Offer(installs, native, self.host.is_mac)

    def _order(self, choice: Choice, model: StoredModel, reference: str, mode: Mode) -> Order:
        backend = self.settings.backend(choice.engine.name)
        _refuse_own_flags(choice.engine, backend.flags)
        bundle = self.store.bundle(model.id)
        self._check_pickles(reference, bundle.pickles)
        info = read_gguf(bundle.model_file)
        _refuse_adapter(reference, info)
        context = context_size(
            wanted=backend.context_size,
            trained=model.config.context_size or info.context_length,
            kv_bytes_per_token=kv_bytes(info, 1),
            memory=self.host.memory,
        )
        return Order(
            key=Key(
                choice.engine.name,
                choice.variant,
                model.id,
                mode,
                _configuration(choice, context, backend.flags),
            ),
            choice=choice,
            model=model,
            reference=reference,
            context_size=context,
            kv_bytes=kv_bytes(info, context),
            flags=backend.flags,
        )

    def _format(self, model: StoredModel) -> ModelFormat:
        """As the files show it, where the config says nothing and archives hide them."""
        stated = model.config.format
        return self.store.bundle(model.id).format if stated is ModelFormat.OTHER else stated

    def _check_pickles(self, reference: str, pickles: bool) -> None:
        if pickles and not self.settings.allow_pickle:
            raise Unsupported(
                f"the weights of {reference} are pickles, which run code when they are loaded",
                hint="ask for it as safetensors or GGUF; if you trust its maker, set allow_pickle:"
                " true in the settings",
            )

    def identity(self, order: Order, instance: str) -> Identity:
        return Identity(
            instance=instance,
            engine=order.key.engine,
            variant=order.key.variant,
            version=order.choice.version,
            model=order.model.id,
            reference=order.reference,
            mode=order.key.mode,
            configuration=order.key.configuration,
            context_size=order.context_size,
        )

    def _folders(self, order: Order, instance: str, bundle: Bundle) -> Folders:
        return Folders(
            model=bundle.folder,
            run=self.home.instance(instance),
            cache=self.home.cache(_variant_digest(order.choice), order.model.id),
        )


def _refuse_own_flags(engine: Engine, flags: tuple[str, ...]) -> None:
    """Raises BadSettings for a flag that is the runner's to set."""
    for flag in flags:
        if flag.partition("=")[0] in engine.own_flags:
            raise BadSettings(
                f"backends.{engine.name}.flags: {flag} is set by the runner itself",
                hint="take it out of the settings (the context has a setting, `context_size`)",
            )


def _refuse_adapter(reference: str, info: GgufInfo) -> None:
    if info.text("general.type") == "adapter":
        raise Unsupported(
            f"{reference} is an adapter, which answers nothing without the model it was made for",
            hint="load that model: `runner inspect` names it as the base",
        )


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _variant_digest(choice: Choice) -> str:
    """What an engine compiled is good for this very program alone."""
    if choice.install is not None:
        return choice.install.config_digest
    return hashlib.sha256(f"{choice.engine.name} {choice.version}".encode()).hexdigest()


def _configuration(choice: Choice, context: int, flags: tuple[str, ...]) -> str:
    facts: Mapping[str, object] = {
        "program": _variant_digest(choice),
        "context_size": context,
        "flags": flags,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _program(choice: Choice) -> tuple[str, ...]:
    if choice.install is not None:
        return (choice.install.image,)
    assert choice.program is not None
    return tuple(choice.program.program)


def _names(order: Order) -> tuple[str, ...]:
    """The name asked for first: engines report it in their answers."""
    return tuple(dict.fromkeys((order.reference, *order.model.tags)))


def _seen(folder: str, bundle: Bundle, file: Path) -> PurePosixPath:
    """A bundle's file as the engine sees it, which sees the bundle at `folder`."""
    return PurePosixPath(folder) / file.relative_to(bundle.folder)
