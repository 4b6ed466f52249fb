"""Environments of engines: really made from the index, never half there, honest about failures."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from runner.engines.description import Variant
from runner.errors import (
    BadInput,
    BuildFailed,
    CorruptTransfer,
    DiskFull,
    RunnerError,
    Unavailable,
    Unsupported,
)
from runner.installs.environments import Environments, failure, lock_digest
from runner.settings import Proxy
from tests.support.environments import mlx_environment, mlx_variant
from tests.support.images import OFFICIAL_BASE, build_settings

SMALL = "idna==3.20 --hash=sha256:{digest}\n"
WRONG = "0" * 64
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def environments(tmp_path: Path) -> Environments:
    return Environments(tmp_path / "engines", build_settings(OFFICIAL_BASE))


def variant_with(lock: str, folder: Path) -> Variant:
    """A variant of our own, in a folder without check.py."""
    own = folder / "engine" / "cpu"
    own.mkdir(parents=True)
    (own / "requirements.txt").write_text(lock)
    return replace(mlx_variant(), engine="small", folder=own)


def idna_digest() -> str:
    """What the shipped lock says of a package that is small and needs no other."""
    lock = (mlx_variant().folder / "requirements.txt").read_text()
    entry = lock.split("idna==3.20")[1].split("\n\n")[0].split("==")[0]
    return " --hash=sha256:".join(part.split()[0] for part in entry.split("sha256:")[1:])


def ignore(_step: str) -> None:
    """Steps are looked at in one test alone."""


def left_in(environments: Environments) -> list[str]:
    return [path.name for path in environments.folder.rglob("*") if path.parent.name == "small"]


def test_the_mlx_environment_is_whole_and_alone() -> None:
    made = mlx_environment()
    assert made.lock_digest == lock_digest(mlx_variant())
    assert made.size > 100_000_000
    look = "import mlx_lm, sys, site; print(mlx_lm.__version__, site.ENABLE_USER_SITE, *sys.path)"
    ran = subprocess.run(
        [made.python, "-I", "-c", look], capture_output=True, text=True, check=True
    )
    version, user_site, *places = ran.stdout.split()
    assert (version, user_site) == (mlx_variant().version, "False")
    inside = [place for place in places if "site-packages" in place]
    assert inside
    assert all(Path(place).is_relative_to(made.folder) for place in inside)


def test_it_is_made_once_found_again_and_removed(
    environments: Environments, tmp_path: Path
) -> None:
    variant = variant_with(SMALL.format(digest=idna_digest()), tmp_path)
    assert environments.find(variant) is None
    steps: list[str] = []
    made = environments.make(variant, steps.append, threading.Event())
    assert any("idna" in step for step in steps[1:-2])
    assert not any("(from" in step for step in steps)
    assert made == environments.find(variant)
    assert left_in(environments) == [made.folder.name]
    assert made.folder.name.startswith(f"{variant.name}-{variant.version}-")
    again: list[str] = []
    assert environments.make(variant, again.append, threading.Event()) == made
    assert again == []
    environments.remove(made.python)
    assert left_in(environments) == []
    assert environments.find(variant) is None
    environments.remove(made.python)


def test_one_that_is_made_anew_and_fails_leaves_the_one_before(
    environments: Environments, tmp_path: Path
) -> None:
    variant = variant_with("#\n", tmp_path)
    made = environments.make(variant, ignore, threading.Event())
    (variant.folder.parent / "check.py").write_text("raise SystemExit(1)\n")
    with pytest.raises(BuildFailed):
        environments.make(variant, ignore, threading.Event(), force=True)
    assert environments.find(variant) == made
    assert left_in(environments) == [made.folder.name]


def test_another_lock_is_another_environment(environments: Environments, tmp_path: Path) -> None:
    one = variant_with(SMALL.format(digest=WRONG), tmp_path / "one")
    two = variant_with(SMALL.format(digest="1" * 64), tmp_path / "two")
    assert environments.place(one) != environments.place(two)


def test_what_was_cut_off_is_not_used_and_is_cleared(
    environments: Environments, tmp_path: Path
) -> None:
    variant = variant_with(SMALL.format(digest=idna_digest()), tmp_path)
    folder = environments.place(variant)
    half = folder.with_name(f".{folder.name}-killed")
    for cut in (folder, half):
        (cut / "bin").mkdir(parents=True)
        (cut / "bin" / "python").symlink_to("/nonexistent")
    assert environments.find(variant) is None
    environments.make(variant, ignore, threading.Event())
    assert left_in(environments) == [folder.name]


def test_who_gives_up_leaves_nothing(environments: Environments, tmp_path: Path) -> None:
    variant = variant_with(SMALL.format(digest=idna_digest()), tmp_path)
    cancelled = threading.Event()
    with pytest.raises(Unavailable, match="given up"):
        environments.make(variant, lambda _: cancelled.set(), cancelled)
    assert left_in(environments) == []


def test_a_package_that_is_another_one_is_refused(
    environments: Environments, tmp_path: Path
) -> None:
    variant = variant_with(SMALL.format(digest=WRONG), tmp_path)
    with pytest.raises(CorruptTransfer, match="not the one that was locked") as refused:
        environments.make(variant, ignore, threading.Event())
    assert refused.value.hint
    assert refused.value.log
    assert left_in(environments) == []


@pytest.mark.parametrize("lock", ["not a requirement !\n", "idna==3.20\n", "idna>=3\n"])
def test_a_broken_lock_is_named(lock: str, environments: Environments, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lock file is broken"):
        environments.make(variant_with(lock, tmp_path), ignore, threading.Event())
    assert left_in(environments) == []


def test_a_missing_lock_is_named(environments: Environments, tmp_path: Path) -> None:
    variant = variant_with("", tmp_path)
    (variant.folder / "requirements.txt").unlink()
    with pytest.raises(BadInput, match=r"requirements\.txt"):
        environments.find(variant)


def test_without_a_network_the_next_step_is_told(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    settings = environments.settings.model_copy(update={"proxy": Proxy(https=NOBODY)})
    variant = variant_with(SMALL.format(digest=idna_digest()), tmp_path)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(Unavailable, match="no connection") as failed:
        Environments(environments.folder, settings).make(variant, ignore, threading.Event())
    assert "proxy" in failed.value.hint


def test_a_check_that_fails_leaves_nothing(environments: Environments, tmp_path: Path) -> None:
    variant = variant_with(SMALL.format(digest=idna_digest()), tmp_path)
    (variant.folder.parent / "check.py").write_text("raise SystemExit('it can not compute')\n")
    with pytest.raises(BuildFailed) as failed:
        environments.make(variant, ignore, threading.Event())
    assert "it can not compute" in failed.value.log
    assert left_in(environments) == []


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("")
    settings = build_settings(OFFICIAL_BASE)
    variant = variant_with(SMALL.format(digest=WRONG), tmp_path)
    with pytest.raises(Unavailable, match="can't write"):
        Environments(tmp_path / "engines", settings).make(variant, ignore, threading.Event())


def test_what_is_no_environment_is_not_removed(environments: Environments, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no environment"):
        environments.remove(tmp_path / "bin" / "python")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", DiskFull),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", Unavailable),
        ("Failed to establish a new connection: [Errno 111]", Unavailable),
        ("ERROR: No matching distribution found for mlx-cpu==0.32.4", Unsupported),
        ("Error: The virtual environment: ensurepip is not available", Unsupported),
        ("mlx-lm 0.32.2 requires jinja2, which is not installed.", BuildFailed),
        ("something else", BuildFailed),
    ],
)
def test_every_failure_has_a_next_step(line: str, kind: type[RunnerError]) -> None:
    error = failure(mlx_variant(), (line,))
    assert type(error) is kind
    assert error.hint
    assert error.log == (line,)
