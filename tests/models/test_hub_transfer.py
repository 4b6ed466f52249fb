"""Pull from a stand-in hub: which files, their bytes, the artifact, and everything that fails."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from runner.artifacts.artifact import Manifest, parse_manifest
from runner.artifacts.media import Dialect, LayerKind, ModelFormat
from runner.errors import (
    BadModelFile,
    CorruptTransfer,
    DiskFull,
    ModelNotFound,
    RegistryError,
    RegistryUnauthorized,
    RunnerError,
    ShuttingDown,
    Unsupported,
)
from runner.models.hub_transfer import pull_from_hub
from runner.models.progress import ProgressEvent, ProgressKind, silent
from runner.models.transfer import pull
from runner.registry.reference import parse
from runner.settings import Settings
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from tests.hubs.server import MODIFIED_SECONDS, TOKEN, Hub, commit_of, running
from tests.registry import faults
from tests.registry.content import digest_of
from tests.registry.throttle import Throttle
from tests.weights.gguf_bytes import BOOL, LLAMA, STRING, U16, U32, Typed, gguf, tensor

NAME = "Org/Tiny-GGUF"
PART = 1024 * 1024


def weights(file_type: int = 15, size: int = 0, more: Mapping[str, Typed] = LLAMA) -> bytes:
    """A GGUF of llama.cpp's file type, by default Q4_K_M, with `size` bytes more than it needs."""
    metadata = {**LLAMA, **more, "general.file_type": (U32, file_type)}
    return gguf(metadata) + bytes(range(256)) * (size // 256)


def projector(file_type: int, size: int = 0) -> bytes:
    metadata: Mapping[str, Typed] = {
        "general.architecture": (STRING, "clip"),
        "general.file_type": (U32, file_type),
        "clip.has_vision_encoder": (BOOL, True),
    }
    return gguf(metadata) + bytes(size)


def safetensors(value: int = 1) -> bytes:
    header = json.dumps({"w": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes([value] * 8)


FILES: Mapping[str, bytes] = {
    "README.md": b"# Tiny\n",
    "LICENSE": b"Do what you like.\n",
    "config.json": b"{}",
    "Tiny-Q4_K_M.gguf": weights(15),
    "Tiny-Q8_0.gguf": weights(7),
}
FOLDER: Mapping[str, bytes] = {
    "README.md": b"# Tiny\n",
    "config.json": b'{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64}',
    "model-00001-of-00002.safetensors": safetensors(1),
    "model-00002-of-00002.safetensors": safetensors(2),
    "original/consolidated.00.pth": b"not wanted",
    "pytorch_model.bin": b"not wanted",
    "sub/extra.json": b"{}",
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "LICENSE.txt": b"Do what you like.\n",
}


@pytest.fixture(autouse=True)
def _no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running(Hub()) as serving:
        serving.add(NAME, FILES)
        yield serving


@pytest.fixture
def settings(hub: Hub) -> Settings:
    return Settings(hub_endpoint=hub.endpoint, modelscope_endpoint=hub.endpoint)


def manifest_of(store: ModelStore, model: StoredModel) -> Manifest:
    return parse_manifest(store.manifest(model.id))


def laid_out(store: ModelStore, model: StoredModel) -> dict[str, bytes]:
    layers = manifest_of(store, model).layers
    return {layer.path: store.blobs.read(layer.digest) for layer in layers}


def test_a_gguf_comes_with_its_licence_and_where_it_is_from(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    events: list[ProgressEvent] = []
    reference = parse(f"hf.co/{NAME}")
    model = pull(store, reference, settings, events.append)
    assert laid_out(store, model) == {
        "Tiny-Q4_K_M.gguf": FILES["Tiny-Q4_K_M.gguf"],
        "LICENSE": FILES["LICENSE"],
    }
    manifest = manifest_of(store, model)
    assert manifest.dialect is Dialect.DOCKER_V01
    assert manifest.annotations == {
        "org.opencontainers.image.source": f"{hub.endpoint}/{NAME}",
        "org.opencontainers.image.revision": commit_of(NAME),
    }
    assert (model.tags, model.created) == ((f"huggingface.co/{NAME}:latest",), MODIFIED_SECONDS)
    assert (model.config.format, model.config.architecture) == (ModelFormat.GGUF, "llama")
    assert store.get(reference).id == model.id
    assert store.bundle(model.id).model_file.read_bytes() == FILES["Tiny-Q4_K_M.gguf"]
    assert events[-1].kind is ProgressKind.SUCCESS
    assert events[-1].message == f"Pulled hf.co/{NAME} ({model.short_id}): 2 layers fetched"
    assert events[-2].done == events[-2].total == manifest.size


def test_the_same_commit_gives_the_same_artifact(
    store: ModelStore, settings: Settings, tmp_path: Path
) -> None:
    first = pull_from_hub(store, parse(f"hf.co/{NAME}"), settings)
    other = ModelStore(tmp_path / "other")
    assert pull_from_hub(other, parse(f"hf.co/{NAME}:Q4_K_M"), settings).id == first.id
    again = pull_from_hub(store, parse(f"hf.co/{NAME}:q4_k_m"), settings)
    assert again.id == first.id
    assert len(again.tags) == 2


def test_a_second_pull_fetches_nothing(store: ModelStore, settings: Settings, hub: Hub) -> None:
    for name in (NAME, "org/folder"):
        hub.add(name, FILES if name == NAME else FOLDER)
        first = pull_from_hub(store, parse(f"hf.co/{name}"), settings)
        del hub.requests[:], hub.storage.requests[:]
        events: list[ProgressEvent] = []
        assert pull_from_hub(store, parse(f"hf.co/{name}"), settings, events.append) == first
        assert events[-1].message.endswith("all layers were here")
        assert not hub.seen("/resolve/")
        assert not hub.storage.requests


def test_a_new_commit_fetches_what_is_new(store: ModelStore, settings: Settings, hub: Hub) -> None:
    repository = hub.add("org/folder", FOLDER)
    first = pull_from_hub(store, parse("hf.co/org/folder"), settings)
    newer = commit_of("newer")
    repository.commits[newer] = {**FOLDER, "tokenizer.json": b'{"new": 1}'}
    del hub.requests[:]
    second = pull_from_hub(store, parse("hf.co/org/folder"), settings)
    assert second.id != first.id
    assert second.tags == first.tags
    assert [r.path for r in hub.seen("/resolve/")] == [
        f"/org/folder/resolve/{newer}/tokenizer.json"
    ]


def test_a_revision_is_pinned(store: ModelStore, settings: Settings, hub: Hub) -> None:
    older = commit_of("older")
    repository = hub.repositories[NAME]
    repository.commits = {older: {"Old-Q4_K_M.gguf": weights(14)}, **repository.commits}
    model = pull_from_hub(store, parse(f"hf.co/{NAME}@{older}"), settings)
    assert list(laid_out(store, model)) == ["Old-Q4_K_M.gguf"]
    assert model.tags == (f"huggingface.co/{NAME}:latest@{older}",)
    assert manifest_of(store, model).annotations["org.opencontainers.image.revision"] == older
    assert store.get(f"hf.co/{NAME}@{older}").id == model.id


def test_a_branch_that_moves_meanwhile_changes_nothing(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    repository = hub.repositories[NAME]

    def move(exchange: object) -> bool:
        repository.commits[commit_of("newer")] = {"Tiny-Q4_K_M.gguf": weights(2)}
        return False

    hub.faults.append(("/tree/", move))
    model = pull_from_hub(store, parse(f"hf.co/{NAME}"), settings)
    assert laid_out(store, model)["Tiny-Q4_K_M.gguf"] == FILES["Tiny-Q4_K_M.gguf"]


def test_a_folder_keeps_its_paths(store: ModelStore, settings: Settings, hub: Hub) -> None:
    hub.add("org/folder", FOLDER)
    model = pull_from_hub(store, parse("hf.co/org/folder"), settings)
    wanted = {p: c for p, c in FOLDER.items() if c != b"not wanted"}
    assert laid_out(store, model) == wanted
    assert manifest_of(store, model).dialect is Dialect.DOCKER_V02
    assert (model.config.format, model.config.context_size) == (ModelFormat.SAFETENSORS, 64)
    assert not model.config.pickles
    bundle = store.bundle(model.id)
    found = {p.relative_to(bundle.folder).as_posix() for p in bundle.folder.rglob("*.json")}
    assert {"config.json", "tokenizer.json", "sub/extra.json"} <= found


def test_pickles_are_flagged(store: ModelStore, settings: Settings, hub: Hub) -> None:
    pickled = b"\x80\x02}q\x00."
    hub.add("org/torch", {"config.json": b"{}", "pytorch_model.bin": pickled})
    model = pull_from_hub(store, parse("hf.co/org/torch"), settings)
    assert (model.config.format, model.config.pickles) == (ModelFormat.PYTORCH, True)


def test_shards_come_all_and_in_order(store: ModelStore, settings: Settings, hub: Hub) -> None:
    shards = {
        f"Q8_0/big-Q8_0-{number + 1:05d}-of-00003.gguf": weights(
            7, more={"split.count": (U16, 3), "split.no": (U16, number)}
        )
        for number in (2, 0, 1)
    }
    hub.add("org/big-GGUF", shards)
    model = pull_from_hub(store, parse("hf.co/org/big-GGUF"), settings)
    layers = manifest_of(store, model).layers
    assert [layer.path for layer in layers] == [p.rpartition("/")[2] for p in sorted(shards)]
    assert [layer.digest for layer in layers] == [digest_of(shards[p]) for p in sorted(shards)]
    assert model.config.parameters == "24"


def test_the_projector_is_chosen_by_its_content(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    """Its name lies."""
    hub.add(
        "org/Sees-GGUF",
        {
            "x-Q4_K_M.gguf": weights(),
            "mmproj-F16.gguf": projector(0),
            "mmproj-F32.gguf": projector(1),
            "mmproj-a.gguf": projector(32),
        },
    )
    model = pull_from_hub(store, parse("hf.co/org/Sees-GGUF"), settings)
    (chosen,) = manifest_of(store, model).of(LayerKind.MMPROJ)
    assert chosen.digest == digest_of(projector(1))
    assert store.blobs.size(digest_of(projector(0))) is None


def test_only_the_head_of_a_projector_is_read_to_choose(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    size = 4 * PART
    hub.add(
        "org/Sees-GGUF",
        {
            "x-Q4_K_M.gguf": weights(),
            "mmproj-1.gguf": projector(32, size),
            "mmproj-2.gguf": projector(0, size),
        },
    )
    model = pull_from_hub(store, parse("hf.co/org/Sees-GGUF"), settings)
    (chosen,) = manifest_of(store, model).of(LayerKind.MMPROJ)
    assert chosen.digest == digest_of(projector(32, size))
    sent = sum(r.end - r.start for r in hub.storage.served.parts)
    assert sent < 2 * size


def test_a_long_header_is_read_in_steps(store: ModelStore, settings: Settings, hub: Hub) -> None:
    names = [tensor(f"v.blk.{n}.weight", (1,), 0, 0) for n in range(12_000)]
    metadata: Mapping[str, Typed] = {"general.file_type": (U32, 1)}
    long = gguf(metadata, names, bytes(4))
    assert len(long) > 512 * 1024
    hub.add(
        "org/Sees-GGUF",
        {"x-Q4_K_M.gguf": weights(), "mmproj-a.gguf": long, "mmproj-b.gguf": projector(32)},
    )
    model = pull_from_hub(store, parse("hf.co/org/Sees-GGUF"), settings)
    (chosen,) = manifest_of(store, model).of(LayerKind.MMPROJ)
    assert chosen.digest == digest_of(long)


def test_modelscope_speaks_another_language(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    reference = parse(f"ms://{NAME}:Q8_0")
    model = pull(store, reference, settings)
    assert laid_out(store, model)["Tiny-Q8_0.gguf"] == FILES["Tiny-Q8_0.gguf"]
    assert model.tags == (f"modelscope.cn/{NAME}:Q8_0",)
    annotations = manifest_of(store, model).annotations
    assert annotations["org.opencontainers.image.source"] == f"{hub.endpoint}/models/{NAME}"
    assert annotations["org.opencontainers.image.revision"] == commit_of(NAME)
    del hub.requests[:], hub.storage.requests[:]
    assert pull(store, reference, settings) == model
    assert not hub.seen(r"/repo\?")


def test_two_pulls_at_once_share_the_bytes(store: ModelStore, settings: Settings, hub: Hub) -> None:
    large = weights(15, 4 * PART)
    hub.add("org/large-GGUF", {"x-Q4_K_M.gguf": large})
    hub.throttle = hub.storage.throttle = Throttle(4 * PART)
    models: list[StoredModel] = []
    threads = [
        threading.Thread(
            target=lambda name=name: models.append(
                pull_from_hub(store, parse(f"hf.co/org/large-GGUF{name}"), settings)
            )
        )
        for name in ("", ":Q4_K_M")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({model.id for model in models}) == 1 and len(models) == 2
    assert hub.storage.served.twice(digest_of(large)) == 0


def test_the_token_opens_a_gated_model(
    store: ModelStore, settings: Settings, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[NAME].gated = True
    with pytest.raises(RegistryUnauthorized, match="accept its terms") as caught:
        pull_from_hub(store, parse(f"hf.co/{NAME}"), settings)
    assert f"{hub.endpoint}/{NAME}" in caught.value.hint
    assert store.list() == ()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert pull_from_hub(store, parse(f"hf.co/{NAME}"), settings, token=TOKEN).tags
    assert {r.authorization for r in hub.storage.requests} == {""}


def fails(store: ModelStore, settings: Settings, name: str = f"hf.co/{NAME}") -> RunnerError:
    with pytest.raises(RunnerError) as caught:
        pull_from_hub(store, parse(name), settings)
    assert store.list() == ()
    return caught.value


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        (f"hf.co/{NAME}:Q2_K", ModelNotFound, "has no Q2_K"),
        (f"hf.co/{NAME}@nowhere", ModelNotFound, "no such revision"),
        (f"ms://{NAME}@nowhere", ModelNotFound, "no revision 'nowhere'"),
        ("hf.co/org/none", RegistryUnauthorized, "does not exist, or is private"),
    ],
)
def test_what_is_not_there(
    store: ModelStore, settings: Settings, name: str, error: type[RunnerError], said: str
) -> None:
    found = fails(store, settings, name)
    assert type(found) is error
    assert said in found.message
    assert found.hint


def test_passing_faults_are_overcome(store: ModelStore, settings: Settings, hub: Hub) -> None:
    hub.faults += [
        ("/resolve/.*LICENSE", faults.status(429, retry_after=0)),
        ("/resolve/.*LICENSE", faults.disconnect(3)),
        ("/resolve/.*gguf", faults.status(503)),
    ]
    hub.storage.faults += [faults.disconnect(100), faults.status(500)]
    model = pull_from_hub(store, parse(f"hf.co/{NAME}"), settings)
    assert laid_out(store, model)["Tiny-Q4_K_M.gguf"] == FILES["Tiny-Q4_K_M.gguf"]


def test_addresses_of_storage_that_expire_are_asked_for_anew(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    hub.storage.uses = 1
    hub.storage.faults += [faults.disconnect(10), faults.disconnect(10)]
    assert pull_from_hub(store, parse(f"hf.co/{NAME}"), settings).tags


def test_wrong_bytes_of_a_small_file_are_refused(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    hub.lasting.append(("/resolve/.*LICENSE", faults.wrong_bytes))
    error = fails(store, settings)
    assert isinstance(error, CorruptTransfer)
    assert "LICENSE" in error.message


@pytest.mark.parametrize("path", ["/resolve/.*LICENSE", "/resolve/.*gguf"])
def test_a_web_page_is_refused(store: ModelStore, settings: Settings, hub: Hub, path: str) -> None:
    hub.lasting.append((path, faults.web_page))
    assert "web page" in fails(store, settings).message


def test_wrong_bytes_of_a_large_file_are_refused(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    hub.storage.faults += [faults.wrong_bytes] * 20
    assert isinstance(fails(store, settings), CorruptTransfer)
    hub.storage.faults.clear()
    assert pull_from_hub(store, parse(f"hf.co/{NAME}"), settings).tags


def test_a_large_file_without_a_sha256_is_refused(
    store: ModelStore, settings: Settings, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.models.hub_files.MAX_SMALL_FILE", 10)
    hub.add("org/folder", FOLDER)
    assert isinstance(fails(store, settings, "hf.co/org/folder"), Unsupported)
    assert not hub.storage.requests


@pytest.mark.parametrize("path", ["/etc/x", "a\\b.json", "a//b", "x\x7f.json", "y" * 300])
def test_paths_stay_inside(store: ModelStore, settings: Settings, hub: Hub, path: str) -> None:
    hub.add("org/folder", {**FOLDER, path: b"{}"})
    assert isinstance(fails(store, settings, "hf.co/org/folder"), BadModelFile)
    assert not hub.seen("/resolve/")


@pytest.mark.parametrize("path", ["../out.json", "con/../x.json", ".hidden", ".git/config"])
def test_paths_that_lead_upwards_are_hidden_ones(
    store: ModelStore, settings: Settings, hub: Hub, path: str
) -> None:
    hub.add("org/folder", {**FOLDER, path: b"{}"})
    assert path not in laid_out(store, pull_from_hub(store, parse("hf.co/org/folder"), settings))


def test_paths_that_clash_are_refused(store: ModelStore, settings: Settings, hub: Hub) -> None:
    hub.add("org/folder", {**FOLDER, "sub": b"{}"})
    assert isinstance(fails(store, settings, "hf.co/org/folder"), BadModelFile)


@pytest.mark.parametrize(
    "content", [b"<html>no model</html>", weights()[:60], b"lmgg" + bytes(100)]
)
def test_a_file_that_is_no_gguf_is_called_by_its_name(
    store: ModelStore, settings: Settings, hub: Hub, content: bytes
) -> None:
    hub.add("org/bad-GGUF", {"Bad-Q4_K_M.gguf": content})
    error = fails(store, settings, "hf.co/org/bad-GGUF")
    assert isinstance(error, BadModelFile)
    assert "Bad-Q4_K_M.gguf" in error.message


def test_what_is_no_model_after_all_names_the_repository(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    hub.add("org/odd", {"config.json": b"{}", "pytorch_model.bin": b"something else"})
    error = fails(store, settings, "hf.co/org/odd")
    assert isinstance(error, BadModelFile)
    assert "org/odd holds no weights" in error.message


def test_space_is_checked_before_the_first_byte(
    store: ModelStore, settings: Settings, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(size: int) -> None:
        raise DiskFull("full")

    monkeypatch.setattr(store.blobs, "require_space", full)
    assert isinstance(fails(store, settings), DiskFull)
    assert not hub.storage.requests


def test_a_lasting_failure_says_whose_it_is(
    store: ModelStore, settings: Settings, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.registry.http.MAX_RETRIES", 0)
    hub.lasting.append(("/resolve/", faults.status(500)))
    error = fails(store, settings)
    assert isinstance(error, RegistryError)
    assert "answered 500" in error.message


def test_storage_that_refuses_is_not_taken_for_the_hub(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    hub.storage.faults += [faults.status(403)] * 20
    error = fails(store, settings)
    assert type(error) is RegistryError
    assert "answered 403" in error.message


def test_a_file_that_is_gone_is_named(store: ModelStore, settings: Settings, hub: Hub) -> None:
    gone = {"X-Error-Code": "EntryNotFound"}
    hub.lasting.append(("/resolve/.*LICENSE", lambda exchange: exchange.answer(404, b"", gone)))
    error = fails(store, settings)
    assert type(error) is RegistryError
    assert "sending LICENSE" in error.message


def test_a_cancelled_pull_goes_on_where_it_ended(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    large = weights(15, 32 * PART)
    hub.add("org/large-GGUF", {"x-Q4_K_M.gguf": large})
    cancelled = threading.Event()
    half = 16 * PART  # the journal is written every 8 MiB

    def told(event: ProgressEvent) -> None:
        if event.current >= half:
            cancelled.set()

    with faults.Stall(half + PART) as stall:
        hub.storage.faults.append(stall)
        with pytest.raises(ShuttingDown):
            pull_from_hub(store, parse("hf.co/org/large-GGUF"), settings, told, cancelled)
    assert store.list() == ()
    model = pull_from_hub(store, parse("hf.co/org/large-GGUF"), settings)
    assert laid_out(store, model)["x-Q4_K_M.gguf"] == large
    assert hub.storage.served.twice(digest_of(large)) < half


def test_a_killed_pull_goes_on_where_it_ended(
    store: ModelStore, settings: Settings, hub: Hub
) -> None:
    large = weights(15, 32 * PART)
    hub.add("org/large-GGUF", {"x-Q4_K_M.gguf": large})
    half = 16 * PART  # the journal is written every 8 MiB
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from runner.models.hub_transfer import pull_from_hub\n"
        "from runner.store.store import ModelStore\n"
        "from runner.registry.reference import parse\n"
        "from runner.settings import Settings\n"
        "def told(event):\n"
        "    print(event.current, flush=True)\n"
        "pull_from_hub(ModelStore(Path(sys.argv[1])), parse('hf.co/org/large-GGUF'),\n"
        "              Settings(hub_endpoint=sys.argv[2]), told)\n"
    )
    with faults.Stall(half + PART) as stall:
        hub.storage.faults.append(stall)
        with subprocess.Popen(
            [sys.executable, "-c", script, str(store.root), hub.endpoint],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        ) as process:
            assert process.stdout
            assert any(int(line) >= half for line in process.stdout)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
    assert store.list() == ()
    model = pull_from_hub(store, parse("hf.co/org/large-GGUF"), settings)
    assert laid_out(store, model)["x-Q4_K_M.gguf"] == large
    assert hub.storage.served.twice(digest_of(large)) < half


def test_nothing_else_is_left_on_the_disk(
    store: ModelStore, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    pull_from_hub(store, parse(f"hf.co/{NAME}"), settings, silent)
    assert list(elsewhere.iterdir()) == []
    assert list((store.root / "tmp").iterdir()) == []
    assert not (tmp_path / "hf-home").exists()
