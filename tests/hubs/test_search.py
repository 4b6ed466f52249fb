"""Search at a stand-in hub and in a test registry's catalogue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import BadInput, BadReference, RegistryError, ShuttingDown
from runner.hubs.search import Found, SearchSource, search
from runner.settings import Settings
from tests.hubs.server import Hub
from tests.registry import faults
from tests.registry.server import Registry
from tests.registry.server import running as registry_running


@pytest.fixture(autouse=True)
def repositories(hub: Hub) -> None:
    add = hub.add
    add("a/Small-GGUF", {}, tags=("gguf",), downloads=5, likes=2, parameters=1000)
    add("b/Small", {}, tags=("safetensors",), downloads=9, gated=True)
    add("c/Small-both", {}, tags=("gguf", "safetensors"), downloads=1)
    add("d/Large", {}, tags=("gguf",), downloads=100)
    add("e/Small-old", {}, tags=("tensorflow",), downloads=100)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with registry_running(Registry()) as serving:
        for name in ("team/small:1", "team/small:latest", "team/smaller:2", "other/x:latest"):
            repository, _, tag = name.partition(":")
            serving.manifests[f"{repository}/{tag}"] = b"{}"
        serving.manifests["team/small-gone/sha256:0"] = b"{}"
        yield serving


def names(found: tuple[Found, ...]) -> list[str]:
    return [model.name for model in found]


def test_hugging_face_is_searched_for_what_can_be_pulled(settings: Settings, hub: Hub) -> None:
    results = search("small", settings)
    assert results.notes == ()
    assert results.found[:2] == (
        Found(
            name="hf.co/b/Small",
            source=SearchSource.HUGGING_FACE,
            description="text generation, gated",
            format="safetensors",
            downloads=9,
        ),
        Found(
            name="hf.co/a/Small-GGUF",
            source=SearchSource.HUGGING_FACE,
            description="text generation",
            format="gguf",
            parameters=1000,
            downloads=5,
            likes=2,
        ),
    )
    assert names(results.found[2:]) == ["hf.co/c/Small-both"]
    assert all("search=small" in r.query for r in hub.requests)


def test_the_most_used_come_first_and_not_too_many(settings: Settings) -> None:
    assert names(search("", settings, limit=2).found) == ["hf.co/d/Large", "hf.co/b/Small"]


def test_a_catalogue_gives_names_with_tags(settings: Settings, registry: Registry) -> None:
    found = search("SMALL", settings, source=SearchSource.REGISTRY, registry=registry.address).found
    assert names(found) == [f"{registry.address}/team/small", f"{registry.address}/team/smaller:2"]
    one = search("", settings, source=SearchSource.REGISTRY, registry=registry.address, limit=1)
    assert names(one.found) == [f"{registry.address}/other/x"]


def test_a_registry_may_be_named_by_its_address(settings: Settings, registry: Registry) -> None:
    named = f"http://{registry.address}/"
    found = search("smaller", settings, source=SearchSource.REGISTRY, registry=named).found
    assert names(found) == [f"{registry.address}/team/smaller:2"]
    with pytest.raises(BadReference, match="model hub"):
        search("smaller", settings, registry="hf.co")


def test_a_name_without_a_tag_means_the_default_one(registry: Registry) -> None:
    settings = Settings(default_tag="1")
    found = search("small", settings, source=SearchSource.REGISTRY, registry=registry.address).found
    assert names(found) == [f"{registry.address}/team/small", f"{registry.address}/team/smaller:2"]
    assert names(
        search("x", settings, source=SearchSource.REGISTRY, registry=registry.address).found
    ) == [f"{registry.address}/other/x:latest"]


def test_all_places_are_searched(settings: Settings, registry: Registry) -> None:
    found = search("small", settings, registry=registry.address).found
    assert {model.source for model in found} == {
        SearchSource.HUGGING_FACE,
        SearchSource.REGISTRY,
    }


def test_one_place_that_fails_hides_no_other(
    settings: Settings, hub: Hub, registry: Registry
) -> None:
    registry.lasting.append(("_catalog", faults.status(404)))
    results = search("small", settings, registry=registry.address)
    assert len(results.found) == 3
    (note,) = results.notes
    assert registry.address in note
    hub.lasting.append(("/api/models", faults.status(400)))
    registry.lasting.clear()
    results = search("small", settings, registry=registry.address)
    assert len(results.found) == 2
    assert "answered 400" in results.notes[0]


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.registry.http.MAX_RETRIES", 0)
    with pytest.raises(RegistryError, match="can't reach localhost:1") as caught:
        search("small", Settings(hub_endpoint="http://localhost:1"))
    assert "network" in caught.value.hint


def test_a_cancelled_search_ends(settings: Settings) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(ShuttingDown):
        search("small", settings, cancelled=cancelled)


def test_a_search_that_is_cancelled_between_two_places_ends(
    settings: Settings, hub: Hub, registry: Registry
) -> None:
    cancelled = threading.Event()

    def cancel(_: object) -> bool:
        cancelled.set()
        return False

    hub.lasting.append(("/api/models", faults.on(2, cancel)))  # the last of the hub's requests
    with pytest.raises(ShuttingDown):
        search("small", settings, registry=registry.address, cancelled=cancelled)
    assert not registry.requests


@pytest.mark.parametrize(
    ("source", "limit", "said"),
    [(SearchSource.REGISTRY, 5, "registry's name"), (SearchSource.ALL, 0, "1 to 500")],
)
def test_orders_that_cannot_be(
    settings: Settings, source: SearchSource, limit: int, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        search("x", settings, source=source, limit=limit)
