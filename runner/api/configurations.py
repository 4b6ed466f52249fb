"""Keeps what is configured for models: judged first, then written, all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.api.presence import Presence
from runner.api.services import Services
from runner.engines.base import Engine
from runner.engines.configured import Configured, configured_json, from_document, to_document
from runner.engines.configured_models import Subject, subject
from runner.engines.environment import Fate, shown
from runner.engines.meanings import reader_of, stacked
from runner.engines.registered import Engines
from runner.engines.templates import Templates, is_template
from runner.scheduler.configuring import Asked, Effect, Outcome, World, configured
from runner.settings import Settings
from runner.state import State
from runner.store.store import ModelStore


@dataclass(frozen=True, slots=True)
class Done:
    """`outcomes` are by engine, "" for any."""

    subject: Subject
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class Configurations:
    """Blocking."""

    store: ModelStore
    state: State
    engines: Engines
    settings: Settings
    templates: Templates
    presence: Presence

    @classmethod
    def of(cls, here: Services) -> Configurations:
        configuration = here.configuration
        templates = Templates(configuration.home.root / "templates")
        presence = Presence(here.store, here.host, here.engines)
        settings = configuration.settings
        return cls(here.store, here.state, here.engines, settings, templates, presence)

    def configure(self, model: str, asked: Mapping[str, Asked]) -> Done:
        """Keeps what is asked for, by engine ("" for any), once all of it is known to be good.

        A chat template is given as its text. Raises BadInput, BadReference, EngineNotFound,
        Unavailable; ModelNotFound for an ID.
        """
        texts = [text for one in asked.values() for text in _templates(one)]
        asked = {engine: self._named(one) for engine, one in asked.items()}
        about = subject(self.store, model)
        for engine in filter(None, asked):
            self.engines.named(engine)
        documents = self._documents(about.name)
        outcomes = {
            engine: self._judged(about, engine, one, documents) for engine, one in asked.items()
        }
        self.templates.mark(self._naming())
        for text in texts:
            self.templates.keep(text)
        kept = {engine: self._keep(about, engine, one) for engine, one in asked.items()}
        self.templates.prune(self._naming())
        return Done(about, {name: replace(outcomes[name], kept=kept[name]) for name in outcomes})

    def _judged(
        self, about: Subject, engine: str, asked: Asked, documents: Mapping[str, str]
    ) -> Outcome:
        before = Configured() if asked.reset else from_document(documents.get(engine, ""))
        world = self._world(about, engine, {} if asked.reset else documents)
        outcome = configured(asked, before, world)
        self.presence.check(before, outcome)
        return outcome

    def _naming(self) -> tuple[str, ...]:
        """All texts that may name a template: what is configured for any model, and the settings,
        where an operator may have written the name of a file that was kept."""
        options = [str(backend.options) for backend in self.settings.backends.values()]
        return (*self.state.configurations().values(), *options)

    def _named(self, asked: Asked) -> Asked:
        """With the file that a chat template is kept in, in place of its text."""

        def kept(name: str, value: object) -> object:
            is_text = value is not None and is_template(name)
            return str(self.templates.place(value)) if is_text else value

        return replace(asked, values={name: kept(name, one) for name, one in asked.values.items()})

    def _keep(self, about: Subject, engine: str, asked: Asked) -> Configured:
        """Again what was judged before, on what is stored now: others may write meanwhile."""
        documents = self._documents(about.name)
        others = {} if asked.reset else documents
        if asked.reset and not engine:
            for name in documents:
                self.state.configure(about.name, name, lambda _: "")

        def change(document: str) -> str:
            before = Configured() if asked.reset else from_document(document)
            return to_document(configured(asked, before, self._world(about, engine, others)).kept)

        return from_document(self.state.configure(about.name, engine, change))

    def _documents(self, model: str) -> dict[str, str]:
        """Of this very name, by engine."""
        stored = self.state.configurations()
        return {engine: text for (name, engine), text in stored.items() if name == model}

    def _world(self, about: Subject, engine: str, documents: Mapping[str, str]) -> World:
        others = {name: text for name, text in documents.items() if name != engine}

        def merged(name: str, kept: Configured) -> Configured:
            """What is set for an engine goes before what is set for any."""
            rows = {**{one: from_document(text) for one, text in others.items()}, engine: kept}
            reader = reader_of(self.engines[name], self.settings.backend(name))
            return stacked([rows[one] for one in (name, "") if one in rows], (reader,))

        return World(self._serving(about, engine), self.settings.backend, merged)

    def _serving(self, about: Subject, engine: str) -> tuple[Engine, ...]:
        """The engines that the change counts for: those that read the model, where it is known."""
        if engine:
            return (self.engines.named(engine),)
        everyone = tuple(self.engines.values())
        if about.model is None:
            return everyone
        wanted = about.model.config.format
        return tuple(one for one in everyone if wanted in one.description.formats) or everyone


def _templates(asked: Asked) -> Iterator[object]:
    yield from (
        value for name, value in asked.values.items() if value is not None and is_template(name)
    )


def outcome_json(done: Done) -> dict[str, Any]:
    """What is kept, by engine; `effects` tell of each engine that would serve."""
    return {
        "model": done.subject.name,
        "in_store": done.subject.model is not None,
        "configured": [
            {
                "backend": engine,
                **configured_json(outcome.kept),
                "environment": dict(shown(outcome.kept.environment)),
                "messages": list(outcome.messages),
                "effects": [_effect_json(effect) for effect in outcome.effects],
            }
            for engine, outcome in done.outcomes.items()
        ],
    }


def _effect_json(effect: Effect) -> dict[str, Any]:
    settled, problem = effect.settled, effect.problem
    return {
        "backend": effect.engine,
        "serves": effect.serves,
        "flags": list(settled.flags) if settled else [],
        "environment": [fate_json(fate) for fate in settled.fates] if settled else [],
        "messages": list(settled.messages) if settled else [],
        "lacks": list(effect.lacks),
        "problem": problem.message if problem else "",
        "hint": problem.hint if problem else "",
    }


def fate_json(fate: Fate) -> dict[str, str]:
    """What became of one of the user's variables, for programs and as a sentence."""
    return {
        "name": fate.name,
        "outcome": fate.outcome,
        "value": fate.value,
        "reason": fate.reason,
        "text": str(fate),
    }
