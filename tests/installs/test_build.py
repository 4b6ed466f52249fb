"""Builds: the command line, the steps told, and what a failure says."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from runner.errors import Unavailable, Unsupported
from runner.installs.build import build, build_arguments, steps
from runner.settings import Proxy, Settings

FOLDER = Path("/images/llama.cpp/cpu")

PLAIN = """\
#0 building with "default" instance using docker driver
#1 [internal] load build definition from Dockerfile
#5 [build 1/4] RUN apt-get update
#5 0.311 Get:1 some package
#5 DONE 3.0s
#6 [build 2/4] RUN ninja
#6 1.000 [1/200] Building CXX object a.o
#6 2.000 [21/200] Building CXX object b.o
#6 3.000 [22/200] Building CXX object c.o
#6 4.000 [45/200] Building CXX object d.o
#5 [build 1/4] RUN apt-get update
"""


def test_each_step_is_told_once_and_compiling_in_tenths() -> None:
    assert list(steps(iter(PLAIN.splitlines()))) == [
        "[build 1/4] RUN apt-get update",
        "[build 2/4] RUN ninja",
        "compiled 21 of 200",
        "compiled 45 of 200",
    ]


def test_the_build_honours_proxies_ca_and_contexts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    settings = Settings(
        proxy=Proxy(http="http://p:1", no_proxy="localhost"),
        ca_file=ca,
        build_secrets={"pip": Path("/etc/pip.conf")},
        build_contexts={"debian:bookworm-slim": "docker-image://base"},
    )
    assert build_arguments(FOLDER, "t:1", settings) == [
        *("buildx", "build", "--load", "--progress", "plain", "--tag", "t:1"),
        *("--build-arg", "HTTP_PROXY=http://p:1"),
        *("--build-arg", "NO_PROXY=localhost"),
        *("--secret", f"id=ca,src={ca}"),
        *("--secret", "id=pip,src=/etc/pip.conf"),
        *("--build-context", "debian:bookworm-slim=docker-image://base"),
        str(FOLDER),
    ]


def test_without_docker_the_error_names_the_next_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported) as caught:
        build(FOLDER, "t:1", Settings(), "unix:///nowhere.sock", print, Event())
    assert "the `docker` command is missing" in caught.value.message
    assert "buildx" in caught.value.hint


def test_without_buildx_the_error_names_the_next_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho \"docker: 'buildx' is not a docker command\" >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(Unsupported, match="Docker has no Buildx"):
        build(FOLDER, "t:1", Settings(), "unix:///nowhere.sock", print, Event())


def test_the_environments_proxies_hold_where_the_settings_say_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://here:1")
    monkeypatch.setenv("http_proxy", "http://here:1")
    arguments = build_arguments(FOLDER, "t:1", Settings())
    assert "HTTP_PROXY=http://here:1" in arguments


def test_a_build_is_given_up_when_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(
        "#!/bin/sh\n"
        'if [ "$4" = version ]; then exit 0; fi\n'
        "echo '#1 [build 1/2] RUN something long'\n"
        "exec sleep 600\n"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    cancelled = Event()
    with pytest.raises(Unavailable, match="given up"):
        build(FOLDER, "t:1", Settings(), "unix:///x.sock", lambda _: cancelled.set(), cancelled)
