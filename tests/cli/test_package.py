"""`runner package --push` while another process moves the name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cli import package as command
from runner.cli.models import this_store
from runner.demo import gguf_path
from runner.models.package_order import PackageOrder
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from tests.registry.server import Registry, digest_of, running
from tests.support.program import succeed


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    with running(Registry()) as registry:
        succeed("start-runner")
        yield registry
        succeed("stop-runner")


def test_what_was_packaged_is_pushed_whoever_has_the_name_by_then(
    server: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{server.address}/a/b:1"
    other = succeed("package", "--gguf", str(gguf_path()), "--context-size", "8", "x/y").strip()
    carry_out = command.carry_out

    def overtaken(store: ModelStore, order: PackageOrder) -> StoredModel:
        packaged = carry_out(store, order)
        store.tag(other, order.reference)
        return packaged

    monkeypatch.setattr(command, "carry_out", overtaken)
    command.package(name, gguf=gguf_path(), push=True)
    digest = capsys.readouterr().out.strip()
    assert digest_of(server.manifests["a/b/1"]) == digest != other
    assert this_store().get(name).id == other
