"""Where state lies, and sockets whose path would be too long for the system."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runner.errors import Unavailable
from runner.home import MAX_SOCKET_PATH, Home


def test_sockets_lie_in_the_home_while_they_fit() -> None:
    assert Home(Path("/srv/runner")).socket == Path("/srv/runner/run/runner.sock")


def test_sockets_of_a_deep_home_still_fit(tmp_path: Path) -> None:
    deep = Home(tmp_path / ("d" * 60) / ("e" * 60))
    for socket in (deep.socket, deep.instance("0123456789ab") / "engine.sock"):
        assert len(os.fsencode(socket)) <= MAX_SOCKET_PATH
    other = Home(tmp_path / ("d" * 60) / ("f" * 60))
    assert deep.run != other.run


def test_folders_are_their_owners_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.run.stat().st_mode) == 0o700


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "home"
    file.write_text("")
    with pytest.raises(Unavailable, match="can't use"):
        Home(file).prepare()


def test_a_cache_belongs_to_one_variant_and_model() -> None:
    home = Home(Path("/srv/runner"))
    folders = {home.cache(f"sha256:{v * 64}", f"sha256:{m * 64}") for v in "ab" for m in "cd"}
    assert len(folders) == 4
