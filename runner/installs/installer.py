"""The life of an engine variant here: pulled, built or made, recorded, removed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.configuration import Configuration
from runner.dockerhost import DockerHost, ImageFacts
from runner.engines.base import Engine
from runner.engines.candidate import Candidate
from runner.engines.description import Form, Origin, Variant
from runner.engines.manifest import MANIFEST, disagreements, labels_of
from runner.engines.offer import candidates
from runner.engines.recommendation import recommended
from runner.engines.registered import Engines
from runner.engines.unknown_names import no_engine
from runner.errors import (
    BadInput,
    NoEngineFits,
    NotFound,
    RunnerError,
    Unavailable,
    Unsupported,
)
from runner.hardware.host import HostFacts
from runner.installs.build import NO_LABELS, Report, build
from runner.installs.content import LABEL as CONTENT
from runner.installs.content import content_key
from runner.installs.environments import Environments, lock_digest
from runner.installs.refusals import nothing_leaves
from runner.installs.wanted import Wanted
from runner.names import Accelerator, accelerator_named
from runner.state import Install, InstallKind, State

BUILT = "built"
OWN_REPOSITORY = "runner"
"""Where built images are named, on this host alone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`fresh` is False where the very variant was here and recorded already."""

    install: Install
    fresh: bool


class Installer:
    """Blocking; the daemon calls it in threads."""

    def __init__(
        self,
        docker: DockerHost,
        configuration: Configuration,
        state: State,
        engines: Engines,
        host: Callable[[], HostFacts],
    ) -> None:
        self._docker = docker
        self._settings = configuration.settings
        self._home_id = configuration.home.identity
        self._state = state
        self._engines = engines
        self._host = host
        self._environments = Environments(configuration.home.environments, self._settings)
        self._one_at_a_time = threading.Lock()

    def install(
        self,
        engine: str,
        gpu: Accelerator | None,
        report: Report,
        cancelled: threading.Event,
        *,
        variant: str = "",
        version: str = "",
        force: bool = False,
    ) -> Outcome:
        """Makes a variant ready for use: the one of this name, else `gpu`'s, else the best for
        this host.

        One job at a time: two builds at once would only slow each other down.

        Raises EngineNotFound, EngineNotInstalled, NoEngineFits where this host can't run it,
        BadInput for a version that does not ship, DockerUnavailable, Unsupported, BuildFailed,
        and Unavailable where it is given up because `cancelled` was set.
        """
        chosen = self._chosen(self._engines.named(engine), gpu, variant, report)
        _check_version(chosen, version)
        with self._one_at_a_time:
            _go_on(cancelled)
            known = self._recorded(chosen)
            if known is not None and not force:
                return Outcome(known, fresh=False)
            report(f"installing {chosen.label} {chosen.version}")
            install = self._made(chosen, report, cancelled, force)
            replaced = self._replaced_by(install)
            self._state.record(install)
            self._clear(replaced, report)
            return Outcome(install, fresh=True)

    def leaving(
        self, engine: str, gpu: Accelerator | None = None, variant: str = ""
    ) -> Sequence[Install]:
        """What an uninstall would take away: whatever is recorded, also of an engine or a variant
        that there is no more.

        Raises EngineNotFound and BadInput with the nearest name, Unsupported for what was never
        installed, EngineNotInstalled.
        """
        recorded = self._state.installs()
        own = [install for install in recorded if install.engine == engine]
        leaving = [
            install
            for install in own
            if (gpu is None or self._accelerator(install) is gpu)
            and variant in ("", install.variant)
        ]
        if leaving:
            return leaving
        known = {*self._engines, *(install.engine for install in recorded)}
        if engine not in known:
            raise no_engine(engine, sorted(known))
        backend = self._settings.backend(engine)
        offered = self._offered(engine, own)
        raise nothing_leaves(Wanted(engine, gpu, variant), offered, own, backend.binary)

    def uninstall(self, install: Install) -> None:
        """Forgets it, and takes its image or environment away unless others use that.

        Forgotten first: requests that come meanwhile shall choose another engine. What can't be
        taken away is known again.
        """
        self._state.forget(install)
        try:
            if install.kind is InstallKind.ENVIRONMENT:
                self._environments.remove(Path(install.image))
            else:
                self._remove(install)
        except RunnerError:
            self._state.record(install)
            raise

    def missing(self, install: Install) -> bool:
        """Whether what was recorded has been taken away behind our back."""
        if install.kind is InstallKind.ENVIRONMENT:
            return not Path(install.image).is_file()
        return not self._docker.has_image(install.image)

    def _replaced_by(self, install: Install) -> Install | None:
        """The record of another environment of the same variant, such as one of an older lock."""
        for one in self._state.installs():
            if (one.engine, one.variant) == (install.engine, install.variant):
                other = one.image != install.image and one.kind is InstallKind.ENVIRONMENT
                return one if other else None
        return None

    def _clear(self, replaced: Install | None, report: Report) -> None:
        """The new install counts, whether or not the old one can be taken away."""
        if replaced is None:
            return
        try:
            gone = self._environments.discard(Path(replaced.image))
        except RunnerError as error:
            report(f"the environment before it is left: {error.message}")
        else:
            if not gone:
                report(f"the environment before it is left, it may be in use: {replaced.image}")

    def _offered(self, engine: str, installs: Sequence[Install]) -> Sequence[Candidate]:
        only = {name: one for name, one in self._engines.items() if name == engine}
        return candidates(only, installs, self._settings, self._host())

    def _accelerator(self, install: Install) -> Accelerator | None:
        """Of a variant that there is no more only its name can tell."""
        engine = self._engines.get(install.engine)
        variant = engine.description.variant(install.variant) if engine else None
        return variant.accelerator if variant else accelerator_named(install.variant)

    def _chosen(
        self, engine: Engine, gpu: Accelerator | None, variant: str, report: Report
    ) -> Variant:
        """Says what `--gpu auto` came to, and why nothing quicker."""
        host = self._host()
        try:
            found = recommended(engine, host, gpu, variant)
        except NoEngineFits:
            forms = {one.form for one in engine.description.variants}
            if host.docker is None and Form.IMAGE in forms:
                self._docker.facts()  # raises DockerUnavailable, which knows the next step
            raise
        if gpu is None and not variant:
            for verdict in found.passed_over:
                report(f"--gpu auto: not {verdict}")
            report(f"--gpu auto: {found.variant.label} suits this host best")
        return found.variant

    def _recorded(self, variant: Variant) -> Install | None:
        """The record of this very version, if it is still there."""
        for install in self._state.installs():
            if (install.engine, install.variant) != (variant.engine, variant.name):
                continue
            if install.version == variant.version and self._is_current(install, variant):
                return install
        return None

    def _is_current(self, install: Install, variant: Variant) -> bool:
        """Whether it is still there, and what would be built or made now is the same."""
        if self.missing(install):
            return False
        if install.kind is InstallKind.ENVIRONMENT:
            return install.config_digest == lock_digest(variant)
        if variant.image:
            return install.source == variant.image
        if install.source != BUILT:
            return True
        facts = self._docker.inspect_image(install.image)
        return facts is not None and facts.labels.get(CONTENT) == self._content(variant)

    def _made(
        self, variant: Variant, report: Report, cancelled: threading.Event, force: bool
    ) -> Install:
        if variant.form is Form.ENVIRONMENT:
            return self._environment(variant, report, cancelled, force)
        if variant.form is Form.CODE:
            raise BadInput(f"{variant.label} runs by itself: there is nothing to install")
        if variant.image:
            return self._ready_image(variant, report, cancelled)
        pulled = self._pulled(variant, report, cancelled)
        return pulled or self._built(variant, report, cancelled, force)

    def _environment(
        self, variant: Variant, report: Report, cancelled: threading.Event, force: bool
    ) -> Install:
        made = self._environments.make(variant, report, cancelled, force=force)
        return Install(
            engine=variant.engine,
            variant=variant.name,
            version=variant.version,
            image=str(made.python),
            manifest_digest="",
            config_digest=made.lock_digest,
            diff_ids=(),
            source=BUILT,
            size=made.size,
            installed_at=int(time.time()),
            kind=InstallKind.ENVIRONMENT,
        )

    def _ready_image(self, variant: Variant, report: Report, cancelled: threading.Event) -> Install:
        """An image that the user names: here already, else pulled. Its user vouches for it."""
        facts = self._docker.inspect_image(variant.image)
        if facts is None:
            report(f"pulling {variant.image}")
            facts = self._docker.pull_image(variant.image, report, cancelled)
        return _record(variant, facts, variant.image)

    def _pulled(
        self, variant: Variant, report: Report, cancelled: threading.Event
    ) -> Install | None:
        """From the registry that the settings name: it has those that ship, and no others."""
        about = self._engines.named(variant.engine).description
        if not self._settings.image_registry or about.origin is not Origin.BUILT_IN:
            return None
        name = _repository(variant.engine, variant.version, variant.name)
        source = f"{self._settings.image_registry.rstrip('/')}/{name}"
        report(f"pulling {source}")
        try:
            facts = self._docker.pull_image(source, report, cancelled)
        except NotFound:
            report(f"{source} is not there: building the shipped Dockerfile instead")
            return None
        return self._verified(variant, facts, source)

    def _built(
        self, variant: Variant, report: Report, cancelled: threading.Event, force: bool
    ) -> Install:
        tag = self._own_name(variant.engine, variant.version, variant.name)
        same = self._docker.find_image(CONTENT, self._content(variant), _built_as(variant))
        if same is not None and not force:
            report("an image of the same content is here already")
            self._docker.tag_image(same, tag)
        else:
            report(f"building it on Docker {self._docker.facts().version}")
            labels = self._labels(variant)
            build(variant, tag, self._settings, self._docker.url, report, cancelled, labels)
        facts = self._docker.inspect_image(tag)
        if facts is None:
            raise RunnerError(f"{tag} was built, but Docker does not have it", hint="try again")
        return self._verified(variant, facts, BUILT)

    def _content(self, variant: Variant) -> str:
        return content_key(variant, self._settings.build_contexts)

    def _labels(self, variant: Variant) -> Mapping[str, str]:
        """A user's own Dockerfile need not know the runner's labels: the build adds them."""
        about = self._engines.named(variant.engine).description
        if about.origin is Origin.BUILT_IN:
            return NO_LABELS
        return {name: text for name, text in labels_of(about, variant).items() if text}

    def _verified(self, variant: Variant, facts: ImageFacts, source: str) -> Install:
        """Raises Unsupported for an image that is not what the catalog says."""
        about = self._engines.named(variant.engine).description
        if about.origin is Origin.BUILT_IN:
            manifest = self._docker.read_from_image(facts.id, MANIFEST)
            wrong = disagreements(about, variant, facts.labels, manifest)
            if wrong:
                raise Unsupported(
                    f"the image of {variant.label} is not what it should be: {'; '.join(wrong)}",
                    hint=f"build it anew: runner install-runner --backend {variant.engine} "
                    f"--variant {variant.name} --force"
                    if source == BUILT
                    else "is `image_registry` one for this version of runner?",
                )
        return _record(variant, facts, source)

    def _remove(self, install: Install) -> None:
        """Takes away the name it was installed under; names that others gave the image stay."""
        facts = self._docker.inspect_image(install.image)
        if facts is None:
            return
        name = install.source
        if name == BUILT:
            name = self._own_name(install.engine, install.version, install.variant)
        elif not name.endswith(f"/{_repository(install.engine, install.version, install.variant)}"):
            return  # the user's engine.yaml named it: it is not ours to remove
        if name in facts.tags:
            self._docker.remove_image(name)
        elif not facts.tags:
            self._docker.remove_image(install.image)

    def _own_name(self, engine: str, version: str, variant: str) -> str:
        """Each home has its own name for an image: uninstalling in one leaves the others' alone."""
        return f"{OWN_REPOSITORY}/{_repository(engine, version, variant)}-{self._home_id}"


def _go_on(cancelled: threading.Event) -> None:
    """Whoever asked may have gone while another install was under way."""
    if cancelled.is_set():
        raise Unavailable("the install was given up", hint="ask again")


def _check_version(variant: Variant, version: str) -> None:
    if version and version != variant.version:
        raise BadInput(
            f"{variant.label} {version} does not ship with this runner",
            hint=f"there is: {variant.version}",
        )


def _repository(engine: str, version: str, variant: str) -> str:
    """What an image is called in a registry."""
    return f"{engine}:{version}-{variant}"


def _built_as(variant: Variant) -> tuple[str, ...]:
    """What `build` names an engine's images: here, and in this project's own tests."""
    return tuple(
        f"{place}/{variant.engine}" for place in (OWN_REPOSITORY, f"{OWN_REPOSITORY}-test")
    )


def _record(variant: Variant, facts: ImageFacts, source: str) -> Install:
    return Install(
        engine=variant.engine,
        variant=variant.name,
        version=variant.version,
        image=facts.id,
        manifest_digest=facts.manifest_digest,
        config_digest=facts.config_digest,
        diff_ids=facts.diff_ids,
        source=source,
        size=facts.size,
        installed_at=int(time.time()),
    )
