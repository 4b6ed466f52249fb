"""Chat templates that users give."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runner.engines.templates import KEPT_S, MAX_BYTES, Templates, read_template
from runner.errors import BadInput, Unavailable

TEXT = "{% for one in messages %}{{ one.content }}ü{% endfor %}"


def test_the_same_text_is_the_same_file(tmp_path: Path) -> None:
    templates = Templates(tmp_path / "templates")
    place = templates.keep(TEXT)
    assert place == templates.place(TEXT) == templates.keep(TEXT)
    assert templates.keep(TEXT + " ") != place
    assert place.read_text(encoding="utf-8") == TEXT
    assert len(list(templates.folder.iterdir())) == 2
    assert read_template(place) == TEXT


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (1, "not a text"),
        ({}, "not a text"),
        ("", "no Jinja template"),
        ("/etc/passwd", "not a path"),
        ("{{ a }}\ud800", "half a character"),
        ("{{ a }}" + "ü" * (MAX_BYTES // 2), "more than"),
    ],
)
def test_what_is_none_is_not_kept(tmp_path: Path, text: object, said: str) -> None:
    templates = Templates(tmp_path / "templates")
    with pytest.raises(BadInput, match=said):
        templates.keep(text)
    assert not templates.folder.exists()


def test_a_folder_that_can_not_be_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="can't keep"):
        Templates(tmp_path / "file").keep(TEXT)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.jinja"
    file.write_bytes(b"{{ \xff }}")
    with pytest.raises(BadInput, match="not text in UTF-8"):
        read_template(file)


# Those that nothing names any more


@pytest.fixture
def templates(tmp_path: Path) -> Templates:
    return Templates(tmp_path / "templates")


def aged(file: Path) -> Path:
    long_ago = time.time() - KEPT_S - 60
    os.utime(file, (long_ago, long_ago))
    return file


def test_what_was_in_use_lately_stays(templates: Templates) -> None:
    new, old = templates.keep(TEXT), aged(templates.keep("{{ old }}"))
    templates.prune([])
    assert (new.is_file(), old.is_file()) == (True, False)


def test_what_a_text_names_stays_in_whatever_form_it_is_written(templates: Templates) -> None:
    file = aged(templates.keep(TEXT))
    for text in (f'{{"chat_template": "{file}"}}', f"no JSON: {file.name}"):
        templates.prune(["", text])
    assert file.is_file()


def test_a_mark_gives_another_hour(templates: Templates) -> None:
    """The one that a change is about to take the name of."""
    file = aged(templates.keep(TEXT))
    templates.mark([str(file), f"{'0' * 64}.jinja"])
    templates.prune([])
    assert file.is_file()


def test_what_is_kept_anew_is_new(templates: Templates) -> None:
    """Its configuration is written a moment later: a change meanwhile must not take it."""
    file = aged(templates.keep(TEXT))
    assert templates.keep(TEXT) == file
    templates.prune([])
    assert file.is_file()


def test_only_files_of_the_runners_own_go(templates: Templates) -> None:
    templates.keep(TEXT)
    mine, cut_off = templates.folder / "mine.jinja", templates.folder / ".tmp123"
    (templates.folder / ".folder").mkdir()
    for file in (mine, cut_off):
        file.write_text("{{ a }}")
        aged(file)
    aged(templates.folder / ".folder")
    templates.prune([])
    assert (mine.is_file(), cut_off.exists()) == (True, False)
    assert (templates.folder / ".folder").is_dir()


def test_no_folder_is_nothing_to_do(templates: Templates) -> None:
    templates.mark([f"{'0' * 64}.jinja"])
    templates.prune([])
    assert not templates.folder.exists()
