"""Chat templates that users give."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.engines.templates import MAX_BYTES, Templates, read_template
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
