"""The life of a variant here: what is built, made or found is recorded, and removed again."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

import pytest

from runner.artifacts.media import ModelFormat
from runner.configuration import Configuration
from runner.dockerhost import DockerHost
from runner.engines.base import Engine
from runner.engines.description import Form, Origin, Requirements, Variant
from runner.engines.manifest import labels_of
from runner.engines.registered import Engines
from runner.errors import (
    BadInput,
    DockerUnavailable,
    EngineNotFound,
    EngineNotInstalled,
    NoEngineFits,
    RunnerError,
    Unavailable,
    Unsupported,
)
from runner.hardware.host import HostFacts
from runner.home import Home
from runner.installs.environments import lock_digest
from runner.installs.installer import BUILT, Installer
from runner.names import Accelerator
from runner.settings import BackendSettings, Settings
from runner.state import Install, InstallKind, State
from tests.engines.stage import NVIDIA, PLAIN, StagedEngine, engine, variant
from tests.support.images import IMAGES

NO_PACKAGES = "# An engine of the standard library alone.\n"
OLD_DRIVER = replace(NVIDIA, gpus=tuple(replace(gpu, driver="470.82.01") for gpu in NVIDIA.gpus))


@dataclass
class Desk:
    """An installer of one home, with what it has told."""

    installer: Installer
    state: State
    home: Home
    said: list[str] = field(default_factory=list)

    def install(
        self,
        gpu: Accelerator | None = None,
        *,
        engine: str = "tiny",
        variant: str = "",
        version: str = "",
        force: bool = False,
    ) -> Install | None:
        """None where nothing had to be done."""
        self.said.clear()
        done = self.installer.install(
            engine,
            gpu,
            self.said.append,
            Event(),
            variant=variant,
            version=version,
            force=force,
        )
        assert done.install in self.state.installs()
        return done.install if done.fresh else None


def desk(
    root: Path,
    *engines: Engine,
    host: HostFacts = PLAIN,
    docker: DockerHost | None = None,
    settings: Settings | None = None,
) -> Desk:
    home = Home(root)
    home.prepare()
    state = State(home.state_file)
    configuration = Configuration(home, home.config_file, settings or Settings(), {}, "test")
    installer = Installer(
        docker or DockerHost(), configuration, state, Engines(engines), lambda: host
    )
    return Desk(installer, state, home)


def tiny(*variants: Variant, origin: Origin = Origin.BUILT_IN) -> StagedEngine:
    return engine("tiny", {ModelFormat.GGUF: ("any",)}, *variants, origin=origin)


# What is chosen, and refused


def gpus() -> StagedEngine:
    """Variants that are chosen like any other, and then have nothing to install."""
    needs = Requirements("525.60.13")
    return tiny(
        variant("tiny", "cpu", Accelerator.CPU, form=Form.CODE),
        variant("tiny", "cuda", Accelerator.CUDA, form=Form.CODE, requires=needs),
    )


@pytest.mark.parametrize(
    ("wanted", "error", "said", "hint"),
    [
        ({"engine": "tinny"}, EngineNotFound, "'tinny' is not an engine", "did you mean tiny?"),
        ({"variant": "cud"}, BadInput, "tiny has no variant 'cud'", "did you mean cuda?"),
        ({"gpu": Accelerator.CUDA}, NoEngineFits, "no GPU for cuda", "nvidia-smi"),
        ({"variant": "cuda"}, NoEngineFits, "no GPU for cuda", "nvidia-smi"),
        ({"gpu": Accelerator.ROCM}, EngineNotInstalled, "no variant for rocm", "--gpu cuda"),
        ({"version": "2.0"}, BadInput, "tiny/cpu 2.0 does not ship", "there is: 1.0"),
        ({"gpu": Accelerator.CPU}, BadInput, "tiny/cpu runs by itself", ""),
    ],
)
def test_what_can_not_be_is_refused_and_not_recorded(
    tmp_path: Path, wanted: dict[str, object], error: type[RunnerError], said: str, hint: str
) -> None:
    found = desk(tmp_path, gpus())
    with pytest.raises(error) as caught:
        found.install(**wanted)  # type: ignore[arg-type]
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert found.state.installs() == ()


@pytest.mark.parametrize(
    ("host", "told"),
    [
        (PLAIN, ["not tiny/cuda: no GPU for cuda", "tiny/cpu suits this host best"]),
        (NVIDIA, ["tiny/cuda suits this host best"]),
        (OLD_DRIVER, ["not tiny/cuda: the driver is 470.82.01", "tiny/cpu suits"]),
    ],
)
def test_auto_says_what_it_came_to_and_why(
    tmp_path: Path, host: HostFacts, told: list[str]
) -> None:
    found = desk(tmp_path, gpus(), host=host)
    with pytest.raises(BadInput, match="runs by itself"):
        found.install()
    assert len(found.said) == len(told) + 1
    for line, part in zip(found.said, told, strict=False):
        assert line.startswith(f"--gpu auto: {part}")
    with pytest.raises(BadInput, match="tiny/cpu runs by itself"):
        found.install(Accelerator.CPU)
    assert found.said == ["installing tiny/cpu 1.0"]


def test_what_an_uninstall_would_take(tmp_path: Path) -> None:
    found = desk(tmp_path, gpus())
    for name in ("cpu", "cuda"):
        found.state.record(Install("tiny", name, "1", "i", "", "c", (), "built", 1, 1))
    leaving = found.installer.leaving
    assert {one.variant for one in leaving("tiny")} == {"cpu", "cuda"}
    assert [one.variant for one in leaving("tiny", Accelerator.CUDA)] == ["cuda"]
    assert [one.variant for one in leaving("tiny", variant="cpu")] == ["cpu"]
    with pytest.raises(EngineNotInstalled, match="tiny for rocm is not installed") as caught:
        leaving("tiny", Accelerator.ROCM)
    assert caught.value.hint == "installed of it: cpu, cuda"


def test_what_is_recorded_can_be_uninstalled_after_its_engine_has_gone(tmp_path: Path) -> None:
    """Also an engine of which nothing is known any more, by its variant or its accelerator."""
    found = desk(tmp_path, gpus())
    for whose, name in (("tiny", "cuda11"), ("gone", "cpu"), ("gone", "odd")):
        found.state.record(Install(whose, name, "1", "i", "", "c", (), "built", 1, 1))
    leaving = found.installer.leaving
    assert [one.variant for one in leaving("tiny", variant="cuda11")] == ["cuda11"]
    assert [one.variant for one in leaving("gone", variant="odd")] == ["odd"]
    assert [one.variant for one in leaving("gone", Accelerator.CPU)] == ["cpu"]
    with pytest.raises(BadInput) as caught:
        leaving("gone", variant="ood")
    assert caught.value.hint == "did you mean odd?"
    with pytest.raises(EngineNotFound) as unknown:
        leaving("goen")
    assert unknown.value.hint == "did you mean gone?"


@pytest.mark.parametrize(
    ("variant", "error", "said", "hint"),
    [
        ("cud", BadInput, "tiny has no variant 'cud'", "did you mean cuda?"),
        ("cpu", Unsupported, "tiny/cpu can't be uninstalled: it runs by itself", "pip uninstall"),
        ("native", Unsupported, "it is your own program", "take `backends.tiny.binary` out"),
    ],
)
def test_what_was_never_installed_is_not_uninstalled(
    tmp_path: Path, variant: str, error: type[RunnerError], said: str, hint: str
) -> None:
    program = tmp_path / "tiny-server"
    program.touch()
    settings = Settings(backends={"tiny": BackendSettings(binary=program)})
    found = desk(tmp_path / "home", gpus(), settings=settings)
    with pytest.raises(error) as caught:
        found.installer.leaving("tiny", variant=variant)
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_where_docker_does_not_answer_its_own_error_is_told(tmp_path: Path) -> None:
    image = tiny(variant("tiny", "cpu", Accelerator.CPU))
    found = desk(tmp_path, image, host=replace(PLAIN, docker=None))
    with pytest.raises(DockerUnavailable):
        found.install()


# Environments


@pytest.fixture
def locked(tmp_path: Path) -> StagedEngine:
    """An engine that is an environment, here and on Macs."""
    folder = tmp_path / "images" / "tiny" / "cpu"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text(NO_PACKAGES)
    return tiny(
        variant("tiny", "cpu", Accelerator.CPU, form=Form.ENVIRONMENT, folder=folder),
        variant(
            "tiny",
            "metal",
            Accelerator.METAL,
            form=Form.ENVIRONMENT,
            platforms=("darwin/arm64",),
            folder=folder,
        ),
    )


def test_an_environment_is_made_recorded_and_removed(tmp_path: Path, locked: StagedEngine) -> None:
    found = desk(tmp_path / "home", locked, host=replace(PLAIN, docker=None))
    made = found.install()
    assert made is not None
    (cpu, _) = locked.description.variants
    assert (made.engine, made.variant, made.version) == ("tiny", "cpu", "1.0")
    assert (made.kind, made.source) == (InstallKind.ENVIRONMENT, BUILT)
    assert made.config_digest == lock_digest(cpu)
    assert made.size > 1000
    python = Path(made.image)
    assert python.is_relative_to(found.home.environments)
    ran = subprocess.run([python, "-c", "print(1)"], capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n"
    assert any(line.startswith("--gpu auto: not tiny/metal: this is linux") for line in found.said)
    assert not found.installer.missing(made)
    assert found.install() is None

    found.installer.uninstall(made)
    assert found.state.installs() == ()
    assert not python.exists()


def test_an_environment_that_is_gone_or_of_another_lock_is_made_anew(
    tmp_path: Path, locked: StagedEngine
) -> None:
    found = desk(tmp_path / "home", locked)
    first = found.install()
    assert first is not None
    shutil.rmtree(Path(first.image).parent.parent)
    assert found.installer.missing(first)
    again = found.install()
    assert again is not None
    assert again.image == first.image
    (locked.description.variants[0].folder / "requirements.txt").write_text(f"#\n{NO_PACKAGES}")
    other = found.install()
    assert other is not None
    assert other.image != first.image
    assert [one.config_digest for one in found.state.installs()] == [other.config_digest]
    assert not Path(first.image).exists()
    assert Path(other.image).exists()


def test_an_environment_that_a_program_runs_from_is_left(
    tmp_path: Path, locked: StagedEngine
) -> None:
    found = desk(tmp_path / "home", locked)
    first = found.install()
    assert first is not None
    with subprocess.Popen([first.image, "-c", "input()"], stdin=subprocess.PIPE) as running:
        (locked.description.variants[0].folder / "requirements.txt").write_text("#\n")
        assert found.install() is not None
        assert Path(first.image).exists()
        assert "may be in use" in found.said[-1]
        running.kill()


def test_force_makes_an_environment_anew(tmp_path: Path, locked: StagedEngine) -> None:
    found = desk(tmp_path / "home", locked)
    first = found.install()
    assert first is not None
    folder = Path(first.image).parent.parent
    (folder / "damage").touch()
    again = found.install(force=True)
    assert again is not None
    assert again.image == first.image
    assert not (folder / "damage").exists()
    assert [one.name for one in folder.parent.iterdir()] == [folder.name]


def test_who_has_gone_while_another_installs_gets_nothing(
    tmp_path: Path, locked: StagedEngine
) -> None:
    found = desk(tmp_path / "home", locked)
    gone = Event()
    gone.set()
    with pytest.raises(Unavailable, match="given up"):
        found.installer.install("tiny", None, found.said.append, gone)
    assert found.state.installs() == ()


# Images


@dataclass(frozen=True)
class Workshop:
    """A folder of images/ whose Dockerfiles stand on the tests' base, each content unique."""

    images: Path
    base: str
    mark: str

    def engine(
        self, labels: Mapping[str, str] | None = None, manifest: bool = True, **more: str
    ) -> StagedEngine:
        """An engine with one image for CPUs, which says of itself what it should, but `labels`."""
        folder = self.images / "tiny" / "cpu"
        image = variant("tiny", "cpu", Accelerator.CPU, folder=folder, context=self.images)
        made = tiny(replace(image, **more))  # type: ignore[arg-type]
        told = {**labels_of(made.description, image), **(labels or {}), "runner.test": self.mark}
        lines = [
            f"FROM {self.base}",
            *(f'LABEL {name}="{text}"' for name, text in told.items() if text),
            "ARG TARGETOS TARGETARCH",
            f"RUN mkdir /engine && echo {self.mark} > /engine/program",
            _MANIFEST if manifest else "",
            "USER 10001:10001",
        ]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
        return made


_MANIFEST = (
    "RUN --mount=type=bind,source=common/manifest.sh,target=/tmp/manifest.sh "
    "ENGINE=tiny VARIANT=cpu VERSION=1.0 ACCELERATOR=cpu FORMATS=gguf MODES=completion "
    "sh /tmp/manifest.sh /engine"
)


def _images(mark: str) -> list[str]:
    listed = subprocess.run(
        ["docker", "image", "ls", "--all", "--quiet", "--filter", f"label=runner.test={mark}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(set(listed.stdout.split()))


def _tags(image: str) -> list[str]:
    facts = DockerHost().inspect_image(image)
    return sorted(facts.tags) if facts else []


@pytest.fixture
def workshop(tmp_path: Path, base_image: str) -> Iterator[Workshop]:
    images = tmp_path / "images"
    (images / "common").mkdir(parents=True)
    shutil.copy(IMAGES / "common" / "manifest.sh", images / "common")
    mark = uuid.uuid4().hex
    yield Workshop(images, base_image, mark)
    left = _images(mark)
    if left:
        subprocess.run(["docker", "image", "rm", "--force", *left], check=True, capture_output=True)


def test_an_image_is_built_checked_recorded_and_removed(tmp_path: Path, workshop: Workshop) -> None:
    found = desk(tmp_path / "home", workshop.engine())
    made = found.install()
    assert made is not None
    assert (made.kind, made.source, made.version) == (InstallKind.IMAGE, BUILT, "1.0")
    assert made.config_digest.startswith("sha256:")
    assert made.diff_ids
    assert _tags(made.image) == [f"runner/tiny:1.0-cpu-{found.home.identity}"]
    assert not found.installer.missing(made)
    assert found.install() is None
    assert not any("building" in line for line in found.said)

    found.installer.uninstall(made)
    assert found.state.installs() == ()
    assert _images(workshop.mark) == []


def test_an_image_that_is_gone_is_built_again(tmp_path: Path, workshop: Workshop) -> None:
    found = desk(tmp_path / "home", workshop.engine())
    made = found.install()
    assert made is not None
    DockerHost().remove_image(made.image)
    assert found.installer.missing(made)
    again = found.install()
    assert again is not None
    assert again.config_digest
    assert not found.installer.missing(again)


def test_a_dockerfile_that_has_changed_is_built_anew(tmp_path: Path, workshop: Workshop) -> None:
    found = desk(tmp_path / "home", workshop.engine())
    first = found.install()
    assert first is not None
    workshop.engine({"changed": "1"})
    second = found.install()
    assert second is not None
    assert second.config_digest != first.config_digest


def test_two_homes_share_an_image_and_leave_it_to_each_other(
    tmp_path: Path, workshop: Workshop
) -> None:
    one, two = (desk(tmp_path / name, workshop.engine()) for name in ("one", "two"))
    first, second = one.install(), two.install()
    assert first is not None
    assert second is not None
    assert second.image == first.image
    assert not any("building" in line for line in two.said)
    one.installer.uninstall(first)
    assert not two.installer.missing(second)
    two.installer.uninstall(second)
    assert _images(workshop.mark) == []


def test_a_strangers_image_is_not_taken_for_one_of_ours(tmp_path: Path, workshop: Workshop) -> None:
    """Whatever its labels say: only what was built under a name of ours is taken."""
    one, two = (desk(tmp_path / name, workshop.engine()) for name in ("one", "two"))
    first = one.install()
    assert first is not None
    stranger = f"localhost:1/runner/tiny:{workshop.mark}"
    subprocess.run(["docker", "tag", first.image, stranger], check=True)
    one.installer.uninstall(first)
    assert _tags(first.image) == [stranger]
    assert two.install() is not None
    assert any("building" in line for line in two.said)


@pytest.mark.parametrize(
    ("labels", "manifest", "said"),
    [
        ({"io.runner.variant": "cuda"}, True, "io.runner.variant is 'cuda', not 'cpu'"),
        ({"org.opencontainers.image.version": "0.9"}, True, "is '0.9', not '1.0'"),
        ({"io.runner.engine": ""}, True, "it is no engine image of the runner"),
        ({}, False, "it has no /engine/manifest.json"),
    ],
)
def test_a_shipped_image_that_disagrees_is_refused_and_not_recorded(
    tmp_path: Path, workshop: Workshop, labels: dict[str, str], manifest: bool, said: str
) -> None:
    found = desk(tmp_path / "home", workshop.engine(labels, manifest))
    with pytest.raises(
        Unsupported, match="the image of tiny/cpu is not what it should be"
    ) as caught:
        found.install()
    assert said in caught.value.message
    assert caught.value.hint == (
        "build it anew: runner install-runner --backend tiny --variant cpu --force"
    )
    assert found.state.installs() == ()


# A user's own


def _own(made: StagedEngine, **more: object) -> StagedEngine:
    (only,) = made.description.variants
    about = replace(
        made.description,
        origin=Origin.USER,
        variants=(replace(only, **more),),  # type: ignore[arg-type]
    )
    return replace(made, description=about)


def test_a_users_dockerfile_gets_the_runners_labels(tmp_path: Path, workshop: Workshop) -> None:
    engine = _own(workshop.engine({"io.runner.engine": ""}, manifest=False))
    found = desk(tmp_path / "home", engine)
    made = found.install()
    assert made is not None
    facts = DockerHost().inspect_image(made.image)
    assert facts is not None
    assert facts.labels["io.runner.engine"] == "tiny"
    assert facts.labels["runner.test"] == workshop.mark


def test_a_users_ready_image_is_taken_as_it_is_and_left_to_its_user(
    tmp_path: Path, workshop: Workshop
) -> None:
    """Also where its name looks like another program's, or engine.yaml names another by now."""
    source = desk(tmp_path / "source", workshop.engine(manifest=False), docker=DockerHost())
    with pytest.raises(Unsupported):
        source.install()
    (image,) = _images(workshop.mark)
    names = [f"localhost:1/{workshop.mark}:{number}" for number in (1, 2)]
    for name in names:
        subprocess.run(["docker", "tag", image, name], check=True)

    found = desk(tmp_path / "home", _own(workshop.engine(), image=names[0]))
    made = found.install()
    assert made is not None
    assert made.source == names[0]
    assert found.install() is None

    other = desk(tmp_path / "home", _own(workshop.engine(), image=names[1]))
    second = other.install()
    assert second is not None
    assert second.source == names[1]
    gone = desk(tmp_path / "home")
    gone.installer.uninstall(second)
    found.installer.uninstall(made)
    assert set(names) <= set(_tags(made.image))
    assert gone.state.installs() == ()
