"""Builds: the command line, the steps told, and what a failure says."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from runner.engines.description import Form, Variant
from runner.errors import BuildFailed, Unavailable, Unsupported
from runner.installs import tools
from runner.installs.build import build, build_arguments, steps
from runner.installs.content import LABEL as CONTENT
from runner.installs.content import content_key
from runner.names import Accelerator
from runner.settings import Proxy, Settings

IMAGES = Path("/images")
VARIANT = Variant(
    engine="llama.cpp",
    name="cpu",
    accelerator=Accelerator.CPU,
    version="b1",
    form=Form.IMAGE,
    platforms=("linux/amd64",),
    folder=IMAGES / "llama.cpp" / "cpu",
    context=IMAGES,
)

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
    assert build_arguments(VARIANT, "t:1", settings) == [
        *("buildx", "build", "--load", "--progress", "plain", "--tag", "t:1"),
        *("--build-arg", "HTTP_PROXY"),
        *("--build-arg", "NO_PROXY"),
        *("--secret", f"id=ca,src={ca}"),
        *("--secret", "id=pip,src=/etc/pip.conf"),
        *("--build-context", "debian:bookworm-slim=docker-image://base"),
        *("--label", f"{CONTENT}={content_key(VARIANT, settings.build_contexts)}"),
        *("--file", "/images/llama.cpp/cpu/Dockerfile", "/images"),
    ]


def test_another_base_is_another_content() -> None:
    one, two = ({"debian:bookworm-slim": f"docker-image://{base}"} for base in "ab")
    keys = {content_key(VARIANT), content_key(VARIANT, one), content_key(VARIANT, two)}
    assert len(keys) == 3
    assert content_key(VARIANT, {}) == content_key(VARIANT)


def test_labels_go_on_top_of_what_the_dockerfile_says() -> None:
    labels = {"io.runner.variant": "cpu", "io.runner.engine": "mine"}
    arguments = build_arguments(VARIANT, "t:1", Settings(), labels)
    for label in ("io.runner.variant=cpu", "io.runner.engine=mine"):
        assert arguments[arguments.index(label) - 1] == "--label"


def test_without_docker_the_error_names_the_next_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported) as caught:
        build(VARIANT, "t:1", Settings(), "unix:///nowhere.sock", print, Event())
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
        build(VARIANT, "t:1", Settings(), "unix:///nowhere.sock", print, Event())


@pytest.mark.parametrize("said", [True, False])
def test_a_proxys_password_is_in_no_argument(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: bool
) -> None:
    """Of the settings, else of the environment. Docker itself is not asked through it."""
    proxy = "http://me:secret@here:1"
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    if not said:
        monkeypatch.setenv("http_proxy", proxy)
    settings = Settings(proxy=Proxy(http=proxy, no_proxy="a")) if said else Settings()
    docker = tmp_path / "docker"
    docker.write_text(
        "#!/bin/sh\n"
        'if [ "$4" = version ]; then exit 0; fi\n'
        f'echo "$@" > {tmp_path}/arguments\n'
        f'echo "$HTTP_PROXY $NO_PROXY" > {tmp_path}/environment\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    build(VARIANT, "t:1", settings, "tcp://dock:2376", print, Event())
    arguments = (tmp_path / "arguments").read_text()
    assert "--build-arg HTTP_PROXY --" in arguments
    assert "secret" not in arguments
    direct = "a,dock" if said else "dock"
    assert (tmp_path / "environment").read_text() == f"{proxy} {direct}\n"


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
        build(VARIANT, "t:1", Settings(), "unix:///x.sock", lambda _: cancelled.set(), cancelled)


def test_a_build_that_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(
        "#!/bin/sh\n"
        'if [ "$4" = version ]; then exit 0; fi\n'
        "trap '' TERM\n"
        "echo '#1 [build 1/2] RUN something long'\n"
        "while :; do :; done\n"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(tools, "END_WAIT_S", 0.3)
    cancelled = Event()
    with pytest.raises(Unavailable, match="given up"):
        build(VARIANT, "t:1", Settings(), "unix:///x.sock", lambda _: cancelled.set(), cancelled)


def test_a_failed_build_names_the_variant_and_its_last_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(
        "#!/bin/sh\n"
        'if [ "$4" = version ]; then exit 0; fi\n'
        "echo '#7 1.234 write error: no space left on device'\n"
        "exit 1\n"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(BuildFailed, match=r"the image of llama\.cpp/cpu did not build") as caught:
        build(VARIANT, "t:1", Settings(), "unix:///x.sock", print, Event())
    assert caught.value.log == ("write error: no space left on device",)
    assert "the disk is full" in caught.value.hint
