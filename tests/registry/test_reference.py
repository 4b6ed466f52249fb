"""References: every spelling, and the grammar as a property."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runner.errors import BadReference
from runner.registry.reference import Defaults, Source, defaults_of, from_long, parse, short_of
from runner.settings import Settings

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "long", "short"),
    [
        ("smollm2", "docker.io/ai/smollm2:latest", "ai/smollm2"),
        ("ai/smollm2", "docker.io/ai/smollm2:latest", "ai/smollm2"),
        ("ai/smollm2:360M-Q4_K_M", "docker.io/ai/smollm2:360M-Q4_K_M", "ai/smollm2:360M-Q4_K_M"),
        ("AI/SmolLM2:Q4_K_M", "docker.io/ai/smollm2:Q4_K_M", "ai/smollm2:Q4_K_M"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "library/alpine"),
        ("index.docker.io/ai/x:1", "docker.io/ai/x:1", "ai/x:1"),
        ("registry-1.docker.io/ai/x", "docker.io/ai/x:latest", "ai/x"),
        ("localhost/x", "localhost/x:latest", "localhost/x"),
        ("localhost:5000/demo:1", "localhost:5000/demo:1", "localhost:5000/demo:1"),
        ("Registry.Example:5000/a/b/c", "registry.example:5000/a/b/c:latest", None),
        (f"r:5000/a/b@{DIGEST}", f"r:5000/a/b@{DIGEST}", f"r:5000/a/b@{DIGEST}"),
        (f"ai/x:1@{DIGEST}", f"docker.io/ai/x:1@{DIGEST}", f"ai/x:1@{DIGEST}"),
        ("127.0.0.1/x", "127.0.0.1/x:latest", "127.0.0.1/x"),
        ("[::1]:5000/x:2", "[::1]:5000/x:2", "[::1]:5000/x:2"),
        ("ai/a.b_c__d---e", "docker.io/ai/a.b_c__d---e:latest", "ai/a.b_c__d---e"),
        ("docker.io/my.org/x", "docker.io/my.org/x:latest", "docker.io/my.org/x"),
        ("oci://ai/x", "docker.io/ai/x:latest", "ai/x"),
        ("docker://localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x"),
        ("hf.co/Org/Re.po", "huggingface.co/Org/Re.po:latest", "hf.co/Org/Re.po"),
        ("HF.co/org/x", "huggingface.co/org/x:latest", "hf.co/org/x"),
        ("hf.co/org/x:Q4_K_M", "huggingface.co/org/x:Q4_K_M", "hf.co/org/x:Q4_K_M"),
        ("hf.co/org/x@main", "huggingface.co/org/x:latest@main", "hf.co/org/x@main"),
        (
            "hf.co/org/x:Q4_K_M@refs/pr/1",
            "huggingface.co/org/x:Q4_K_M@refs/pr/1",
            "hf.co/org/x:Q4_K_M@refs/pr/1",
        ),
        ("hf://org/x", "huggingface.co/org/x:latest", "hf.co/org/x"),
        ("huggingface.co/org/x", "huggingface.co/org/x:latest", "hf.co/org/x"),
        ("https://huggingface.co/org/x", "huggingface.co/org/x:latest", "hf.co/org/x"),
        ("https://huggingface.co/org/x/?a=b#c", "huggingface.co/org/x:latest", "hf.co/org/x"),
        (
            "https://huggingface.co/org/x/tree/refs%2Fpr%2F1",
            "huggingface.co/org/x:latest@refs/pr/1",
            "hf.co/org/x@refs/pr/1",
        ),
        ("ms://Org/x:Q8_0@v1", "modelscope.cn/Org/x:Q8_0@v1", "ms://Org/x:Q8_0@v1"),
        ("modelscope://org/x", "modelscope.cn/org/x:latest", "ms://org/x"),
        ("modelscope.cn/org/x", "modelscope.cn/org/x:latest", "ms://org/x"),
        ("https://www.modelscope.cn/models/org/x", "modelscope.cn/org/x:latest", "ms://org/x"),
        ("modelscope.cn/models/x", "modelscope.cn/models/x:latest", "ms://models/x"),
        ("hf-mirror.example/org/x", "hf-mirror.example/org/x:latest", None),
    ],
)
def test_spellings(text: str, long: str, short: str | None) -> None:
    reference = parse(text)
    assert reference.long == str(reference) == long
    assert reference.short == (short or long.removesuffix(":latest"))
    assert parse(reference.long) == parse(reference.short) == reference


def test_defaults() -> None:
    defaults = Defaults(registry="r.example", organisation="org", tag="stable")
    assert parse("x", defaults).long == "r.example/org/x:stable"
    assert parse("a/x", defaults).long == "r.example/a/x:stable"
    assert parse("x", Defaults(organisation="")).long == "docker.io/library/x:latest"
    assert parse("hf.co/org/x", defaults).long == "huggingface.co/org/x:latest"


def test_the_short_spelling_leaves_out_what_its_defaults_say() -> None:
    defaults = Defaults(registry="r.example", tag="stable")
    assert parse("ai/x", defaults).short == "ai/x"
    assert parse("docker.io/ai/x:latest", defaults).short == "docker.io/ai/x:latest"
    assert parse("r.example/x:1", defaults).short == "r.example/x:1"


def test_every_spelling_a_program_may_compare() -> None:
    assert parse("ai/x").spellings == ("docker.io/ai/x:latest", "ai/x", "ai/x:latest")
    assert parse("hf.co/o/x").spellings[1:] == ("hf.co/o/x", "hf.co/o/x:latest")
    assert parse("localhost:5000/x:1").spellings == ("localhost:5000/x:1",)


def test_whom_a_host_speaks_as() -> None:
    assert parse("hf://o/x").source is Source.HUGGING_FACE
    assert parse("ms://o/x").source is Source.MODELSCOPE
    assert parse("o/x").source is Source.REGISTRY


def test_the_settings_make_the_defaults() -> None:
    settings = Settings(default_organisation="team", default_tag="stable")
    assert defaults_of(settings) == Defaults(organisation="team", tag="stable")
    for wrong in ({"default_organisation": "My Team"}, {"default_tag": ":1"}):
        with pytest.raises(ValidationError):
            Settings.model_validate(wrong)


def test_hosts_that_are_spoken_to() -> None:
    assert parse("ai/x").api_host == "registry-1.docker.io"
    assert parse("localhost:5000/x").api_host == "localhost:5000"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("a b", "space"),
        ("a\x00", "space or control"),
        ("https://docker.io/ai/x", "URL"),
        ("./model.gguf", "path"),
        ("/model.gguf", "path"),
        ("~/model.gguf", "path"),
        (DIGEST, "ID"),
        (DIGEST.removeprefix("sha256:"), "ID"),
        ("ai/x:", "tag is empty"),
        ("ai/x:-1", "not a tag"),
        ("ai/x:" + "t" * 129, "not a tag"),
        ("ai/x@sha256:12", "not a digest"),
        ("ai/x@", "not a digest"),
        ("ai//x", "part of the name is empty"),
        ("ai/x/", "part of the name is empty"),
        ("ai/-x", "can't be part"),
        ("ai/x..y", "can't be part"),
        ("ai/x___y", "can't be part"),
        ("ai/ä", "can't be part"),
        ("-a.example/x", "not a registry host"),
        ("a..b/x", "not a registry host"),
        ("r:0/x", "not a port"),
        ("r:65536/x", "not a port"),
        ("r:port/x", "not a registry host"),
        ("hf.co/x", "does not name a model at huggingface.co"),
        ("hf.co/a/b/c", "does not name a model"),
        ("hf.co/a/..", "does not name a model"),
        ("hf.co/a/b..c", "does not name a model"),
        ("hf.co/a/-b", "does not name a model"),
        ("ms://", "does not name a model at modelscope.cn"),
        ("https://huggingface.co/a/b/blob/main/x.gguf", "does not name a model"),
        ("https://huggingface.co/datasets/a/b", "does not name a model"),
        ("hf.co/a/b:", "tag is empty"),
        ("hf.co/a/b@", "not a revision"),
        ("hf.co/a/b@a/../b", "not a revision"),
        ("hf.co/a/b@/a", "not a revision"),
        ("hf.co/a/b@-a", "not a revision"),
        ("hf.co/a/b@a@b", "not a revision"),
        (f"hf.co/a/b@{DIGEST}", "not a revision"),
        ("hf.co/a/" + "x" * 256, "longer than 255"),
        ("ftp://ai/x", "URL"),
        ("oci://hf.co:x/y", "not a registry host"),
        ("file:///x", "path"),
        ("ai/" + "x" * 256, "longer than 255"),
    ],
)
def test_reasons(text: str, reason: str) -> None:
    with pytest.raises(BadReference, match=reason):
        parse(text)


COMPONENT = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
PORT = st.integers(1, 65535).map(lambda port: f":{port}")
HOST = st.one_of(
    st.just("localhost"),
    st.tuples(LABEL, LABEL).map(".".join),
    st.tuples(LABEL, PORT).map("".join),
    st.tuples(LABEL, LABEL, PORT).map(lambda parts: f"{parts[0]}.{parts[1]}{parts[2]}"),
    st.sampled_from(["docker.io", "index.docker.io", "[::1]", "[fe80::1]:5000"]),
)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
DEFAULT_TAGS = st.sampled_from(["latest", "stable", "Q4_K_M"])
AT_TAG = st.just("") | (TAG | DEFAULT_TAGS).map(lambda tag: f":{tag}")
HUB_PART = st.from_regex(
    r"[A-Za-z0-9_]{1,3}(\.?[A-Za-z0-9_-]{0,3}[A-Za-z0-9_]){0,2}", fullmatch=True
)
REVISION = st.lists(HUB_PART, min_size=1, max_size=3).map(lambda parts: "@" + "/".join(parts))
HUB = st.sampled_from(
    [
        *("hf.co/", "huggingface.co/", "HF.CO/", "hf://", "https://huggingface.co/"),
        *("ms://", "modelscope://", "modelscope.cn/", "https://modelscope.cn/models/"),
    ]
)
DEFAULTS = st.builds(
    Defaults,
    registry=st.sampled_from(["docker.io", "r.example", "localhost:5000"]),
    organisation=st.sampled_from(["ai", "", "team", "my.org", "localhost"]),
    tag=DEFAULT_TAGS,
)


@st.composite
def registry_references(draw: st.DrawFn) -> str:
    path = "/".join(draw(st.lists(COMPONENT, min_size=1, max_size=4)))
    host = draw(HOST.map(lambda host: f"{host}/"))
    if "." not in path.partition("/")[0] and not path.startswith("localhost/"):
        host = draw(st.sampled_from(["", host]))
    scheme = draw(st.sampled_from(["", "", "oci://", "docker://"]))
    digest = draw(st.just("") | st.just(f"@{DIGEST}"))
    return f"{scheme}{host}{path}{draw(AT_TAG)}{digest}"


@st.composite
def hub_references(draw: st.DrawFn) -> str:
    revision = draw(st.just("") | REVISION)
    return f"{draw(HUB)}{draw(HUB_PART)}/{draw(HUB_PART)}{draw(AT_TAG)}{revision}"


@given(registry_references() | hub_references(), DEFAULTS, DEFAULTS)
def test_every_reference_of_the_grammar_is_read(
    text: str, defaults: Defaults, others: Defaults
) -> None:
    reference = parse(text, defaults)
    assert parse(reference.long, others) == reference == from_long(reference.long)
    for spelling in reference.spellings:
        assert parse(spelling, defaults) == reference
    assert short_of(reference.long, defaults) == reference.short
    assert reference.tag or reference.digest
    assert len(reference.short) <= len(reference.long)


ANY = st.text(alphabet="aA0._-:/@[]é ", max_size=30)


@given(st.just("") | HUB, ANY, DEFAULTS)
def test_any_text_is_read_or_refused(prefix: str, text: str, defaults: Defaults) -> None:
    try:
        reference = parse(prefix + text, defaults)
    except BadReference:
        return
    assert parse(reference.long) == parse(reference.short, defaults) == reference


def test_reading_references_is_light() -> None:
    code = "import sys, runner.registry.reference; print('requests' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
