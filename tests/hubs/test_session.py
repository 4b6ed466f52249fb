"""What is said of a hub that can't be reached: nothing that is true of registries alone."""

from __future__ import annotations

from contextlib import closing

import pytest

from runner.errors import RegistryError
from runner.hubs.session import HubSession
from runner.registry.reference import Source
from runner.settings import Settings
from tests.hubs.server import Hub


def reached(source: Source, endpoint: str) -> RegistryError:
    settings = Settings(hub_endpoint=endpoint, modelscope_endpoint=endpoint)
    with (
        closing(HubSession(source, settings)) as session,
        pytest.raises(RegistryError) as caught,
    ):
        session.get(f"{endpoint}/api")
    return caught.value


@pytest.mark.parametrize(
    ("source", "variable"),
    [(Source.HUGGING_FACE, "HF_ENDPOINT"), (Source.MODELSCOPE, "MODELSCOPE_ENDPOINT")],
)
def test_an_unreachable_hub(source: Source, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.registry.http.MAX_RETRIES", 0)
    error = reached(source, "http://localhost:1")
    assert "can't reach localhost:1" in error.message
    assert error.hint == f"check your network, or set {variable} to a mirror"


@pytest.mark.parametrize("source", [Source.HUGGING_FACE, Source.MODELSCOPE])
def test_a_hub_whose_certificate_is_not_trusted(hub: Hub, source: Source) -> None:
    error = reached(source, hub.endpoint.replace("http://", "https://"))
    assert "no trusted TLS" in error.message
    assert "ca_file" in error.hint
    assert "insecure_registries" not in error.hint
