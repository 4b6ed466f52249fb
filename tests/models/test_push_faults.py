"""Pushes through everything that goes wrong on the way, and what they take in memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import parse_qs

import pytest

from runner.demo import gguf_path
from runner.errors import RegistryError, RegistryUnauthorized, RunnerError, ShuttingDown
from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.models.transfer import PUSHED_AT_ONCE, pull, push
from runner.registry.reference import Reference
from runner.settings import Settings
from runner.store.store import ModelStore
from tests.models.packaging import package_gguf
from tests.models.remote import Remote, remote
from tests.registry import faults
from tests.registry.content import PIECE, Generated, content_of, pieces
from tests.registry.exchange import Exchange
from tests.registry.server import Handler, Registry, digest_of, running

MIB = 1024 * 1024
PATIENCE = 20.0
BLOB, OTHER = Generated(5 * PIECE + 17, "one"), Generated(2 * PIECE, "other")
UPLOAD = "/blobs/uploads/"
MOST_MEMORY = 150_000_000

pytestmark = pytest.mark.usefixtures("waits")


@pytest.fixture
def model() -> Remote:
    return remote(BLOB, OTHER)


@pytest.fixture
def filled(store: ModelStore, model: Remote, settings: Settings) -> ModelStore:
    """A store with the model, which came from somewhere else."""
    with running(Registry()) as source:
        model.serve(source)
        pull(store, Reference(source.address, "a/b", "1"), settings)
    return store


@pytest.fixture
def goal() -> Iterator[Registry]:
    with running(Registry(auth="bearer", separate=True)) as registry:
        yield registry


@pytest.fixture
def pushing(
    filled: ModelStore, model: Remote, goal: Registry, settings: Settings
) -> Callable[[], str]:
    target = Reference(goal.address, "c/d", "2")
    return lambda: push(filled, model.id, settings, target=target)


def arrived(goal: Registry, model: Remote) -> bool:
    """Whether the registry has the model, and each byte of it."""
    return goal.manifests.get("c/d/2") == model.manifest and all(
        whole(goal.blobs[digest]) == whole(blob) for digest, blob in model.blobs.items()
    )


def whole(blob: object) -> bytes:
    assert isinstance(blob, bytes | Generated)
    content = content_of(blob)
    return b"".join(pieces(content, 0, content.size))


def test_everything_arrives_and_the_manifest_goes_last(
    goal: Registry, model: Remote, pushing: Callable[[], str]
) -> None:
    assert pushing() == model.id
    assert arrived(goal, model)
    puts = [request.path for request in goal.requests if request.method == "PUT"]
    assert [path for path in puts if "/manifests/" in path] == [puts[-1]]


def test_nothing_is_sent_twice(goal: Registry, model: Remote, pushing: Callable[[], str]) -> None:
    pushing()
    goal.requests.clear()
    pushing()
    assert goal.seen("POST", UPLOAD) == []
    assert goal.seen("PATCH", UPLOAD) == []


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(
    goal: Registry,
    model: Remote,
    pushing: Callable[[], str],
    waits: list[float | None],
    method: str,
    status: int,
) -> None:
    busy = faults.status(status, retry_after=7)
    goal.faults += [(f"{method} .*{UPLOAD}", busy), ("HEAD", busy), ("PUT .*/manifests/", busy)]
    pushing()
    assert arrived(goal, model)
    assert waits.count(7.0) >= 3


@pytest.mark.parametrize("after", [0, 1, PIECE, 3 * PIECE + 5])
def test_a_disconnect_goes_on_where_it_was(
    goal: Registry, model: Remote, pushing: Callable[[], str], after: int
) -> None:
    goal.lasting.append((f"PUT .*{UPLOAD}", _of_blob(faults.on(1, faults.disconnect(after)))))
    pushing()
    assert arrived(goal, model)
    assert goal.seen("GET", UPLOAD)
    if after > 1:
        assert len(goal.seen("POST", UPLOAD)) - _challenges(goal) == len(model.blobs)


def _of_blob(fault: faults.Fault) -> faults.Fault:
    """For uploads that carry the large blob, with a token."""

    def chosen(exchange: Exchange) -> bool:
        known = bool(exchange.headers.get("Authorization"))
        return known and BLOB.digest.partition(":")[2] in exchange.path and fault(exchange)

    return chosen


def _challenges(goal: Registry) -> int:
    return len([request for request in goal.seen("POST", UPLOAD) if not request.authorization])


def test_an_upload_that_is_forgotten_begins_anew(
    goal: Registry, model: Remote, pushing: Callable[[], str]
) -> None:
    def forget(handler: Handler) -> bool:
        for number in list(goal.uploads):
            goal.uploads[-number] = goal.uploads.pop(number)
        return faults.disconnect(10)(handler)

    goal.faults.append((f"PUT .*{UPLOAD}", forget))
    pushing()
    assert arrived(goal, model)


@pytest.mark.parametrize("place", ["PUT .*/uploads/", "PUT .*/manifests/", "POST"])
def test_a_token_may_expire_in_the_middle(
    goal: Registry, model: Remote, pushing: Callable[[], str], place: str
) -> None:
    def expire(handler: Handler) -> bool:
        """The token that comes with this request, which other threads may hold as well."""
        goal.tokens.discard(handler.headers["Authorization"].removeprefix("Bearer "))
        return False

    goal.faults.append((place, expire))
    pushing()
    assert arrived(goal, model)


@pytest.mark.parametrize("least", [PIECE, 2 * MIB])
def test_chunks_are_as_large_as_the_registry_asks(
    goal: Registry, model: Remote, pushing: Callable[[], str], least: int
) -> None:
    goal.min_chunk = least
    pushing()
    assert arrived(goal, model)
    assert goal.seen("PATCH", UPLOAD)


def test_blobs_are_mounted_from_where_they_are(
    goal: Registry, model: Remote, filled: ModelStore, settings: Settings
) -> None:
    first, second = (Reference(goal.address, name, "2") for name in ("e/f", "c/d"))
    for reference in (first, second):
        filled.tag(model.id, reference)
    push(filled, first, settings)
    goal.requests.clear()
    push(filled, second, settings)
    assert arrived(goal, model)
    assert goal.seen("PUT", UPLOAD) == []
    assert all("mount=" in request.query for request in goal.seen("POST", UPLOAD))


def test_weights_are_mounted_from_the_model_they_were_packaged_from(
    goal: Registry, store: ModelStore, settings: Settings
) -> None:
    first, second = (Reference(goal.address, name, "2") for name in ("e/f", "c/d"))
    base = package_gguf(store, gguf_path(), first)
    push(store, first, settings)
    goal.requests.clear()
    derived = package(store, PackageOrder(second, from_model=first.long, context_size=64))
    assert derived.id != base.id
    assert push(store, second, settings) == digest_of(goal.manifests["c/d/2"]) == derived.id
    weights, config = digest_of(gguf_path().read_bytes()), derived_config(goal)
    assert ("c/d", weights) in goal.links
    sent = {parse_qs(request.query)["digest"][0] for request in goal.seen("PUT", UPLOAD)}
    assert sent == {config}
    mounts = [r.query for r in goal.seen("POST", UPLOAD) if "mount=" in r.query]
    assert {(*parse_qs(q)["mount"], *parse_qs(q)["from"]) for q in mounts} == {(weights, "e/f")}


def derived_config(goal: Registry) -> str:
    digest = json.loads(goal.manifests["c/d/2"])["config"]["digest"]
    assert isinstance(digest, str)
    return digest


def test_several_blobs_go_at_the_same_time(
    goal: Registry, store: ModelStore, settings: Settings
) -> None:
    """Passes only if so many uploads are under way together."""
    model = remote(*(Generated(1000, str(n)) for n in range(PUSHED_AT_ONCE)))
    with running(Registry()) as source:
        model.serve(source)
        pull(store, Reference(source.address, "a/b", "1"), settings)
    together, lock, seen = threading.Barrier(PUSHED_AT_ONCE), threading.Lock(), list[str]()

    def meet(handler: Handler) -> bool:
        with lock:
            seen.append(handler.path)
            is_first = len(seen) <= PUSHED_AT_ONCE
        if is_first:
            together.wait(PATIENCE)
        return False

    goal.lasting.append((f"PUT .*{UPLOAD}", meet))
    push(store, model.id, settings, target=Reference(goal.address, "c/d", "2"))
    assert arrived(goal, model)


LASTING: dict[str, tuple[str, faults.Fault, type[RunnerError]]] = {
    "no upload": (f"POST .*{UPLOAD}", faults.status(500), RegistryError),
    "no place": (f"POST .*{UPLOAD}", lambda e: e.answer(202), RegistryError),
    "refused": (f"PUT .*{UPLOAD}", faults.status(400), RegistryError),
    "forbidden": (f"POST .*{UPLOAD}", faults.status(403), RegistryUnauthorized),
    "full": (f"PUT .*{UPLOAD}", faults.status(507), RegistryError),
    "disconnects": (f"PUT .*{UPLOAD}", faults.disconnect(0), RegistryError),
    "web page": (f"POST .*{UPLOAD}", faults.web_page, RegistryError),
}


@pytest.mark.parametrize("name", LASTING)
def test_no_manifest_goes_where_a_blob_did_not(
    goal: Registry, model: Remote, pushing: Callable[[], str], name: str
) -> None:
    place, fault, error = LASTING[name]
    goal.lasting.append((place, fault))
    with pytest.raises(error) as caught:
        pushing()
    assert caught.value.message
    assert goal.seen("PUT", "/manifests/") == []
    goal.lasting.clear()
    assert pushing() == model.id
    assert arrived(goal, model)


def test_a_cancelled_push_ends_without_a_manifest(
    goal: Registry, model: Remote, filled: ModelStore, settings: Settings
) -> None:
    cancelled = threading.Event()
    target = Reference(goal.address, "c/d", "2")
    with faults.Stall(1000) as stall, ThreadPoolExecutor(1) as pool:
        goal.lasting.append((f"PUT .*{UPLOAD}", _of_blob(faults.on(1, stall))))
        ended = pool.submit(push, filled, model.id, settings, target=target, cancelled=cancelled)
        assert stall.reached.wait(PATIENCE)
        cancelled.set()
        stall.release()
        with pytest.raises(ShuttingDown):
            ended.result(PATIENCE)
    assert goal.seen("PUT", "/manifests/") == []


CANCELLED = """
import sys, threading
from pathlib import Path
from runner.errors import ShuttingDown
from runner.models.transfer import push
from runner.registry.reference import parse
from runner.settings import Settings
from runner.store.store import ModelStore

cancelled = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), cancelled.set()), daemon=True).start()
root, model, target = sys.argv[1:]
try:
    push(ModelStore(Path(root)), model, Settings(), target=parse(target), cancelled=cancelled)
except ShuttingDown:
    print("ended")
"""
"""Pushes until its standard input is closed."""


def test_a_cancelled_push_waits_for_no_answer(
    goal: Registry, model: Remote, filled: ModelStore
) -> None:
    """The registry takes the blob and says nothing, nor does that hold up the process's end."""
    target = f"{goal.address}/c/d:2"
    command = [sys.executable, "-c", CANCELLED, str(filled.root), model.id, target]
    piped = partial(subprocess.Popen[str], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with faults.Stall(BLOB.size - 1) as stall:
        goal.lasting.append((f"PUT .*{UPLOAD}", _of_blob(stall)))
        with piped(command) as process:
            try:
                assert stall.reached.wait(PATIENCE)
                said, _ = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        assert (said, process.returncode) == ("ended\n", 0)
        assert stall.left.wait(PATIENCE)
    assert goal.seen("PUT", "/manifests/") == []


def test_a_large_model_takes_little_memory(store: ModelStore) -> None:
    """In both directions, in processes of their own."""
    large = Generated(256 * MIB, "large")
    model = remote(large)
    with running(Registry()) as source, running(Registry(separate=True)) as goal:
        model.serve(source)
        name, target = f"{source.address}/a/b:1", f"{goal.address}/c/d:2"
        assert peak_memory(store, "pull", name) < MOST_MEMORY
        assert peak_memory(store, "push", name, target) < MOST_MEMORY
        assert goal.manifests["c/d/2"] == model.manifest
        assert goal.blobs[large.digest] is not None
        assert digest_of(goal.manifests["c/d/2"]) == model.id


def peak_memory(store: ModelStore, *arguments: str) -> int:
    command = [sys.executable, "-m", "tests.models.mover", str(store.root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
