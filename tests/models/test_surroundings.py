"""What a process has around it, told so that two processes can compare."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from runner.models.surroundings import STORE, all_around, around_logins, around_store
from runner.settings import Settings
from runner.store.store import ModelStore


def test_one_folder_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, link = tmp_path / "models", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    assert around_store(ModelStore(link)) == {STORE: str(folder)}
    monkeypatch.chdir(tmp_path)
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.setenv(name, "link/x")
        assert around_logins()[name] == str(folder / "x")


def test_unset_variables_mean_the_usual_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert around_logins() == {
        "DOCKER_CONFIG": str(tmp_path / ".docker"),
        "REGISTRY_AUTH_FILE": "",
    }
    monkeypatch.setenv("DOCKER_CONFIG", "~/.docker")
    assert around_logins()["DOCKER_CONFIG"] == str(tmp_path / ".docker")


def test_hubs_are_told_by_their_addresses(store: ModelStore) -> None:
    settings = Settings(hub_endpoint="https://hf.example", modelscope_endpoint="http://ms.example")
    found = all_around(store, settings)
    assert found["HF_ENDPOINT"] == "https://hf.example"
    assert found["MODELSCOPE_ENDPOINT"] == "http://ms.example"


@pytest.mark.parametrize("name", ["hub_endpoint", "modelscope_endpoint"])
def test_no_address_of_a_hub_can_hold_a_password(name: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({name: "https://anna:secret@hub.example"})
