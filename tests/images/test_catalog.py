"""Every folder under images/: its Dockerfile says what engine.yaml says, is linted, and builds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from runner.dockerhost import DockerHost
from runner.engines.catalog import catalog, description_of, images_folder
from runner.engines.description import Form, Variant
from runner.engines.manifest import labels_of
from runner.installs.build import build, dockerfile
from tests.images import dockerfiles
from tests.images.agreement import OWN_USER, check_agreement
from tests.support.images import OFFICIAL_BASE, build_settings

IMAGES = images_folder()
BUILT = [variant for variant in catalog() if variant.form is Form.IMAGE]
THIN = [variant for variant in BUILT if variant.base != dockerfiles.whole(OFFICIAL_BASE)]

every_image = pytest.mark.parametrize("variant", BUILT, ids=[one.label for one in BUILT])
every_thin_image = pytest.mark.parametrize("variant", THIN, ids=[one.label for one in THIN])


def on_stand_ins(variant: Variant, base_image: str) -> dict[str, str]:
    """Named contexts that put the tests' base under every image from elsewhere."""
    bases = dockerfiles.read(dockerfile(variant)).bases
    return {base: f"docker-image://{base_image}" for base in bases if base != base_image}


def test_every_folder_is_a_variant_and_the_other_way_round() -> None:
    folders = {file.parent for file in IMAGES.glob("*/*/Dockerfile")}
    assert {variant.folder for variant in BUILT} == folders
    assert folders


@every_image
def test_labels_say_what_engine_yaml_says(variant: Variant) -> None:
    labels = dockerfiles.read(dockerfile(variant)).labels
    wanted = dict(labels_of(description_of(variant.engine), variant))
    for name in ("io.runner.formats", "io.runner.modes"):
        assert sorted(labels.pop(name).split(",")) == wanted.pop(name).split(",")
    assert {name: labels.get(name) for name, text in wanted.items() if text} == {
        name: text for name, text in wanted.items() if text
    }


@every_image
def test_the_base_is_the_one_on_the_label(variant: Variant) -> None:
    assert dockerfiles.whole(dockerfiles.read(dockerfile(variant)).base) == variant.base


@every_image
def test_bases_are_pinned_and_no_frontend_is_fetched(variant: Variant) -> None:
    read = dockerfiles.read(dockerfile(variant))
    for base in read.bases:
        name, colon, tag = base.rpartition(":")
        assert (name and colon, tag != "latest", "$" in base) == (":", True, False), base
    assert not read.text.lower().startswith("# syntax")
    assert "\n# syntax" not in read.text.lower()


@every_image
def test_it_runs_as_a_user_without_rights(variant: Variant) -> None:
    assert dockerfiles.read(dockerfile(variant)).stages[-1].values("USER")[-1] == OWN_USER


@every_image
def test_only_what_is_copied_goes_into_the_build(variant: Variant) -> None:
    """So a change in another engine's folder builds nothing anew."""
    lines = (variant.folder / "Dockerfile.dockerignore").read_text().split()
    assert lines[0] == "*"
    assert all(line.startswith("!") for line in lines[1:])
    let_through = {line.removeprefix("!") for line in lines[1:]}
    assert let_through == dockerfiles.read(dockerfile(variant)).from_context
    assert [path for path in let_through if not (variant.context / path).exists()] == []


@every_image
def test_hadolint_has_nothing_to_say(variant: Variant) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run(
        [hadolint, dockerfile(variant)], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.docker
@every_image
def test_buildx_check_has_nothing_to_say(variant: Variant, base_image: str) -> None:
    contexts = on_stand_ins(variant, base_image).items()
    named = [word for name, image in contexts for word in ("--build-context", f"{name}={image}")]
    command = ["docker", "buildx", "build", "--check", *named]
    ran = subprocess.run(
        [*command, "--file", str(dockerfile(variant)), str(variant.context)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "no warnings found" in ran.stdout


@pytest.fixture
def thin_image(variant: Variant, base_image: str) -> Iterator[str]:
    """Built on a stand-in, because the makers' images cannot be had everywhere."""
    tag = f"runner-test/thin-{variant.engine}:{variant.name}"
    usual = build_settings(base_image)
    contexts = {**usual.build_contexts, **on_stand_ins(variant, base_image)}
    settings = usual.model_copy(update={"build_contexts": contexts})
    build(variant, tag, settings, DockerHost().url, lambda _: None, Event())
    yield tag
    subprocess.run(["docker", "image", "rm", tag], stdout=subprocess.DEVNULL, check=True)


@pytest.mark.docker
@every_thin_image
def test_the_layers_on_the_makers_images_really_build(variant: Variant, thin_image: str) -> None:
    manifest = check_agreement(thin_image, description_of(variant.engine), variant)
    assert manifest.variant == variant.name
