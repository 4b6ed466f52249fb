"""The life of an engine image here: pulled or built, recorded, removed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from runner.dockerhost import DockerHost, ImageFacts
from runner.engines.catalog import (
    LABEL_ENGINE,
    LABEL_VARIANT,
    LABEL_VERSION,
    Variant,
    catalog,
    variant_for,
)
from runner.errors import EngineNotInstalled, NotFound, RunnerError, Unsupported
from runner.installs.build import Report, build
from runner.names import Accelerator
from runner.settings import Settings
from runner.state import Install, State

BUILT = "built"
OWN_REPOSITORY = "runner"
"""Where built images are named, on this host alone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`fresh` is False where the very image was here and recorded already."""

    install: Install
    fresh: bool


class Installer:
    """Blocking; the daemon calls it in threads."""

    def __init__(self, docker: DockerHost, state: State, settings: Settings, home_id: str) -> None:
        self._docker = docker
        self._state = state
        self._settings = settings
        self._home_id = home_id
        self._one_at_a_time = threading.Lock()

    def install(
        self,
        engine: str,
        gpu: Accelerator | None,
        report: Report,
        cancelled: threading.Event,
        *,
        force: bool = False,
    ) -> Outcome:
        """Makes a variant ready for use; `gpu` None picks what this host has.

        One job at a time: two builds at once would only slow each other down.

        Raises EngineNotInstalled, DockerUnavailable, Unsupported, BuildFailed, and Unavailable
        where a build is given up because `cancelled` was set.
        """
        with self._one_at_a_time:
            return self._install(engine, gpu, report, cancelled, force)

    def _install(
        self,
        engine: str,
        gpu: Accelerator | None,
        report: Report,
        cancelled: threading.Event,
        force: bool,
    ) -> Outcome:
        variant = self._best(engine, report) if gpu is None else variant_for(engine, gpu)
        facts = self._docker.facts()
        known = self._recorded(variant)
        if known is not None and not force:
            return Outcome(known, fresh=False)
        report(f"installing {variant.label} {variant.version} on Docker {facts.version}")
        install = self._pulled(variant, report) or self._built(variant, report, cancelled)
        self._state.record(install)
        return Outcome(install, fresh=True)

    def leaving(self, engine: str, gpu: Accelerator | None = None) -> Sequence[Install]:
        """What an uninstall would take away; raises EngineNotInstalled."""
        leaving = [
            install
            for install in self._state.installs()
            if install.engine == engine and (gpu is None or install.variant.startswith(gpu))
        ]
        if not leaving:
            what = engine if gpu is None else f"{engine} for {gpu}"
            raise EngineNotInstalled(f"{what} is not installed", hint="see `runner status`")
        return leaving

    def uninstall(self, install: Install) -> None:
        """Forgets it, and takes its image away unless others use that."""
        self._remove(install)
        self._state.forget(install.engine, install.variant)

    def missing(self, install: Install) -> bool:
        """Whether Docker has lost the image behind a record."""
        return not self._docker.has_image(install.image)

    def _remove(self, install: Install) -> None:
        """Takes away the name it was installed under; names that others gave the image stay."""
        facts = self._docker.inspect_image(install.image)
        if facts is None:
            return
        name = install.source
        if name == BUILT:
            name = self._own_name(install.engine, install.version, install.variant)
        if name in facts.tags:
            self._docker.remove_image(name)
        elif not facts.tags:
            self._docker.remove_image(install.image)

    def _own_name(self, engine: str, version: str, variant: str) -> str:
        """Each home has its own name for an image: uninstalling in one leaves the others' alone."""
        return f"{OWN_REPOSITORY}/{engine}:{version}-{variant}-{self._home_id}"

    def _best(self, engine: str, report: Report) -> Variant:
        """What `--gpu auto` means today: only CPU variants ship, and it says so."""
        there = [variant for variant in catalog() if variant.engine == engine]
        if not there:
            return variant_for(engine, Accelerator.CPU)
        best = min(there, key=lambda variant: variant.accelerator is not Accelerator.CPU)
        report(f"--gpu auto: {best.label}, the one that runs on every host")
        return best

    def _recorded(self, variant: Variant) -> Install | None:
        """The record of this very version, if Docker still has its image."""
        for install in self._state.installs():
            if (install.engine, install.variant) != (variant.engine, variant.name):
                continue
            if install.version == variant.version and not self.missing(install):
                return install
        return None

    def _pulled(self, variant: Variant, report: Report) -> Install | None:
        if not self._settings.image_registry:
            return None
        source = f"{self._settings.image_registry.rstrip('/')}/{_repository(variant)}"
        report(f"pulling {source}")
        try:
            facts = self._docker.pull_image(source, report)
        except NotFound:
            report(f"{source} is not there: building the shipped Dockerfile instead")
            return None
        return _record(variant, facts, source)

    def _built(self, variant: Variant, report: Report, cancelled: threading.Event) -> Install:
        tag = self._own_name(variant.engine, variant.version, variant.name)
        build(variant.folder, tag, self._settings, self._docker.url, report, cancelled)
        facts = self._docker.inspect_image(tag)
        if facts is None:
            raise RunnerError(f"{tag} was built, but Docker does not have it", hint="try again")
        return _record(variant, facts, BUILT)


def _repository(variant: Variant) -> str:
    return f"{variant.engine}:{variant.version}-{variant.name}"


def _record(variant: Variant, facts: ImageFacts, source: str) -> Install:
    expected = {
        LABEL_ENGINE: variant.engine,
        LABEL_VARIANT: variant.name,
        LABEL_VERSION: variant.version,
    }
    for label, value in expected.items():
        if facts.labels.get(label) != value:
            raise Unsupported(
                f"the image says {label}={facts.labels.get(label, '')!r}, not {value!r}",
                hint="is `image_registry` one for this version of runner?",
            )
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
