"""References: every spelling, and the grammar as a property."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import BadReference
from runner.registry.reference import parse

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
    ],
)
def test_spellings(text: str, long: str, short: str | None) -> None:
    reference = parse(text)
    assert reference.long == str(reference) == long
    assert reference.short == (short or long.removesuffix(":latest"))
    assert parse(reference.long) == parse(reference.short) == reference


def test_defaults() -> None:
    assert parse("x", default_registry="r.example", default_organisation="org").long == (
        "r.example/org/x:latest"
    )
    assert parse("a/x", default_registry="r.example").long == "r.example/a/x:latest"
    assert parse("x", default_organisation="").long == "docker.io/library/x:latest"


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
        ("hf.co/org/x", "not an OCI registry"),
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


@st.composite
def references(draw: st.DrawFn) -> str:
    path = "/".join(draw(st.lists(COMPONENT, min_size=1, max_size=4)))
    host = draw(HOST.map(lambda host: f"{host}/"))
    if "." not in path.partition("/")[0] and not path.startswith("localhost/"):
        host = draw(st.sampled_from(["", host]))
    tag = draw(st.just("") | TAG.map(lambda tag: f":{tag}"))
    digest = draw(st.just("") | st.just(f"@{DIGEST}"))
    return f"{host}{path}{tag}{digest}"


@given(references())
def test_every_reference_of_the_grammar_is_read(text: str) -> None:
    reference = parse(text)
    assert parse(reference.long) == reference
    assert parse(reference.short) == reference
    assert reference.tag or reference.digest
    assert len(reference.short) <= len(reference.long)


@given(st.text(alphabet="aA0._-:/@[]é ", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        reference = parse(text)
    except BadReference:
        return
    assert parse(reference.long) == parse(reference.short) == reference


def test_reading_references_is_light() -> None:
    code = "import sys, runner.registry.reference; print('requests' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
