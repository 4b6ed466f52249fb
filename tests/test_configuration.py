"""Settings: order of the sources, origins, and errors that name the key and the next step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.configuration import Configuration, check_file, load, may_set
from runner.errors import BadSettings


def _load(home: Path, variables: Mapping[str, str] | None = None, **flags: object) -> Configuration:
    return load({"RUNNER_HOME": str(home), **(variables or {})}, flags)


def _write(home: Path, text: str) -> Path:
    file = home / "config.yaml"
    file.write_text(text)
    return file


def _origins(configuration: Configuration) -> dict[str, str]:
    return {name: origin for name, _, origin in configuration.rows()}


def test_flags_beat_variables_beat_the_file_beats_defaults(tmp_path: Path) -> None:
    file = _write(tmp_path, "port: 1001\nlog_level: debug\nload_timeout: 5\n")
    found = _load(tmp_path, {"RUNNER_PORT": "1002", "RUNNER_LOG_LEVEL": "error"}, port=1003)
    assert found.settings.port == 1003
    assert found.settings.log_level == "error"
    assert found.settings.load_timeout == 5
    origins = _origins(found)
    assert origins["port"] == "flag"
    assert origins["log_level"] == "$RUNNER_LOG_LEVEL"
    assert origins["load_timeout"] == str(file)
    assert origins["host"] == "default"


def test_an_absent_flag_changes_nothing(tmp_path: Path) -> None:
    assert _load(tmp_path, {"RUNNER_PORT": "1002"}, port=None).settings.port == 1002


def test_sections_merge_field_by_field(tmp_path: Path) -> None:
    file = _write(tmp_path, "proxy: {http: 'http://a:1', no_proxy: x}\n")
    found = _load(tmp_path, {"RUNNER_PROXY__HTTP": "http://b:2"})
    assert found.settings.proxy.http == "http://b:2"
    assert found.settings.proxy.no_proxy == "x"
    assert _origins(found)["proxy.http"] == "$RUNNER_PROXY__HTTP"
    assert _origins(found)["proxy.no_proxy"] == str(file)


def test_backends_are_known_by_their_aliases(tmp_path: Path) -> None:
    _write(tmp_path, "backends: {llamacpp: {context_size: 2048, flags: [--threads, '2']}}\n")
    backend = _load(tmp_path).settings.backend("llama.cpp")
    assert backend.context_size == 2048
    assert backend.flags == ("--threads", "2")


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("prot: 1\n", "unknown setting prot", "did you mean port?"),
        ("backends: {llama.cpp: {contex_size: 1}}\n", "contex_size", "did you mean context_size?"),
        ("proxy: {htp: x}\n", "unknown setting proxy.htp", "did you mean http?"),
        ("port: many\n", "port: write a whole number", "config check"),
        ("preference: llama.cpp\n", "preference: write a list", "config check"),
        ("port: 70000\n", "port: ", "config check"),
        ("host: 0.0.0.0\n", "loopback only", "config check"),
        ("backends: {status: {}}\n", "'status' is not an engine", ""),
        ("ca_file: /nowhere/ca.pem\n", "no such file", "config check"),
        ("port: [1\n", "is not YAML", ""),
        ("- port\n", "must hold `key: value` lines", ""),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, text: str, said: str, hint: str) -> None:
    file = _write(tmp_path, text)
    with pytest.raises(BadSettings) as caught:
        _load(tmp_path)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert str(file) in caught.value.message
    with pytest.raises(BadSettings):
        check_file(file)


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as caught:
        _load(tmp_path, {"RUNNER_PORT": "x"})
    assert "$RUNNER_PORT" in caught.value.message


def test_a_file_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="can't read"):
        _load(tmp_path, {"RUNNER_CONFIG": str(tmp_path / "none.yaml")})


def test_the_home_falls_back_to_the_xdg_data_folder(tmp_path: Path) -> None:
    found = load({"XDG_DATA_HOME": str(tmp_path)})
    assert found.home.root == tmp_path / "runner"
    assert found.home_origin == "default"


def test_every_setting_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    for name, _, _ in load({"RUNNER_HOME": "/nowhere"}).rows():
        assert f"`{name}`" in text, f"docs/settings.md does not tell of {name}"


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    """GitHub Actions has runners of its own, and variables for them."""
    found = _load(tmp_path, {"RUNNER_OS": "Linux", "RUNNER_TEMP": "/tmp", "RUNNER_DEBUG": "1"})
    assert set(_origins(found).values()) == {"default"}


def test_paths_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.pem").write_text("")
    assert _load(tmp_path, {"RUNNER_CA_FILE": "~/ca.pem"}).settings.ca_file == tmp_path / "ca.pem"
    with pytest.raises(BadSettings, match="write the whole path"):
        _load(tmp_path, {"RUNNER_CA_FILE": "ca.pem"})


def test_an_engine_under_two_names_is_one(tmp_path: Path) -> None:
    _write(tmp_path, "backends: {llamacpp: {context_size: 2048}}\n")
    found = _load(tmp_path, {"RUNNER_BACKENDS__LLAMA.CPP__PLACEMENT": "process"})
    backend = found.settings.backend("llama.cpp")
    assert (backend.context_size, backend.placement) == (2048, "process")


def test_the_hubs_own_variables_count_but_ours_go_first(tmp_path: Path) -> None:
    _write(tmp_path, "hub_endpoint: https://file.example\n")
    variables = {"HF_ENDPOINT": "https://hf.example/", "MODELSCOPE_ENDPOINT": ""}
    found = _load(tmp_path, variables)
    assert found.settings.hub_endpoint == "https://hf.example"
    assert found.settings.modelscope_endpoint == "https://modelscope.cn"
    assert _origins(found)["hub_endpoint"] == "$HF_ENDPOINT"
    found = _load(tmp_path, {**variables, "RUNNER_HUB_ENDPOINT": "https://own.example"})
    assert _origins(found)["hub_endpoint"] == "$RUNNER_HUB_ENDPOINT"
    with pytest.raises(BadSettings, match=r"hub_endpoint: write an address.*\$HF_ENDPOINT"):
        _load(tmp_path, {"HF_ENDPOINT": "hf.example"})


def test_tokens_are_never_shown(tmp_path: Path) -> None:
    found = _load(tmp_path, {"HF_TOKEN": "hf_secret"})
    assert "hf_secret" not in str(found) + str(list(found.rows()))


def test_whether_a_setting_may_be_set_is_told_without_reading_all(tmp_path: Path) -> None:
    """Wrong only in doubt, and then `load` says what holds."""
    here = {"RUNNER_HOME": str(tmp_path)}
    assert not may_set({"models_path"}, here)
    assert may_set({"models_path"}, {**here, "RUNNER_MODELS_PATH": "/x"})
    assert not may_set({"models_path"}, {**here, "RUNNER_PORT": "1001"})
    _write(tmp_path, "port: 1001\n# models_path: /x\n")
    assert may_set({"models_path"}, here)
    assert not may_set({"default_tag"}, here)
    assert may_set({"default_tag"}, {**here, "RUNNER_CONFIG": str(tmp_path / "nothing.yaml")})
