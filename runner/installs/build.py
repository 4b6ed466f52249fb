"""Builds an engine image from its shipped Dockerfile with Buildx, telling each step it takes."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from urllib.parse import urlsplit
from urllib.request import getproxies

from runner.engines.description import Variant
from runner.engines.engine_file import DOCKERFILE
from runner.errors import BuildFailed, Unavailable, Unsupported
from runner.installs.content import LABEL as CONTENT
from runner.installs.content import content_key
from runner.installs.tools import inherited, spoken
from runner.settings import Settings

NO_LABELS: Mapping[str, str] = {}

Report = Callable[[str], None]
"""Told one line at a time what is being done."""

_STEP = re.compile(r"^#\d+ (?P<step>\[[^\]]*\d+/\d+\] .*)$")
_NOISE = re.compile(r"^#\d+ (?:[\d.]+ )?(?P<text>.*)$")
_COMPILING = re.compile(r"^#\d+ [\d.]+ (?P<text>\[\s*(?P<done>\d+)/(?P<total>\d+)\] .*)$")
_TENTHS = 10
_STEP_WIDTH = 100


def build(
    variant: Variant,
    tag: str,
    settings: Settings,
    docker_url: str,
    report: Report,
    cancelled: threading.Event,
    labels: Mapping[str, str] = NO_LABELS,
) -> None:
    """Leaves the variant's image under `tag`, unless `cancelled` is set before it is done.
    `labels` are for an image whose Dockerfile knows nothing of the runner's.

    Raises Unsupported without Buildx, BuildFailed with its log, Unavailable when cancelled.
    """
    _need_buildx(docker_url)
    command = ["docker", "--host", docker_url, *build_arguments(variant, tag, settings, labels)]

    def hear(lines: Iterator[str]) -> None:
        for step in steps(lines):
            report(step)

    ended = spoken(command, inherited(_environment(settings, docker_url)), cancelled, hear)
    if cancelled.is_set():
        raise Unavailable("the build was given up", hint="a second try keeps the finished steps")
    if ended.code != 0:
        raise _failure(variant, ended.last)


def build_arguments(
    variant: Variant, tag: str, settings: Settings, labels: Mapping[str, str] = NO_LABELS
) -> list[str]:
    """Everything after `docker`; proxies and the private CA go in as the settings say. A proxy is
    named alone: Docker takes its value, with a password perhaps, out of its environment."""
    arguments = ["buildx", "build", "--load", "--progress", "plain", "--tag", tag]
    for name in _proxies(settings):
        arguments += ["--build-arg", name]
    if settings.ca_file is not None:
        arguments += ["--secret", f"id=ca,src={settings.ca_file}"]
    for name, file in sorted(settings.build_secrets.items()):
        arguments += ["--secret", f"id={name},src={file}"]
    for name, source in sorted(settings.build_contexts.items()):
        arguments += ["--build-context", f"{name}={source}"]
    labels = {**labels, CONTENT: content_key(variant, settings.build_contexts)}
    for name, text in sorted(labels.items()):
        arguments += ["--label", f"{name}={text}"]
    return [*arguments, "--file", str(dockerfile(variant)), str(variant.context)]


def dockerfile(variant: Variant) -> Path:
    """Where its Dockerfile is; what it may copy from the context stands beside it."""
    return variant.folder / DOCKERFILE


def steps(lines: Iterator[str]) -> Iterator[str]:
    """What a person wants to see of BuildKit's plain log: each step once, long ones in tenths."""
    seen: set[str] = set()
    tenth = 0
    for line in lines:
        if (step := _STEP.match(line)) and step["step"] not in seen:
            seen.add(step["step"])
            tenth = 0
            yield _shortened(step["step"])
        elif compiling := _COMPILING.match(line):
            done, total = int(compiling["done"]), int(compiling["total"])
            if total and done * _TENTHS // total > tenth:
                tenth = done * _TENTHS // total
                yield f"compiled {done} of {total}"


def _shortened(step: str) -> str:
    """One line of a terminal: a RUN may hold a whole script."""
    return shorten(step, _STEP_WIDTH, placeholder=" …")


def _proxies(settings: Settings) -> Mapping[str, str]:
    proxy = settings.proxy
    here = getproxies()
    named = {
        "HTTP_PROXY": proxy.http or here.get("http", ""),
        "HTTPS_PROXY": proxy.https or here.get("https", ""),
        "NO_PROXY": proxy.no_proxy or here.get("no", ""),
    }
    return {name: value for name, value in named.items() if value}


def _environment(settings: Settings, docker_url: str) -> Mapping[str, str]:
    """The proxies, which are for what a build fetches: Docker itself is spoken to without."""
    proxies = _proxies(settings)
    docker = urlsplit(docker_url).hostname
    direct = ",".join(filter(None, (proxies.get("NO_PROXY"), docker)))
    return {**proxies, "NO_PROXY": direct} if direct else proxies


def _need_buildx(docker_url: str) -> None:
    try:
        found = subprocess.run(
            ["docker", "--host", docker_url, "buildx", "version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise _no_buildx("the `docker` command is missing") from None
    if found.returncode != 0:
        raise _no_buildx("Docker has no Buildx")


def _no_buildx(what: str) -> Unsupported:
    return Unsupported(
        f"engine images are built with Buildx, and {what}",
        hint="install Docker's buildx plugin (package docker-buildx-plugin or docker-buildx), "
        "or set `image_registry` to pull ready images",
    )


def _failure(variant: Variant, last: Sequence[str]) -> BuildFailed:
    lines = tuple(_said(line) for line in last)
    return BuildFailed(
        f"the image of {variant.label} did not build", hint=_build_hint("\n".join(lines)), log=lines
    )


def _said(line: str) -> str:
    found = _NOISE.match(line)
    return found["text"] if found else line


def _build_hint(log: str) -> str:
    if "no space left" in log:
        return "the disk is full: `docker system df` shows what takes the space"
    if "failed to resolve source metadata" in log or "failed to do request" in log:
        return (
            "the base image could not be pulled: check the network and `proxy`, or name another "
            "base with the setting `build_contexts`, then `runner restart-runner`"
        )
    return "the last lines above say what went wrong; a second try keeps the finished steps"
