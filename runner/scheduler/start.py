"""From an order to what a launcher is given: paths as the engine sees them, devices, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from runner.artifacts.media import ModelFormat
from runner.engines.base import Adapter, Command, Plan
from runner.engines.candidate import Candidate
from runner.engines.gpus import cuts_up
from runner.errors import BadInput
from runner.hardware.host import HostFacts
from runner.home import Home
from runner.launch.base import Folders, Identity, InstanceSpec, Launcher, View
from runner.launch.devices import NO_DEVICES, Devices, grant, grant_native
from runner.scheduler.memory import memory_limit
from runner.scheduler.order import Order, program_digest
from runner.store.bundles import Bundle
from runner.store.store import ModelStore
from runner.store.stored import StoredModel


@dataclass(frozen=True, slots=True)
class Start:
    """One start of an instance for an order."""

    order: Order
    instance: str
    home: Home
    store: ModelStore
    host: HostFacts

    def spec(self, launcher: Launcher) -> InstanceSpec:
        """Raises BadInput for a chat template that is not there, Unsupported for devices that
        can't be given, and what the engine refuses."""
        order = self.order
        about = order.candidate.engine.description
        bundle = self.store.bundle(order.model.id)
        folders = self._folders(bundle)
        view = launcher.view(folders, tcp=about.listens_on_tcp)
        plan = self._plan(bundle, folders, view)
        command = order.candidate.engine.command(plan)
        more = sum(self.store.bundle(one.id).size for one in self._others())
        return InstanceSpec(
            identity=identity(order, self.instance),
            program=_program(order.candidate),
            command=replace(command, environment=self._environment(command)),
            folders=folders,
            memory_bytes=memory_limit(bundle.size + more, order.kv_bytes, about.memory),
            listen=view.listen,
            devices=self._devices(),
            shm_size=about.shared_memory,
            locks_memory=order.settled.options.memory_lock is True,
            plan=plan,
        )

    def _environment(self, command: Command) -> Mapping[str, str]:
        """What the plan needs goes before what was set."""
        return {**self.order.settled.environment, **command.environment}

    def _others(self) -> tuple[StoredModel, ...]:
        draft = self.order.draft
        return (*([draft] if draft else []), *self.order.adapters)

    def _folders(self, bundle: Bundle) -> Folders:
        template = self._template()
        others = [self.store.bundle(one.id).folder for one in self._others()]
        return Folders(
            model=bundle.folder,
            run=self.home.instance(self.instance),
            cache=self.home.cache(program_digest(self.order.candidate), self.order.model.id),
            others=(*others, *([template] if template else [])),
        )

    def _template(self) -> Path | None:
        """The user's own chat template: the text that a client gave, as it is kept, or the file
        that the settings name."""
        named = self.order.settled.options.chat_template
        if not named:
            return None
        path = Path(named).expanduser()
        if not path.is_absolute() or not path.is_file():
            raise BadInput(
                f"chat_template: no such file: {named}",
                hint="set it anew, in the settings by its whole path",
            )
        return path

    def _plan(self, bundle: Bundle, folders: Folders, view: View) -> Plan:
        order, options = self.order, self.order.settled.options
        seen = dict(zip(folders.others, view.others, strict=True))
        model_file = _seen(view.model, bundle, bundle.model_file)
        return Plan(
            model_file=model_file,
            model_folder=model_file.parent,
            listen=view.listen,
            context_size=order.context_size,
            names=_names(order),
            kv_bytes=order.kv_bytes,
            mode=order.key.mode,
            architecture=order.traits.architecture,
            options=options,
            gpu_count=len(order.gpus),
            cache_folder=PurePosixPath(view.cache),
            chat_template=self._seen_template(bundle, view, seen),
            mmproj=_seen(view.model, bundle, bundle.mmproj) if bundle.mmproj else None,
            draft_model=self._seen_model(order.draft, seen) if order.draft else None,
            adapters=tuple(
                Adapter(name, self._seen_model(one, seen))
                for name, one in zip(options.lora, order.adapters, strict=True)
            ),
            flags=order.settled.flags,
        )

    def _seen_template(
        self, bundle: Bundle, view: View, seen: Mapping[Path, str]
    ) -> PurePosixPath | None:
        own, packaged = self._template(), bundle.chat_template
        if own:
            return PurePosixPath(seen[own])
        return _seen(view.model, bundle, packaged) if packaged else None

    def _seen_model(self, model: StoredModel, seen: Mapping[Path, str]) -> PurePosixPath:
        bundle = self.store.bundle(model.id)
        file = _seen(seen[bundle.folder], bundle, bundle.model_file)
        return file if bundle.format is ModelFormat.GGUF else file.parent

    def _devices(self) -> Devices:
        order, candidate = self.order, self.order.candidate
        if not order.gpus:
            return NO_DEVICES
        accelerator = candidate.variant.accelerator
        if not candidate.in_container:
            return grant_native(accelerator, order.gpus, self.host)
        parallel = len(order.gpus) > 1 and cuts_up(candidate.engine)
        return grant(accelerator, order.gpus, self.host, tensor_parallel=parallel)


def identity(order: Order, instance: str) -> Identity:
    return Identity(
        instance=instance,
        engine=order.key.engine,
        variant=order.key.variant,
        version=order.candidate.version,
        model=order.model.id,
        reference=order.reference,
        mode=order.key.mode,
        configuration=order.key.configuration,
        context_size=order.context_size,
    )


def _program(candidate: Candidate) -> tuple[str, ...]:
    """An image's ID or reference, or an executable with its first arguments."""
    if candidate.program is not None:
        return tuple(candidate.program.program)
    return (candidate.install.image if candidate.install else candidate.variant.image,)


def _names(order: Order) -> tuple[str, ...]:
    """The name asked for first: engines report it in their answers."""
    return tuple(dict.fromkeys((order.reference, *order.model.tags)))


def _seen(folder: str, bundle: Bundle, file: Path) -> PurePosixPath:
    """A bundle's file as the engine sees it, which sees the bundle at `folder`."""
    return PurePosixPath(folder) / file.relative_to(bundle.folder)
