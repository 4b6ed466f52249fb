"""Processes that work on a model store are killed, and killed again: it is never wrong.

Each round starts where the last one's killing left the store. A child says what it does, step by
step (see `nursery`), and dies by SIGKILL: half of the time at the very moment of a step chosen by
lot, else up to the length of a whole action after it. After every kill everything that has a name
is read and hashed; every few rounds an undisturbed child has to get its work done.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.artifacts.artifact import parse_manifest
from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.store.archive import export_models
from runner.store.store import ModelStore
from tests.models.remote import remote
from tests.registry.content import Generated, digest_of
from tests.store.nursery import Nursery, Order, Outcome, nursery
from tests.weights.gguf_bytes import gguf

KILLS = 300
MAX_ROUNDS = 900
CHECKED_EVERY = 5
RATE = 60_000_000
MIB = 1024 * 1024
SEED = int(os.environ.get("TEST_KILLS_SEED") or secrets.randbits(32))

PHASES = {
    ("pull", "manifest"),
    ("pull", "config"),
    ("pull", "download"),
    ("pull", "verify"),
    ("pull", "blob"),
    ("pull", "manifest-write"),
    ("pull", "index"),
    ("tag", "index"),
    ("bundle", "bundle"),
    ("remove", "index"),
    ("remove", "blob"),
    ("remove", "manifest-write"),
    ("remove", "bundle"),
    ("prune", "blob"),
    ("prune", "manifest-write"),
    ("package", "copy"),
    ("package", "blob"),
    ("package", "manifest-write"),
    ("package", "index"),
    ("link", "blob"),
    ("link", "index"),
    ("import", "copy"),
    ("import", "blob"),
    ("import", "index"),
}
"""What is done, and the step of it: each has to be hit."""

Phase = tuple[str, str]


class Models:
    """What the registry holds: two models that share a shard, and one on its own."""

    def __init__(self) -> None:
        shared, own = Generated(3 * MIB + 7, "shared"), Generated(MIB + 1, "own")
        self.all = {
            "one": remote(shared, own),
            "two": remote(shared, Generated(700_001, "two")),
            "three": remote(Generated(4 * MIB, "three")),
        }

    def configs(self) -> tuple[str, ...]:
        return tuple(digest_of(model.config) for model in self.all.values())

    def upload(self, address: str) -> None:
        for name, model in self.all.items():
            model.upload(address, f"kills/{name}", "1")


@contextmanager
def registry() -> Iterator[str]:
    """The address of one in a process of its own."""
    command = [sys.executable, "-m", "tests.registry.server", "--rate", str(RATE)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


class Rounds:
    """Deals out who is killed when, and looks at what is left."""

    def __init__(self, children: Nursery, root: Path, address: str, sources: Path) -> None:
        self._children = children
        self._root = root
        self._address = address
        self._sources = sources
        self._chance = random.Random(SEED)
        self._models = Models()
        self._steps: dict[Phase, int] = {}
        self._seconds: dict[str, float] = {}
        self.kills: Counter[Phase] = Counter()
        self.last = ""
        self._models.upload(address)

    def rehearse(self) -> None:
        """Every action once, undisturbed: which steps there are, and how many of each."""
        for action in self._actions():
            outcome = self._undisturbed(action)
            self._seconds[action] = outcome.seconds
            for step, count in Counter(outcome.steps).items():
                self._steps[action, step] = count
        lacking = {phase for phase in PHASES if phase not in self._steps}
        assert not lacking, f"these never happen: {sorted(lacking)}"

    def one(self, number: int) -> None:
        """One child is started, and killed by lot if it does not end before."""
        phase = self._least_killed()
        ordinal = self._chance.randrange(self._steps[phase])
        hold = self._chance.random() < 0.5
        self._kill(
            phase, ordinal, -1.0 if hold else self._chance.uniform(0, self._seconds[phase[0]])
        )
        if number % CHECKED_EVERY == 0:
            self._undisturbed(self._chance.choice(self._actions()))

    def each_step(self, action: str) -> None:
        """Kills at the very moment of every step that the action has, and has it done again."""
        steps = [(step, n) for (a, step), n in sorted(self._steps.items()) if a == action]
        for step, count in steps:
            for ordinal in range(count):
                self._kill((action, step), ordinal, -1.0)
                self._undisturbed(action)
                self.tidy()

    def end(self) -> None:
        """The last word: all that was there can be had, and nothing else is left."""
        for name in self._models.all:
            self._run(("pull", self._name(name)))
        self.tidy()

    def tidy(self) -> None:
        """What belongs to nothing goes, and nothing else is lost."""
        store = ModelStore(self._root)
        store.prune(everything=True)
        check(self._root, f"seed {SEED}, after a prune")
        assert left_over(store) == set(), f"seed {SEED}, after {self.last}"

    def _kill(self, phase: Phase, ordinal: int, delay: float) -> None:
        before, action = self._task(phase[0])
        configs = self._models.configs()
        order = Order(str(self._root), action, before, configs, phase[1], ordinal, delay)
        outcome = self._children.run(order)
        self.last = f"{order}, {outcome}"
        said = f"seed {SEED}, {self.last}"
        assert not outcome.hung, said
        assert not outcome.error, said
        if outcome.killed and outcome.step:
            self.kills[phase[0], outcome.step] += 1
        check(self._root, said)

    def _actions(self) -> list[str]:
        return sorted({action for action, _ in PHASES})

    def _least_killed(self) -> Phase:
        fewest = min(self.kills[phase] for phase in PHASES)
        return self._chance.choice(sorted(p for p in PHASES if self.kills[p] == fewest))

    def _undisturbed(self, action: str) -> Outcome:
        before, task = self._task(action)
        return self._run(task, before)

    def _run(self, task: tuple[str, ...], before: tuple[tuple[str, ...], ...] = ()) -> Outcome:
        order = Order(str(self._root), task, before, self._models.configs())
        outcome = self._children.run(order)
        said = f"seed {SEED}, {order}, {outcome}"
        assert not (outcome.hung or outcome.killed or outcome.error), said
        check(self._root, said)
        return outcome

    def _task(self, action: str) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
        """What makes an action do something, and the action."""
        name = self._name(self._chance.choice(sorted(self._models.all)))
        mine = f"mine/{action}:1"
        fresh = (("lack", mine), ("prune",))
        tasks: dict[str, tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]] = {
            "pull": ((("lack", name),), ("pull", name)),
            "tag": ((("have", name), ("lack", mine)), ("tag", name, mine)),
            "bundle": ((("lack", name), ("have", name)), ("bundle", name)),
            "remove": ((("have", name), ("bundle", name)), ("remove", name)),
            "prune": ((("orphan",),), ("prune",)),
            "package": (fresh, ("package", str(self._sources / "package.gguf"), mine)),
            "link": (fresh, ("link", str(self._sources / "link.gguf"), mine)),
            "import": (fresh, ("import", str(self._sources / "layout.tar"))),
        }
        return tasks[action]

    def _name(self, model: str) -> str:
        return f"{self._address}/kills/{model}:1"


def check(root: Path, said: str) -> None:
    """Whatever has a name is whole, and whatever is called by its digest has it."""
    store = ModelStore(root)
    right = {path.name for path in (root / "blobs" / "sha256").glob("*") if is_right(path)}
    named = {path.name for path in (root / "blobs" / "sha256").glob("*")}
    assert named == right, said
    for model in store.list():
        manifest = store.manifest(model.id)
        assert digest_of(manifest) == model.id, said
        for blob in parse_manifest(manifest).blobs:
            assert store.blobs.size(blob.digest) == blob.size, f"{model.tags} lacks a blob; {said}"


def is_right(path: Path) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.name


def left_over(store: ModelStore) -> set[str]:
    """Files that no model needs."""
    files = {
        path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file()
    }
    needed = {"layout.json", "lock", "models.json", "models.json.previous", "links.json"}
    for model in store.list():
        name = model.id.removeprefix("sha256:")
        needed.add(f"manifests/sha256/{name}")
        blobs = parse_manifest(store.manifest(model.id)).blobs
        needed |= {f"blobs/sha256/{blob.digest.removeprefix('sha256:')}" for blob in blobs}
        needed |= {file for file in files if file.startswith(f"bundles/sha256/{name}/")}
    return files - needed


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in ("package", "link", "import"):
        content = gguf(data=Generated(2 * MIB, name).read(0, 2 * MIB))
        (folder / f"{name}.gguf").write_bytes(content)
    elsewhere = ModelStore(tmp_path / "elsewhere")
    reference = elsewhere.reference("mine/import:1")
    package(elsewhere, PackageOrder(reference, gguf=folder / "import.gguf"))
    export_models(elsewhere, [reference.long], folder / "layout.tar")
    return folder


@pytest.fixture
def rounds(tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rounds]:
    for module in ("blobs", "bundles"):  # whatever a dead process left is old enough
        monkeypatch.setattr(f"runner.store.{module}.ABANDONED_AFTER", 0.0)
    with registry() as address, nursery() as children:
        rounds = Rounds(children, tmp_path / "models", address, sources)
        rounds.rehearse()
        yield rounds


def test_no_kill_leaves_a_wrong_store(rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    number = 0
    while rounds.kills.total() < KILLS:
        number += 1
        assert number <= MAX_ROUNDS, f"seed {SEED}: only {rounds.kills.total()} kills"
        rounds.one(number)
    rounds.end()
    with capsys.disabled():
        print(f"\n{KILLS} kills in {number} rounds, seed {SEED}:")
        for (action, step), count in sorted(rounds.kills.items()):
            print(f"  {action:8} {step:15} {count}")
    assert not {phase for phase in PHASES if not rounds.kills[phase]}


@pytest.mark.parametrize("action", sorted({action for action, _ in PHASES}))
def test_a_kill_at_each_step_leaves_nothing_behind(rounds: Rounds, action: str) -> None:
    rounds.each_step(action)
