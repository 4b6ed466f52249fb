"""Commands whose terminal has another store, other logins or other hubs than the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cli.client import Client
from runner.demo import gguf_path
from runner.errors import RunnerError
from tests.hubs.server import TOKEN, Hub
from tests.hubs.server import running as running_hub
from tests.registry.server import PASSWORD, USER, Registry
from tests.registry.server import running as running_registry
from tests.support.program import runner, succeed

MODEL = "localhost:5000/demo:1"
GGUF = str(gguf_path())
HUB_MODEL = "Org/Demo-GGUF"
CONFLICT = 4


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    return {"RUNNER_MODELS_PATH": str(tmp_path / "elsewhere")}


@pytest.fixture
def packaged(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The model in the daemon's store, and the daemon at work."""
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    digest = succeed("package", "--gguf", GGUF, MODEL).strip()
    succeed("start-runner")
    yield digest
    succeed("stop-runner")


@pytest.mark.parametrize(
    "command",
    [
        ("purge", "--force"),
        ("rm", MODEL),
        ("pull", MODEL),
        ("push", MODEL),
        ("package", "--gguf", GGUF, "--push", MODEL),
        ("run", MODEL, "Hi"),
        ("run", "ai/nothing", "Hi"),
        ("demo", "--run"),
    ],
    ids=" ".join,
)
def test_a_daemon_with_another_store_is_left_alone(
    home: Path, packaged: str, elsewhere: dict[str, str], command: tuple[str, ...]
) -> None:
    succeed("package", "--gguf", GGUF, MODEL, env=elsewhere)
    done = runner(*command, env=elsewhere)
    assert done.returncode == CONFLICT, done.stderr
    said = done.stderr.splitlines()[-1]
    assert f"keeps its models in {home / 'models'}" in said
    assert f"this command in {elsewhere['RUNNER_MODELS_PATH']}" in said
    assert "runner restart-runner" in said
    assert succeed("ls", "-q").strip() == packaged


def test_a_restart_moves_the_daemon_over(packaged: str, elsewhere: dict[str, str]) -> None:
    succeed("package", "--gguf", GGUF, MODEL, env=elsewhere)
    succeed("restart-runner", env=elsewhere)
    assert packaged in succeed("purge", "--force", env=elsewhere)
    assert succeed("ls", "-q").strip() == packaged


def test_another_path_to_the_same_store_is_no_other_store(
    home: Path, packaged: str, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(home / "models")
    assert packaged in succeed("rm", MODEL, env={"RUNNER_MODELS_PATH": str(link)})


@pytest.mark.parametrize("command", ["ls", "ps", "status", "version", "unload --all"])
def test_what_only_looks_needs_no_agreement(
    packaged: str, elsewhere: dict[str, str], command: str
) -> None:
    succeed(*command.split(), env=elsewhere)


@pytest.fixture
def registry(packaged: str) -> Iterator[Registry]:
    with running_registry(Registry(auth="bearer", anonymous=False)) as found:
        yield found


@pytest.mark.parametrize("name", ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE"])
def test_other_logins_are_named(registry: Registry, tmp_path: Path, name: str) -> None:
    model = f"{registry.address}/a/b:1"
    succeed("tag", MODEL, model)
    env = {"DOCKER_CONFIG": str(tmp_path), "REGISTRY_AUTH_FILE": str(tmp_path / "config.json")}
    stdin = f"{PASSWORD}\n"
    succeed("login", registry.address, "-u", USER, "--password-stdin", stdin=stdin, env=env)
    here = {name: env[name]}
    for command in ("push", "pull"):
        done = runner(command, model, env=here)
        assert done.returncode == CONFLICT, done.stderr
        assert f"{name} is " in done.stderr
        assert f"{env[name]} here" in done.stderr
        assert "runner restart-runner" in done.stderr
    succeed("restart-runner", env=here)
    succeed("push", model, env=here)
    succeed("pull", model, env=here)


def test_relative_paths_to_logins_mean_the_same_to_the_daemon(
    home: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = f"{registry.address}/a/b:1"
    succeed("tag", MODEL, model)
    monkeypatch.chdir(tmp_path)
    folder = {"DOCKER_CONFIG": str(tmp_path)}
    stdin = f"{PASSWORD}\n"
    succeed("login", registry.address, "-u", USER, "--password-stdin", stdin=stdin, env=folder)
    named = {"REGISTRY_AUTH_FILE": "config.json"}
    succeed("restart-runner", env=named)
    succeed("push", model, env=named)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub(Hub()) as found:
        yield found


@pytest.mark.parametrize(
    ("name", "model"),
    [("HF_ENDPOINT", f"hf.co/{HUB_MODEL}"), ("MODELSCOPE_ENDPOINT", f"ms://{HUB_MODEL}")],
)
def test_another_address_of_a_hub_is_named(packaged: str, hub: Hub, name: str, model: str) -> None:
    hub.add(HUB_MODEL, {"demo-F16.gguf": gguf_path().read_bytes()})
    mirror = {name: hub.endpoint}
    done = runner("pull", model, env=mirror)
    assert done.returncode == CONFLICT, done.stderr
    assert f"{name} is https://" in done.stderr
    assert f"{hub.endpoint} here" in done.stderr
    assert not hub.requests
    succeed("restart-runner", env=mirror)
    succeed("pull", model, env=mirror)


@pytest.mark.parametrize(("name", "value"), [("HF_HOME", "kept"), ("HF_TOKEN_PATH", "kept/token")])
def test_relative_paths_to_a_hubs_token_mean_the_same_to_the_daemon(
    home: Path,
    packaged: str,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    """Asked as another program would: a command of ours sends its own token along."""
    hub.add(HUB_MODEL, {"demo-F16.gguf": gguf_path().read_bytes()}, private=True)
    for other in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(other, raising=False)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "token").write_text(TOKEN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    monkeypatch.setenv(name, value)
    succeed("restart-runner", env={"HF_ENDPOINT": hub.endpoint})
    client = Client(home / "run" / "runner.sock")
    try:
        *_, last = client.job("/models/create", {"from": f"hf.co/{HUB_MODEL}:F16"})
    except RunnerError as error:
        pytest.fail(error.message)
    assert last["type"] == "success"
