"""From a request's words to an order: which instance it needs, and all that its start takes.

Reads the store, the state and the settings; blocking, so the loop calls it in a thread.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runner.artifacts.media import ModelFormat
from runner.engines.base import Mode
from runner.engines.candidate import Candidate, Wish
from runner.engines.configured import Configured, from_document
from runner.engines.gpus import given_gpus
from runner.engines.meanings import Reader, reader_of, stacked
from runner.engines.offer import candidates
from runner.engines.options import Options
from runner.engines.registered import Engines
from runner.engines.selection import Decision, Preferences, decide
from runner.errors import BadInput, ModelNotFound, RunnerError, Unsupported
from runner.hardware.host import HostFacts
from runner.home import Home
from runner.launch.base import Identity, InstanceSpec, Launcher
from runner.models.naming import model_id
from runner.models.traits import ModelTraits, read_traits
from runner.names import accelerator_named, target
from runner.scheduler.core import Key
from runner.scheduler.memory import context_size
from runner.scheduler.order import Order, configuration
from runner.scheduler.settling import settled
from runner.scheduler.start import Start, identity
from runner.settings import Settings
from runner.state import ChoiceKind, State
from runner.store.bundles import Bundle
from runner.store.store import ModelStore
from runner.store.stored import StoredModel

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A model that something is asked of: as it is stored, what its files say, what was
    configured for it (by engine), and everything that could serve it."""

    model: StoredModel
    reference: str
    bundle: Bundle
    traits: ModelTraits
    configured: Mapping[str, Configured]
    host: HostFacts
    decision: Decision


@dataclass(frozen=True, slots=True)
class Planner:
    home: Home
    settings: Settings
    store: ModelStore
    state: State
    host: Callable[[], HostFacts]
    engines: Engines

    def stamp(self) -> tuple[object, ...]:
        """Changes when an order may come out otherwise: models, installs or what was configured
        have changed."""
        return (self.store.generation(), _changed_at(self.home.state_file))

    def orders(self, engine: str | None, model: str, mode: Mode) -> tuple[Order, ...]:
        """What serves, then what takes over should that not start. `engine` is as a path names
        it (`vllm`, `vllm:cuda`), None for any.

        Raises ModelNotFound, EngineNotFound, EngineNotInstalled, NoEngineFits, BadModelFile,
        BadInput, BadSettings; Unsupported for weights that may run code while nobody allowed it.
        """
        inquiry = self.inquire(engine, model, mode)
        first = self.order(inquiry, inquiry.decision.chosen(), mode)
        return (first, *self.fallbacks(inquiry, mode))

    def inquire(self, engine: str | None, model: str, mode: Mode) -> Inquiry:
        """Everything that a decision stands on, and the decision."""
        wish = self._wish(engine, mode)
        found = self._stored(model)
        bundle = self.store.bundle(found.id)
        traits, host = read_traits(bundle), self.host()
        configured = self._configured(found, model)
        offered = candidates(
            self.engines,
            self.state.installs(),
            self.settings,
            host,
            lambda name: self._options(configured, name),
        )
        preferences = self._preferences(found, model, traits.format)
        decision = decide(offered, traits, host, wish, preferences)
        return Inquiry(found, model, bundle, traits, configured, host, decision)

    def order(self, inquiry: Inquiry, candidate: Candidate, mode: Mode) -> Order:
        """Decides all that a start needs. Raises BadInput, BadSettings for what was set,
        Unsupported for weights that may run code."""
        self._check_pickles(inquiry.reference, inquiry.model, inquiry.bundle)
        engine = candidate.engine
        wanted = inquiry.configured[candidate.name]
        native = not candidate.in_container
        done = settled(engine, self.settings.backend(candidate.name), wanted, native=native)
        options, traits = done.options, inquiry.traits
        context = context_size(
            wanted=options.context_size,
            trained=inquiry.model.config.context_size or traits.context_size,
            kv_bytes_per_token=traits.kv_bytes or 0,
            memory=inquiry.host.memory,
        )
        gpus = given_gpus(replace(candidate, options=options), inquiry.host)
        draft = self._loadable(options.draft_model) if options.draft_model else None
        adapters = tuple(self._loadable(name) for name in options.lora)
        others = [one.id for one in (*adapters, *([draft] if draft else []))]
        return Order(
            key=Key(
                candidate.name,
                candidate.variant.name,
                inquiry.model.id,
                mode,
                configuration(candidate, context, done, gpus, *others),
            ),
            candidate=candidate,
            model=inquiry.model,
            reference=inquiry.reference,
            traits=traits,
            context_size=context,
            kv_bytes=None if traits.kv_bytes is None else traits.kv_bytes * context,
            settled=done,
            gpus=gpus,
            draft=draft,
            adapters=adapters,
        )

    def spec(self, order: Order, instance: str, launcher: Launcher) -> InstanceSpec:
        """Everything the launcher needs, with paths as the engine sees them."""
        return Start(order, instance, self.home, self.store, self.host()).spec(launcher)

    def identity(self, order: Order, instance: str) -> Identity:
        return identity(order, instance)

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

    def _options(self, configured: Mapping[str, Configured], engine: str) -> Options:
        """What was set for the model and in the settings. What is wrong there is told where the
        engine is chosen: another one may serve meanwhile."""
        wanted = configured[engine]
        try:
            backend = self.settings.backend(engine)
            return settled(self.engines[engine], backend, wanted, native=True).options
        except BadInput:
            return wanted.options

    def _wish(self, engine: str | None, mode: Mode) -> Wish:
        """A path's second word is an accelerator or a variant. Raises EngineNotFound."""
        asked = target(engine or "any")
        if asked.engine:
            self.engines.named(asked.engine)
        named = accelerator_named(asked.variant)
        return Wish(asked.engine, named, "" if named else asked.variant, mode)

    def fallbacks(self, inquiry: Inquiry, mode: Mode) -> Iterator[Order]:
        """One that can't start as it was configured is left out: the first choice may serve."""
        for candidate in inquiry.decision.fallbacks:
            try:
                yield self.order(inquiry, candidate, mode)
            except RunnerError as error:
                log.warning("%s can't take over: %s", candidate.label, error.message)

    def _loadable(self, model: str) -> StoredModel:
        """One that goes with another; raises ModelNotFound, Unsupported."""
        found = self._stored(model)
        self._check_pickles(model, found, self.store.bundle(found.id))
        return found

    def _stored(self, model: str) -> StoredModel:
        """Raises ModelNotFound that says how to get it."""
        try:
            return self.store.get(model)
        except ModelNotFound as error:
            error.hint += f"; `runner pull {model}` fetches a model"
            raise

    def _configured(self, model: StoredModel, reference: str) -> Mapping[str, Configured]:
        """By engine: what was set for it, over what was set for any; either for the name that was
        asked for, over the other names."""
        stored = self.state.configurations()
        names = self._names(model, reference)

        def rows(engine: str) -> list[Configured]:
            found = (stored.get((name, engine)) for name in names)
            return [from_document(document) for document in found if document is not None]

        for_any = rows("")
        wanted = {name: [*rows(name), *for_any] for name in self.engines}
        return {
            name: stacked(found, (self._reader(name),)) if found else Configured()
            for name, found in wanted.items()
        }

    def _reader(self, engine: str) -> Reader:
        """What is wrong in the settings is told where the engine is chosen."""
        try:
            return reader_of(self.engines[engine], self.settings.backend(engine))
        except BadInput:
            return Reader(self.engines[engine].flag_rules)

    def _preferences(
        self, model: StoredModel, reference: str, model_format: ModelFormat
    ) -> Preferences:
        fallbacks = self.state.choices(ChoiceKind.FALLBACK)
        subjects = (*self._names(model, reference), model_format.value)
        named = next((fallbacks[one] for one in subjects if one in fallbacks), "")
        formats = self.state.choices(ChoiceKind.FORMAT).items()
        return Preferences(
            order=self.settings.preference,
            formats={ModelFormat(name): engine for name, engine in formats},
            variants=self.state.choices(ChoiceKind.VARIANT),
            fallbacks=tuple(name for name in named.split(",") if name),
        )

    def _names(self, model: StoredModel, reference: str) -> tuple[str, ...]:
        """All that something may be kept under for it, the name that was asked for first."""
        asked = model.id if model_id(reference) else self.store.reference(reference).long
        return tuple(dict.fromkeys((asked, *sorted(model.tags, reverse=True), model.id)))

    def _check_pickles(self, name: str, model: StoredModel, bundle: Bundle) -> None:
        """Whether its config speaks of them, or they hide in an archive."""
        pickles = model.config.pickles or bundle.pickles
        if pickles and not self.settings.allow_pickle:
            raise Unsupported(
                f"the weights of {name} are pickles, which run code when they are loaded",
                hint="ask for it as safetensors or GGUF; if you trust its maker, set allow_pickle:"
                " true in the settings",
            )


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
