"""Whether what a configuration names is there: models of the store, GPUs of this host, and the
types of an engine's cache. Else only the next start would tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runner.artifacts.artifact import parse_manifest
from runner.artifacts.media import LayerKind
from runner.engines.base import Engine
from runner.engines.cache_types import OPTIONS, wrong_cache_type
from runner.engines.configured import Configured
from runner.engines.options import Options
from runner.errors import BadInput, BadModelFile, BadReference, Conflict, ModelNotFound
from runner.hardware.devices import ALL, chosen
from runner.hardware.gpu import Gpu
from runner.hardware.host import HostFacts
from runner.models.naming import model_id
from runner.models.traits import read_traits
from runner.names import near_hint
from runner.scheduler.configuring import Effect, Outcome
from runner.store.store import ModelStore
from runner.store.stored import StoredModel

_NEAR = "did you mean "


@dataclass(frozen=True, slots=True)
class Presence:
    """Blocking. What was configured before is not judged again: models and GPUs come and go, and
    the rest of a configuration can still be changed then."""

    store: ModelStore
    host: Callable[[], HostFacts]
    engines: Mapping[str, Engine]

    def check(self, before: Configured, outcome: Outcome) -> None:
        """Raises BadInput for what the change names and is not there, with the nearest name."""
        options, changed = outcome.kept.options, _changed(before, outcome.kept)
        if "draft_model" in changed and options.draft_model:
            self._check_draft(options.draft_model)
        for name in options.lora if "lora" in changed else ():
            self._check_adapter(name)
        serving = [effect for effect in outcome.effects if effect.serves]
        if changed & {"gpus", "main_gpu"}:
            self._check_gpus(options, [self.engines[one.engine] for one in serving])
        self._check_cache(before, outcome.kept, serving)

    def _check_draft(self, name: str) -> None:
        if self._is_adapter("draft_model", name):
            raise BadInput(
                f"draft_model: {name} is an adapter, no whole model",
                hint="adapters are for `lora`; name a small model of the same kind",
            )

    def _check_adapter(self, name: str) -> None:
        if self._is_adapter("lora", name) is False:
            raise BadInput(
                f"lora: {name} is a whole model, no adapter",
                hint="name an adapter; `runner package --lora FILE` makes a model of one",
            )

    def _is_adapter(self, option: str, name: str) -> bool | None:
        """None where its files do not say. Raises BadInput for a model that is not there."""
        model = self._model(option, name)
        manifest = parse_manifest(self.store.manifest(model.id))
        if any(layer.kind is LayerKind.LORA for layer in manifest.layers):
            return True
        try:
            return read_traits(self.store.bundle(model.id)).is_adapter
        except (BadModelFile, Conflict):
            return None

    def _model(self, option: str, name: str) -> StoredModel:
        try:
            return self.store.get(name)
        except ModelNotFound as error:
            pull = "" if model_id(name) else f"; `runner pull {name}` fetches a model"
            raise BadInput(f"{option}: {error.message}", hint=error.hint + pull) from error
        except BadReference as error:
            raise BadReference(f"{option}: {error.message}", hint=error.hint) from error

    def _check_gpus(self, options: Options, engines: Sequence[Engine]) -> None:
        """One number may mean a GPU of each vendor: it has to be one that an engine can use."""
        host = self.host()
        usable = {variant.accelerator for one in engines for variant in one.description.variants}
        groups = [host.gpus_for(accelerator) for accelerator in usable]
        for word in options.gpus:
            if not any(_is_there(group, word) for group in groups):
                _refuse_missing(host, word)
        _refuse_beyond(options, max(map(len, groups), default=0))

    def _check_cache(self, before: Configured, kept: Configured, serving: Sequence[Effect]) -> None:
        """Where one of the engines that would serve can do it, the others are told of nothing."""
        changed = _changed(before, kept)
        values = {
            name: value
            for name in OPTIONS
            if name in changed and (value := getattr(kept.options, name)) is not None
        }
        is_said = (kept.flags, kept.parameters) != (before.flags, before.parameters)
        wrong = [
            wrong_cache_type(
                self.engines[one.engine],
                values,
                one.settled.flags if is_said and one.settled else (),
            )
            for one in serving
        ]
        found = [error for error in wrong if error is not None]
        if found and len(found) == len(serving):
            raise next((one for one in found if one.hint.startswith(_NEAR)), found[0])


def _changed(before: Configured, kept: Configured) -> frozenset[str]:
    """The options that are set now, and were not or otherwise."""
    old, new = before.options, kept.options
    return frozenset(name for name in new.set_fields() if getattr(new, name) != getattr(old, name))


def _is_there(gpus: Sequence[Gpu], word: str) -> bool:
    try:
        return bool(chosen(gpus, [word]))
    except BadInput:
        return False


def _refuse_missing(host: HostFacts, word: str) -> None:
    """Raises BadInput, unless it is one that only other engines can use: `explain` tells why."""
    if not host.gpus:
        raise BadInput(
            f"gpus names {word!r}, and this host has no GPU",
            hint=next(iter(host.troubles), "leave it out: the engine runs on the processor"),
        )
    try:
        chosen(host.gpus, [word])
    except BadInput as error:
        names = [name for gpu in host.gpus for name in (gpu.uuid, f"{gpu.vendor}:{gpu.index}")]
        near = near_hint(word, names, "")
        hint = near if near.startswith(_NEAR) else error.hint
        raise BadInput(f"gpus: {error.message}", hint=hint) from error


def _refuse_beyond(options: Options, there: int) -> None:
    """`main_gpu` counts among the GPUs that the engine is given."""
    given = len(options.gpus) if options.gpus and ALL not in options.gpus else there
    if options.main_gpu is not None and 0 < given <= options.main_gpu:
        raise BadInput(
            f"main_gpu is {options.main_gpu}, of {given} GPUs",
            hint=f"they are counted from 0: up to {given - 1}",
        )
