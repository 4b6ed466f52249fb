"""The facts of the host are looked up again when they may have changed, and not before."""

from __future__ import annotations

import threading
from dataclasses import replace

from runner.dockerhost.facts import DockerFacts
from runner.errors import DockerUnavailable
from runner.hardware.host import HostFacts
from runner.hardware.watch import GOOD_FOR_S, HostWatch
from tests.engines.stage import DOCKER, PLAIN


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_facts_are_kept_for_a_while_and_then_looked_up_again() -> None:
    clock, looks = Clock(), []

    def look(docker: DockerFacts | None) -> HostFacts:
        looks.append(docker)
        return replace(PLAIN, docker=docker)

    watch = HostWatch(lambda: DOCKER, look, clock)
    assert watch() is watch()
    clock.now += GOOD_FOR_S + 1
    watch()
    assert looks == [DOCKER, DOCKER]


def test_a_docker_engine_that_was_away_is_asked_for_every_time() -> None:
    answers = [DOCKER]

    def docker() -> DockerFacts:
        if len(answers) == 1:
            answers.append(DOCKER)
            raise DockerUnavailable("no Docker Engine answers")
        return DOCKER

    watch = HostWatch(docker, lambda docker: replace(PLAIN, docker=docker), Clock())
    assert watch().docker is None
    assert watch().docker == DOCKER


def test_the_tools_are_not_run_for_every_start_where_there_is_no_docker() -> None:
    asked, looks = [], []

    def docker() -> DockerFacts:
        asked.append(True)
        raise DockerUnavailable("no Docker Engine answers")

    def look(found: DockerFacts | None) -> HostFacts:
        looks.append(found)
        return replace(PLAIN, docker=found)

    watch = HostWatch(docker, look, Clock())
    assert watch() is watch()
    assert len(asked) == 2
    assert looks == [None]


def test_a_look_that_hangs_holds_up_nobody_who_has_facts() -> None:
    clock, hanging, go_on, looks = Clock(), threading.Event(), threading.Event(), []

    def look(docker: DockerFacts | None) -> HostFacts:
        looks.append(docker)
        if len(looks) > 1:
            hanging.set()
            assert go_on.wait(10)
        return replace(PLAIN, docker=docker)

    watch = HostWatch(lambda: DOCKER, look, clock)
    first = watch()
    clock.now += GOOD_FOR_S + 1
    asking = threading.Thread(target=watch)
    asking.start()
    try:
        assert hanging.wait(10)
        assert watch() is first
    finally:
        go_on.set()
        asking.join()
    assert watch() is not first
    assert len(looks) == 2
