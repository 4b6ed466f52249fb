"""The commands against a stand-in for Hugging Face and ModelScope."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.demo import gguf_path, questions
from tests.hubs.server import TOKEN, Hub, running
from tests.support.program import runner, succeed

REPOSITORY = "Org/Demo-GGUF"
FILES = {"demo-F16.gguf": gguf_path().read_bytes(), "README.md": b"# Demo"}
FIRST = questions()[0]


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(home / "hf-home"))
    with running(Hub()) as found:
        monkeypatch.setenv("HF_ENDPOINT", found.endpoint)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", found.endpoint)
        yield found
        succeed("stop-runner")


@pytest.mark.parametrize("name", [f"hf.co/{REPOSITORY}", f"ms://{REPOSITORY}"])
def test_a_hubs_model_is_pulled_and_answers(hub: Hub, name: str) -> None:
    hub.add(REPOSITORY, FILES)
    before = json.loads(succeed("inspect", "--remote", name))
    assert [file["path"] for file in before["files"]] == ["demo-F16.gguf"]
    digest = succeed("pull", name).strip()
    assert succeed("pull", name).strip() == digest
    assert name in succeed("ls")
    after = json.loads(succeed("inspect", name))
    assert (after["id"], after["size"]) == (digest, before["size"])
    assert after["origin"] == {"source": before["page"], "revision": before["commit"]}
    assert succeed("run", name, FIRST.question) == f"{FIRST.answer}\n"


def test_a_token_of_this_terminal_reaches_a_daemon_that_has_none(hub: Hub) -> None:
    hub.add(REPOSITORY, FILES, gated=True)
    name = f"hf.co/{REPOSITORY}:F16"
    succeed("start-runner")
    refused = runner("pull", name)
    assert refused.returncode == 9
    assert "HF_TOKEN" in refused.stderr
    succeed("pull", name, env={"HF_TOKEN": TOKEN})
    assert name in succeed("ls")


def test_the_token_goes_to_no_registry(hub: Hub) -> None:
    """Neither to the hub's stand-in here, which is asked as if it were one."""
    address = hub.endpoint.removeprefix("http://")
    assert runner("pull", f"{address}/a/b:1", env={"HF_TOKEN": TOKEN}).returncode != 0
    assert hub.requests
    assert not any(TOKEN in request.authorization for request in hub.requests)


def test_search_shows_what_can_be_pulled(hub: Hub) -> None:
    hub.add(REPOSITORY, FILES, downloads=1500, likes=3, tags=("gguf",), parameters=1312512)
    header, row = succeed("search", "demo").splitlines()
    assert header.split()[0] == "NAME"
    assert row.split()[:5] == [f"hf.co/{REPOSITORY}", "gguf", "1.31M", "1.50K", "3"]
    (found,) = json.loads(succeed("search", "demo", "--json"))
    assert found["downloads"] == 1500
    assert "nothing is called 'zebra'" in runner("search", "zebra").stderr


def test_without_a_network_search_says_so(home: Path) -> None:
    done = runner("search", "demo", env={"HF_ENDPOINT": "http://localhost:1"})
    assert done.returncode == 9
    assert "can't reach localhost:1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
