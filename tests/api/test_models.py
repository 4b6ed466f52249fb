"""The routes for models, asked of a real daemon and a registry that this repository brings."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.demo import gguf_path, questions
from tests.hubs.server import Hub
from tests.hubs.server import running as running_hub
from tests.registry.server import Handler, Registry, running
from tests.support.program import Daemon, daemon, succeed, until

MODEL = "localhost:5000/demo:1"
OTHER = "docker.io/myorg/other:2"
FIRST = questions()[0]


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    with running(Registry()) as registry:
        yield registry


@pytest.fixture
def digest(server: Registry) -> str:
    return succeed("package", "--gguf", str(gguf_path()), MODEL).strip()


@pytest.fixture
def client(home: Path, digest: str) -> Iterator[httpx.Client]:
    with daemon(home) as found, found.http() as client:
        yield client


def tags(client: httpx.Client) -> list[str]:
    return [tag for model in client.get("/models").json() for tag in model["tags"]]


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()["error"]
    return found


def pushed(client: httpx.Client, server: Registry) -> str:
    """The demo model under a name at the registry, which has it now."""
    name = f"{server.address}/a/b:1"
    client.post(f"/models/{MODEL}/tag", params={"repo": f"{server.address}/a/b", "tag": "1"})
    assert lines(client.post(f"/models/{name}/push"))[-1]["type"] == "success"
    return name


def test_one_model_and_all(client: httpx.Client, digest: str) -> None:
    (listed,) = client.get("/models").json()
    found = client.get(f"/models/{MODEL}").json()
    assert listed["id"] == found["id"] == digest
    assert found["config"]["gguf"]["general.architecture"] == "llama"
    assert error(client.get("/models/nobody/nothing"), 404)["code"] == "model_not_found"


def test_a_remote_model_is_asked_of_its_registry(
    client: httpx.Client, server: Registry, digest: str
) -> None:
    name = pushed(client, server)
    client.delete(f"/models/{name}")
    found = client.get(f"/models/{name}", params={"remote": "true"}).json()
    assert found["id"] == digest
    assert name not in tags(client)
    gone = client.get(f"/models/{server.address}/a/none", params={"remote": "true"})
    assert error(gone, 404)["code"] == "model_not_found"


def test_a_remote_model_is_asked_of_its_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(home / "hf-home"))
    with running_hub(Hub()) as hub:
        hub.add("Org/Demo-GGUF", {"demo-F16.gguf": gguf_path().read_bytes()})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        with daemon(home) as found, found.http() as client:
            name = "hf.co/Org/Demo-GGUF"
            told = client.get(f"/models/{name}", params={"remote": "true"}).json()
            assert (told["name"], told["format"]) == (name, "gguf")
            assert told["size"] == gguf_path().stat().st_size
            gone = client.get(f"/models/{name}:Q2_K", params={"remote": "true"})
            assert error(gone, 404)["code"] == "model_not_found"
            assert client.get("/models").json() == []


def test_a_pull_tells_progress_in_docker_model_runners_shape(
    client: httpx.Client, server: Registry, digest: str
) -> None:
    name = pushed(client, server)
    client.delete("/models/purge")
    *progress, last = lines(client.post("/models/create", json={"from": name}))
    assert last["type"] == "success"
    assert last["id"] == digest
    weights = [line for line in progress if line["layer"].get("id")][-1]
    assert set(weights) == {"type", "message", "total", "done", "layer", "mode"}
    assert weights["mode"] == "pull"
    assert weights["done"] == weights["total"] == gguf_path().stat().st_size
    assert weights["layer"]["current"] == weights["layer"]["size"]


def test_a_push_may_say_which_model_it_means(
    client: httpx.Client, server: Registry, digest: str
) -> None:
    name = f"{server.address}/a/b:1"
    done = lines(client.post(f"/models/{name}/push", json={"id": digest}))[-1]
    assert done["digest"] == digest
    assert f"Pushed {name}" in done["message"]
    assert name not in tags(client)
    gone = client.post(f"/models/{MODEL}/push", json={"id": f"sha256:{0:064}"})
    assert error(gone, 404)["code"] == "model_not_found"


def test_a_pull_that_fails_at_once_is_an_ordinary_error(
    client: httpx.Client, server: Registry
) -> None:
    for name, status in ((f"{server.address}/a/none", 404), ("UPPER CASE", 400)):
        assert error(client.post("/models/create", json={"from": name}), status)["message"]


def test_a_client_that_leaves_ends_the_pull(
    client: httpx.Client, server: Registry, digest: str
) -> None:
    """And what came until then is not fetched again."""
    name = pushed(client, server)
    client.delete("/models/purge")
    begun, left = threading.Event(), threading.Event()

    def wait(handler: Handler) -> bool:
        begun.set()
        assert left.wait(30)
        return False

    server.faults.append(("GET .*/blobs/", wait))
    asking = threading.Thread(target=_leave_when, args=(client, name, begun))
    asking.start()
    asking.join(30)
    left.set()
    assert tags(client) == []
    assert lines(client.post("/models/create", json={"from": name}))[-1]["id"] == digest


def _leave_when(client: httpx.Client, name: str, begun: threading.Event) -> None:
    with httpx.Client(base_url=client.base_url, trust_env=False) as own:
        request = own.build_request("POST", "/models/create", json={"from": name})
        closing = threading.Thread(target=_close_when, args=(own, begun))
        closing.start()
        with pytest.raises((httpx.TransportError, RuntimeError)):
            own.send(request)
        closing.join()


def _close_when(client: httpx.Client, begun: threading.Event) -> None:
    assert begun.wait(30)
    client.close()


def test_export_is_an_oci_layout_and_load_takes_it(client: httpx.Client, digest: str) -> None:
    response = client.get(f"/models/{MODEL}/export")
    assert response.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(response.content)) as archive:
        index = archive.extractfile("index.json")
        assert index
        (entry,) = json.loads(index.read())["manifests"]
        assert entry["digest"] == digest
    client.delete("/models/purge")
    loaded = client.post("/models/load", content=response.content).json()
    assert loaded["ids"] == [digest]
    assert tags(client) == [MODEL]


def test_what_is_no_archive_is_refused_and_nothing_stays(
    client: httpx.Client, home: Path, digest: str
) -> None:
    whole = client.get(f"/models/{MODEL}/export").content
    client.delete("/models/purge")
    for content in (b"", b"junk", whole[: len(whole) // 2], bytes(3_000_000)):
        assert error(client.post("/models/load", content=content), 422)["message"]
    assert tags(client) == []
    assert not any((home / "models" / "blobs" / "sha256").iterdir())


def test_an_upload_that_breaks_off_leaves_nothing(
    client: httpx.Client, home: Path, digest: str
) -> None:
    whole = client.get(f"/models/{MODEL}/export").content
    client.delete("/models/purge")

    def broken() -> Iterator[bytes]:
        yield whole[:2_000_000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        client.post("/models/load", content=broken())
    until(lambda: not any((home / "models" / "tmp").glob("*")), "what had come is gone")
    assert tags(client) == []


def test_a_model_that_is_not_here_is_not_exported(client: httpx.Client) -> None:
    assert error(client.get("/models/nobody/nothing/export"), 404)["code"] == "model_not_found"


def test_repackaging_gives_the_same_layers_another_context(
    client: httpx.Client, digest: str
) -> None:
    body = {"target": "myorg/other:2", "context_size": 512}
    response = client.post(f"/models/{MODEL}/repackage", json=body)
    assert response.status_code == 201
    assert response.json() == {"message": "repackaged", "source": MODEL, "target": OTHER}
    found = client.get(f"/models/{OTHER}").json()
    assert found["id"] != digest
    assert found["config"]["context_size"] == 512
    assert client.get("/engines/df").json()["models_disk_usage"] < 2 * gguf_path().stat().st_size
    assert error(client.post(f"/models/{MODEL}/repackage", json={}), 400)["code"] == "bad_input"


def test_tags_come_and_go(client: httpx.Client) -> None:
    response = client.post(f"/models/{MODEL}/tag", params={"repo": "myorg/other", "tag": "2"})
    assert response.status_code == 201
    assert {MODEL, OTHER} <= set(tags(client))
    assert client.delete("/models/myorg/other:2").json() == [{"Untagged": OTHER}]
    assert error(client.post(f"/models/{MODEL}/tag"), 400)["code"] == "bad_input"


def test_what_is_loaded_is_neither_removed_nor_purged_unless_forced(
    home: Path, digest: str
) -> None:
    with daemon(home) as found, found.http() as client:
        found.chat(MODEL, FIRST.question)
        for path in (f"/models/{MODEL}", "/models/purge"):
            refused = error(client.delete(path), 409)
            assert refused["code"] == "in_use"
            assert MODEL in refused["message"]
        gone = client.delete("/models/purge", params={"force": "true"}).json()
        assert {"Deleted": digest} in gone
        assert _idle(found)


def test_what_is_loaded_is_unloaded_by_the_names_that_it_is_shown_with(
    home: Path, digest: str
) -> None:
    """Also when the name was removed since: by it, the model's ID, or the instance's."""
    with daemon(home) as found, found.http() as client:
        for number, pick in enumerate((_hinted, _shown, _short, _instance)):
            client.post(f"/models/{MODEL}/tag", params={"repo": "loaded", "tag": str(number)})
            found.chat(f"loaded:{number}", FIRST.question)
            client.delete(f"/models/loaded:{number}")
            name = pick(found, client)
            told = client.post("/engines/unload", json={"models": [name]})
            assert told.json() == {"unloaded_runners": 1}, name
        gone = client.post("/engines/unload", json={"models": ["loaded:0"]})
        assert error(gone, 404)["code"] == "model_not_found"
        assert client.get(f"/models/{MODEL}").json()["id"] == digest


def _hinted(found: Daemon, client: httpx.Client) -> str:
    hint = error(client.delete(f"/models/{MODEL}"), 409)["hint"]
    return str(hint).removeprefix("runner unload ").partition(";")[0]


def _shown(found: Daemon, client: httpx.Client) -> str:
    return str(client.get("/engines/ps").json()[0]["model_name"])


def _short(found: Daemon, client: httpx.Client) -> str:
    return str(found.instances()[0]["model_id"]).removeprefix("sha256:")[:12]


def _instance(found: Daemon, client: httpx.Client) -> str:
    return str(found.instances()[0]["instance"])


def _idle(found: Daemon) -> bool:
    return found.get("/models") == [] and found.instances() == []


def test_pushed_bytes_are_the_models_own(
    client: httpx.Client, server: Registry, digest: str
) -> None:
    pushed(client, server)
    weights = gguf_path().read_bytes()
    assert server.blobs[f"sha256:{hashlib.sha256(weights).hexdigest()}"] == weights
    assert hashlib.sha256(server.manifests["a/b/1"]).hexdigest() == digest.removeprefix("sha256:")
