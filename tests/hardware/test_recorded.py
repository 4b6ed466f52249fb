"""Recordings: a machine that was recorded answers as it did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import BadInput
from runner.hardware.gather import gather
from runner.hardware.probe import HostProbe
from runner.hardware.recorded import RecordedProbe, Recorder, Recording, from_json, to_json
from tests.hardware.hosts import probe, probe_names


def test_this_machine_played_back_gives_the_same_facts() -> None:
    recorder = Recorder(HostProbe())
    facts = gather(recorder)
    recording = from_json(to_json(recorder.recording()))
    assert gather(RecordedProbe(recording)) == facts


def test_every_kind_of_question_is_kept(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho one; echo two; exit 4\n")
    tool.chmod(0o755)
    real, recorder = HostProbe(), Recorder(HostProbe())
    pattern = f"{tmp_path}/*"

    def ask(one: HostProbe | Recorder | RecordedProbe) -> tuple[object, ...]:
        return (
            one.platform(),
            one.run(str(tool), "an argument"),
            one.run("no-such-program"),
            one.read(str(tool)),
            one.read("/no/such/file"),
            one.glob(pattern),
            one.group("root"),
            one.group("no-such-group"),
            one.owner(str(tool)),
        )

    expected = ask(real)
    assert ask(recorder) == expected
    recording = from_json(to_json(recorder.recording("here")))
    assert recording.source == "here"
    assert ask(RecordedProbe(recording)) == expected


@pytest.mark.parametrize("name", probe_names())
def test_recordings_are_kept_as_they_would_be_written(name: str) -> None:
    recording = probe(name).recording
    assert recording.source
    assert from_json(to_json(recording)) == recording


def test_patterns_stop_at_slashes() -> None:
    recording = Recording(HostProbe().platform(), paths=("/a/b/c", "/a/c", "/x/a/c"))
    assert RecordedProbe(recording).glob("/a/*") == ("/a/c",)
    assert RecordedProbe(recording).glob("/a/*/c") == ("/a/b/c",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "truncated"),
        (b"{}", "platform"),
        (b'{"platform": {"system": 1}}', "$.platform.system"),
        (b"\xff", ""),
    ],
)
def test_what_is_no_recording(text: bytes, told: str) -> None:
    with pytest.raises(BadInput, match="not a recording of a machine") as raised:
        from_json(text)
    assert told in raised.value.message


def test_the_program_prints_this_machine() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "runner.hardware.recorded"],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    assert from_json(printed).platform == HostProbe().platform()
    assert json.loads(printed)["files"]
