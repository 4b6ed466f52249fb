"""Reading manifests and configs, good ones and bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.artifacts.artifact import (
    Manifest,
    ModelConfig,
    parse_config,
    parse_manifest,
    settle,
    timestamp,
)
from runner.artifacts.media import Dialect, LayerKind, ModelFormat, Packing
from runner.errors import BadModelFile, RunnerError
from tests.artifacts import golden
from tests.models.artifacts import CNCF, Part, cncf, docker, documents

Document = dict[str, Any]
DIGEST = "sha256:" + "ab" * 32


def changed(change: Callable[[Document], object]) -> bytes:
    document: Document = json.loads(golden.MANIFEST)
    change(document)
    return json.dumps(document).encode()


def test_reads_the_golden_artifact() -> None:
    manifest = parse_manifest(golden.MANIFEST)
    assert [(layer.kind, layer.path, layer.size) for layer in manifest.layers] == [
        (LayerKind.GGUF, "golden.gguf", 368),
        (LayerKind.CHAT_TEMPLATE, "chat.jinja", 15),
        (LayerKind.LICENSE, "LICENSE", 11),
    ]
    assert manifest.size == 394
    config, created = parse_config(golden.CONFIG, manifest)
    assert created == golden.CREATED
    assert config.format is ModelFormat.GGUF
    assert (config.quantization, config.parameters, config.size) == ("F16", "8", "16B")
    assert config.context_size == 128
    assert config.metadata["tokenizer.chat_template"] == '<u>&{{ m }}\n"ä"'
    assert config.to_json() == json.loads(golden.CONFIG)["config"]


def test_reads_shards_projectors_and_what_it_does_not_know() -> None:
    def change(document: Document) -> None:
        weights = document["layers"][0]
        second = {**weights, "digest": DIGEST, "annotations": {}}
        other = {"mediaType": "application/x-thing", "digest": DIGEST, "size": 368}
        projector = {"mediaType": "application/vnd.docker.ai.mmproj", "digest": DIGEST, "size": 368}
        document["layers"] += [second, projector, other]

    manifest = parse_manifest(changed(change))
    assert len(manifest.of(LayerKind.GGUF)) == 2
    assert len(manifest.of(LayerKind.MMPROJ)) == 1
    assert manifest.layers[-1].kind is LayerKind.OTHER
    assert len(manifest.blobs) == 5  # the config, three golden layers, one digest thrice


GOLDEN_LAYERS = [
    (LayerKind.LICENSE, "LICENSE", 11),
    (LayerKind.CHAT_TEMPLATE, "chat_template.jinja", 15),
    (LayerKind.FILE, "config.json", 68),
    (LayerKind.FILE, "extra/a&b <\u00e4>.txt", 6),
    (LayerKind.SAFETENSORS, "model.safetensors", 200),
    (LayerKind.FILE, "tokenizer.model", 12),
]


@pytest.mark.parametrize(
    ("dialect", "content", "config", "context_size"),
    [
        (Dialect.DOCKER_V02, golden.FOLDER_MANIFEST, golden.FOLDER_CONFIG, 64),
        (Dialect.MODELPACK, golden.MODELPACK_MANIFEST, golden.MODELPACK_CONFIG, None),
    ],
)
def test_reads_the_golden_folders(
    dialect: Dialect, content: bytes, config: bytes, context_size: int | None
) -> None:
    manifest = parse_manifest(content)
    assert manifest.dialect is dialect
    assert [(layer.kind, layer.path, layer.size) for layer in manifest.layers] == GOLDEN_LAYERS
    read, created = parse_config(config, manifest)
    assert created == golden.CREATED
    assert (read.format, read.quantization, read.parameters, read.architecture) == (
        ModelFormat.SAFETENSORS,
        "F16",
        "8.00",
        "LlamaForCausalLM",
    )
    assert (read.context_size, read.pickles, read.base) == (context_size, False, "")


@pytest.mark.parametrize("key", ["org.opencontainers.image.title", "org.cnai.model.filepath"])
def test_other_annotations_are_paths_where_nothing_else_is(key: str) -> None:
    content = changed(lambda d: d["layers"][0].update(annotations={key: "./m.gguf"}))
    assert parse_manifest(content).layers[0].path == "m.gguf"
    other = {"org.cncf.model.filepath": "own.gguf", key: "m.gguf"}
    content = changed(lambda d: d["layers"][0].update(annotations=other))
    assert parse_manifest(content).layers[0].path == "own.gguf"


def image_config(document: Document) -> None:
    document["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"


def annotated(path: object) -> Callable[[Document], object]:
    return lambda d: d["layers"][0]["annotations"].update({"org.cncf.model.filepath": path})


def files(*paths: str) -> Callable[[Document], object]:
    parts = [docker("model.file", b"x", path).descriptor for path in paths]
    return lambda d: d["layers"].extend(parts)


def other_size(document: Document) -> None:
    document["layers"].append({**document["layers"][0], "size": 5, "annotations": {}})


BAD = {
    "web page": (b" <html>", "web page"),
    "no JSON": (b"{", "not JSON"),
    "no text": (b"\xff\xfe", "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "no object": (b"[]", "no JSON object"),
    "large": (b" " * (4 * 1024 * 1024 + 1), "larger than 4 MiB"),
    "layer count": (changed(lambda d: d.update(layers=[1] * 10_001)), "list of layers"),
    "index": (b'{"schemaVersion":2,"manifests":[]}', "image index"),
    "index by type": (
        b'{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}',
        "image index",
    ),
    "version": (changed(lambda d: d.update(schemaVersion=1)), "schemaVersion"),
    "image": (changed(image_config), "container image, not a model"),
    "other artifact": (
        changed(lambda d: d["config"].update(mediaType="application/x")),
        "artifact of type 'application/x'",
    ),
    "no config": (changed(lambda d: d.pop("config")), "config is no descriptor"),
    "layers": (changed(lambda d: d.update(layers={})), "list of layers"),
    "no layers": (changed(lambda d: d.update(layers=[])), "no model weights"),
    "layer": (changed(lambda d: d["layers"].append(1)), "layer 4 is no descriptor"),
    "media type": (changed(lambda d: d["layers"][0].pop("mediaType")), "no media type"),
    "digest": (changed(lambda d: d["layers"][0].update(digest="md5:1")), "no sha256 digest"),
    "upper digest": (
        changed(lambda d: d["layers"][0].update(digest=DIGEST.upper())),
        "no sha256 digest",
    ),
    "negative": (changed(lambda d: d["layers"][0].update(size=-1)), "no usable size"),
    "huge": (changed(lambda d: d["layers"][0].update(size=2**60)), "no usable size"),
    "text size": (changed(lambda d: d["layers"][0].update(size="3")), "no usable size"),
    "true": (changed(lambda d: d["layers"][0].update(size=True)), "no usable size"),
    "two sizes": (changed(other_size), "two sizes"),
    "annotations": (changed(lambda d: d["layers"][0].update(annotations=[1])), "annotations"),
    "path": (changed(annotated("../../etc/x")), "leads out of the model"),
    "absolute": (changed(annotated("/etc/x")), "leads out of the model"),
    "drive": (changed(annotated("C:x")), "leads out of the model"),
    "backslash": (changed(annotated("a\\..\\x")), "leads out of the model"),
    "control": (changed(annotated("a\nb")), "no usable file name"),
    "number": (changed(annotated(7)), "no text"),
    "same path": (changed(files("a/x", "a/x")), "share the path"),
    "folder and file": (changed(files("a", "a/x")), "is a file and the folder"),
    "path of the weights": (changed(files("model.gguf")), "share the path"),
    "packing": (
        changed(lambda d: d["layers"][0].update(mediaType=f"{CNCF}weight.v1.tar+lz4")),
        r"'application/vnd\.cncf\.model\.weight\.v1\.tar\+lz4', which is not known",
    ),
    "two templates": (
        changed(lambda d: d["layers"].append({**d["layers"][1], "annotations": {}})),
        "2 templates",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_model_is_refused_with_a_reason(name: str) -> None:
    content, reason = BAD[name]
    with pytest.raises(BadModelFile, match=reason):
        parse_manifest(content)


def parsed(dialect: Dialect, *parts: Part, **config: object) -> tuple[Manifest, ModelConfig]:
    content, blob = documents(dialect, parts, config)
    manifest = parse_manifest(content)
    return manifest, parse_config(blob, manifest)[0]


def with_artifact_type(config_type: str, artifact_type: str, *parts: Part) -> bytes:
    document: Document = json.loads(documents(Dialect.MODELPACK, parts, {})[0])
    document["config"]["mediaType"] = config_type
    return json.dumps(document | {"artifactType": artifact_type}).encode()


def test_an_image_like_artifact_is_named_for_its_type() -> None:
    content = with_artifact_type("application/vnd.oci.image.config.v1+json", "text/x-thing")
    with pytest.raises(BadModelFile, match="artifact of type 'text/x-thing'"):
        parse_manifest(content)


def test_what_podman_packs_without_a_config() -> None:
    weights = Part("application/octet-stream", b"w", "a/model.gguf")
    empty, model = (
        "application/vnd.oci.empty.v1+json",
        "application/vnd.cnai.model.manifest.v1+json",
    )
    manifest = parse_manifest(with_artifact_type(empty, model, weights))
    assert [(layer.kind, layer.path) for layer in manifest.layers] == [
        (LayerKind.GGUF, "a/model.gguf")
    ]
    config, created = parse_config(b"{}", manifest)
    assert (config.format, created) == (ModelFormat.GGUF, 0)
    with pytest.raises(BadModelFile, match="artifact of type"):
        parse_manifest(with_artifact_type(empty, "", weights))


def test_archives_have_no_path() -> None:
    parts = (
        cncf("weight.v1.tar", b"w", "weights/"),
        cncf("weight.config.v1.tar+gzip", b"c", "weights/"),
        cncf("code.v1.tar+zstd", b"z", "weights/x.py"),
    )
    manifest, _ = parsed(Dialect.MODELPACK, *parts)
    assert [(layer.path, layer.packing) for layer in manifest.layers] == [
        ("", Packing.TAR),
        ("", Packing.TAR_GZIP),
        ("", Packing.TAR_ZSTD),
    ]


def test_an_archives_path_is_checked_all_the_same() -> None:
    parsed(Dialect.MODELPACK, cncf("weight.v1.tar", b"w", "."))
    for path in ("../x", "/etc", "a/../../b/"):
        with pytest.raises(BadModelFile, match="leads out"):
            parsed(Dialect.MODELPACK, cncf("weight.v1.tar", b"w", path))


def test_an_archive_may_hold_all_there_is() -> None:
    manifest, config = parsed(Dialect.DOCKER_V02, docker("dir.tar", b"t"))
    assert manifest.layers[0].packing is Packing.TAR
    assert config.format is ModelFormat.OTHER


@pytest.mark.parametrize("dialect", [Dialect.DOCKER_V02, Dialect.MODELPACK])
def test_a_folder_may_hold_several_templates(dialect: Dialect) -> None:
    kind = docker if dialect is Dialect.DOCKER_V02 else cncf
    weight, template = (
        ("gguf.v3", "chat.template.jinja")
        if dialect is Dialect.DOCKER_V02
        else ("weight.v1.raw", "weight.config.v1.raw")
    )
    parts = (
        kind(weight, b"g", "m.gguf"),
        kind(template, b"1", "chat_template.jinja"),
        kind(template, b"2", "sub/chat_template.jinja"),
    )
    manifest, _ = parsed(dialect, *parts)
    assert len(manifest.of(LayerKind.CHAT_TEMPLATE)) == 2


def test_files_of_a_folder_must_say_where_they_belong() -> None:
    weights = docker("gguf.v3", b"g", "m.gguf")
    manifest, _ = parsed(Dialect.DOCKER_V02, weights, docker("license", b"l"))
    assert manifest.layers[1].path == ""
    for nameless in ("gguf.v3", "model.file", "mmproj", "chat.template.jinja"):
        with pytest.raises(BadModelFile, match="layer 2 does not say where"):
            parsed(Dialect.DOCKER_V02, weights, docker(nameless, b"x"))


def test_licences_share_a_name_only_where_they_are_never_laid_out() -> None:
    licences = [docker("license", content, "LICENSE") for content in (b"1", b"2")]
    weights = docker("gguf.v3", b"g", "m.gguf")
    parsed(Dialect.DOCKER_V01, weights, *licences)
    with pytest.raises(BadModelFile, match="share the path"):
        parsed(Dialect.DOCKER_V02, weights, *licences)


def test_paths_are_alike_where_files_are_known_by_their_kind() -> None:
    parts = (docker("gguf.v3", b"g", "model.gguf"), docker("gguf.v3.mmproj", b"p", "model.gguf"))
    manifest, _ = parsed(Dialect.DOCKER_V01, *parts)
    assert [layer.path for layer in manifest.layers] == ["model.gguf", "model.gguf"]
    with pytest.raises(BadModelFile, match="share the path"):
        parsed(Dialect.DOCKER_V02, *parts)


def test_archives_of_the_first_specification() -> None:
    parts = [
        Part(f"application/vnd.cnai.model.layer.v1.{packing}", packing.encode(), "model.gguf")
        for packing in ("tar", "tar+gzip")
    ]
    manifest, _ = parsed(Dialect.MODELPACK, *parts)
    assert [(layer.kind, layer.path, layer.packing) for layer in manifest.layers] == [
        (LayerKind.WEIGHT, "", Packing.TAR),
        (LayerKind.WEIGHT, "", Packing.TAR_GZIP),
    ]


@pytest.mark.parametrize(
    "parts",
    [
        (docker("license", b"l", "LICENSE"),),
        (docker("model.file", b"l", "README.md"), docker("license", b"m", "LICENSE")),
    ],
)
def test_a_folder_without_weights_is_no_model(parts: tuple[Part, ...]) -> None:
    with pytest.raises(BadModelFile, match="no model weights"):
        parsed(Dialect.DOCKER_V02, *parts)


def test_a_modelpack_of_data_alone_is_no_model() -> None:
    parts = (cncf("dataset.v1.raw", b"d", "d.csv"), cncf("doc.v1.raw", b"r", "README.md"))
    with pytest.raises(BadModelFile, match="no model weights"):
        parsed(Dialect.MODELPACK, *parts)


V01, V02, PACK = Dialect


@pytest.mark.parametrize(
    ("dialect", "parts", "stated", "expected"),
    [
        (V01, [docker("dduf", b"d")], "diffusers", ModelFormat.DDUF),
        (V01, [docker("dduf", b"d")], "dduf", ModelFormat.DDUF),
        (V01, [docker("gguf.v3", b"g")], "", ModelFormat.GGUF),
        (V01, [docker("gguf.v3.lora", b"g")], "gguf", ModelFormat.GGUF),
        (V01, [docker("safetensors", b"s")], "gguf", ModelFormat.SAFETENSORS),
        (V01, [docker("safetensors", b"s"), docker("dir.tar", b"t")], "diffusers", "diffusers"),
        (V02, [docker("model.file", b"p", "pytorch_model.bin")], "", ModelFormat.PYTORCH),
        (V02, [docker("model.file", b"p", "model.bin")], "ctranslate2", ModelFormat.CTRANSLATE2),
        (V02, [docker("model.file", b"o", "a/model.onnx")], "", ModelFormat.ONNX),
        (V02, [docker("model.file", b"?", "weights.xyz")], "", ModelFormat.OTHER),
        (
            V02,
            [
                docker("model.file", b"{}", "model_index.json"),
                docker("safetensors", b"s", "unet/model.safetensors"),
            ],
            "safetensors",
            ModelFormat.DIFFUSERS,
        ),
        (
            V02,
            [docker("model.file", b"x", "net.xml"), docker("model.file", b"b", "net.bin")],
            "",
            ModelFormat.OPENVINO,
        ),
        (PACK, [cncf("weight.v1.raw", b"g")], "GGUF", ModelFormat.GGUF),
        (PACK, [cncf("weight.v1.raw", b"t", "x.pb")], "tensorflow", ModelFormat.OTHER),
        (PACK, [cncf("weight.v1.raw", b"s", "a.safetensors")], "mlx", ModelFormat.SAFETENSORS),
        (PACK, [cncf("weight.v1.tar", b"s", "w")], "safetensors", ModelFormat.SAFETENSORS),
        (PACK, [cncf("weight.v1.gguf", b"g")], "safetensors", ModelFormat.GGUF),
    ],
)
def test_formats(dialect: Dialect, parts: list[Part], stated: str, expected: ModelFormat) -> None:
    assert parsed(dialect, *parts, format=stated)[1].format == expected


def test_a_modelpack_config() -> None:
    config = {
        "architecture": "transformer",
        "format": "safetensors",
        "paramSize": "8b",
        "precision": "bf16",
        "capabilities": {"reasoning": True},
    }
    weights = cncf("weight.v1.raw", b"s", "m.safetensors")
    content, _ = documents(Dialect.MODELPACK, [weights], {})
    blob = json.dumps(
        {
            "descriptor": {"createdAt": "2024-05-06T07:08:09Z", "family": "llama3"},
            "modelfs": {"type": "layers", "diff_ids": [DIGEST]},
            "config": config,
        }
    ).encode()
    manifest = parse_manifest(content)
    assert parse_config(blob, manifest) == (
        ModelConfig(ModelFormat.SAFETENSORS, "bf16", "8b", "transformer"),
        golden.CREATED,
    )
    blob = blob.replace(b"precision", b"quantization").replace(b"createdAt", b"created")
    config_read, created = parse_config(blob, manifest)
    assert (config_read.quantization, created) == ("bf16", 0)


def test_an_adapter_names_its_base() -> None:
    def change(document: Document) -> None:
        document["layers"][0]["mediaType"] = "application/vnd.docker.ai.gguf.v3.lora"
        document["annotations"] = {"org.opencontainers.image.base.name": "ai/smollm2:latest"}

    manifest = parse_manifest(changed(change))
    assert manifest.layers[0].kind is LayerKind.LORA
    config, _ = parse_config(b'{"config":{"format":"gguf","base":"other"}}', manifest)
    assert config.base == "ai/smollm2:latest"
    config, _ = parse_config(b'{"config":{"base":"other"}}', parse_manifest(golden.MANIFEST))
    assert config.base == "other"


@pytest.mark.parametrize(
    ("parts", "stated", "pickles"),
    [
        ([docker("safetensors", b"s", "m.safetensors")], {}, False),
        ([docker("safetensors", b"s", "m.safetensors")], {"pickles": True}, True),
        ([docker("safetensors", b"s", "m.safetensors")], {"pickles": "no"}, False),
        ([docker("model.file", b"p", "pytorch_model.bin")], {"pickles": False}, True),
        (
            [
                docker("safetensors", b"s", "m.safetensors"),
                docker("model.file", b"t", "training_args.bin"),
            ],
            {},
            False,
        ),
    ],
)
def test_pickles(parts: list[Part], stated: dict[str, object], pickles: bool) -> None:
    assert parsed(Dialect.DOCKER_V02, *parts, **stated)[1].pickles is pickles


def test_what_is_never_laid_out_is_no_pickle() -> None:
    weights = docker("gguf.v3", b"g", "model.bin")  # laid out as model.gguf
    parts = (weights, Part("text/plain", b"p", "pytorch_model.bin"))
    assert not parsed(Dialect.DOCKER_V01, *parts)[1].pickles
    assert parsed(Dialect.DOCKER_V02, *parts)[1].pickles
    assert parsed(Dialect.DOCKER_V01, weights, docker("model.file", b"p", "x.bin"))[1].pickles


def test_an_annotation_warns_of_pickles_in_a_modelpack() -> None:
    content, blob = documents(Dialect.MODELPACK, [cncf("weight.v1.raw", b"p", "w.dat")], {})
    document = json.loads(content)
    assert not parse_config(blob, parse_manifest(content))[0].pickles
    document["annotations"] = {"io.runner.model.pickles": "true"}
    assert parse_config(blob, parse_manifest(json.dumps(document).encode()))[0].pickles


def test_layers_without_a_name_get_one_from_the_format() -> None:
    parts = [
        cncf("weight.v1.raw", b"1"),
        cncf("weight.v1.raw", b"2"),
        cncf("weight.config.v1.raw", b"3", "config.json"),
        cncf("weight.config.v1.raw", b"4"),
        cncf("code.v1.raw", b"5"),
        cncf("doc.v1.tar", b"6"),
    ]
    manifest, config = parsed(Dialect.MODELPACK, *parts, format="gguf")
    layers = settle(manifest, config.format).layers
    assert [(layer.kind, layer.path) for layer in layers] == [
        (LayerKind.GGUF, "model-00001-of-00002.gguf"),
        (LayerKind.GGUF, "model-00002-of-00002.gguf"),
        (LayerKind.FILE, "config.json"),
        (LayerKind.FILE, "_config.json"),
        (LayerKind.CODE, "file"),
        (LayerKind.DOC, ""),
    ]


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("gguf", "model.gguf"),
        ("safetensors", "model.safetensors"),
        ("onnx", "model.onnx"),
        ("pytorch", "model.bin"),
        ("", "model.bin"),
    ],
)
def test_one_layer_without_a_name(stated: str, name: str) -> None:
    manifest, config = parsed(Dialect.MODELPACK, cncf("weight.v1.raw", b"1"), format=stated)
    assert [layer.path for layer in settle(manifest, config.format).layers] == [name]


def test_settling_leaves_docker_artifacts_as_they_are() -> None:
    for content in (golden.MANIFEST, golden.FOLDER_MANIFEST):
        manifest = parse_manifest(content)
        assert settle(manifest, ModelFormat.GGUF) == manifest


def manifest() -> Manifest:
    return parse_manifest(golden.MANIFEST)


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"config":[]}', b"{}", b"\0"])
def test_bad_configs(content: bytes) -> None:
    with pytest.raises(BadModelFile):
        parse_config(content, manifest())


def test_a_config_that_says_little() -> None:
    config, created = parse_config(b'{"config":{"context_size":-1,"gguf":{"a":1}}}', manifest())
    assert created == 0
    assert config.format is ModelFormat.GGUF
    assert config.context_size is None
    assert config.to_json() == {"format": "gguf", "gguf": {"a": ""}}


def test_a_config_that_a_peer_has_made_up_counts_for_nothing() -> None:
    document = {"config": {"format": "gguf"}, "rootfs": {"diff_ids": [DIGEST, "md5:1", 7]}}
    config, _ = parse_config(json.dumps(document).encode(), manifest())
    assert config.format is ModelFormat.GGUF


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-05-06T07:08:09Z", golden.CREATED),
        ("2024-05-06T09:08:09.123456789+02:00", golden.CREATED),
        ("yesterday", 0),
        (None, 0),
        ("9999-99-99T00:00:00Z", 0),
    ],
)
def test_timestamps(text: object, seconds: int) -> None:
    assert timestamp(text) == seconds


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON, st.sampled_from(["schemaVersion", "config", "layers", "mediaType", "annotations"]))
def test_no_json_breaks_the_reader(value: object, place: str) -> None:
    for content in (
        json.dumps(value).encode(),
        changed(lambda d: d.update({place: value})),
        changed(lambda d: d["layers"][0].update({place: value})),
    ):
        try:
            parse_manifest(content)
            parse_config(content, manifest())
        except RunnerError:
            continue
