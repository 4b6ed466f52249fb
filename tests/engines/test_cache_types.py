"""The types of a KV cache: read out of captured helps, and refused where an engine has them not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.engines.cache_types import OPTIONS, cache_types, wrong_cache_type
from runner.engines.catalog import images_folder
from runner.engines.options import Options
from runner.engines.registered import engines
from tests.engines.test_custom import engine as described

ENGINES = engines()

LLAMA = """\
-ctk,  --cache-type-k TYPE              KV cache data type for K
                                        allowed values: f32, q8_0
                                        (default: f16)
-ctkx, --cache-type-k-extra TYPE        another one
                                        (default: f16)
-x,    --other TYPE                     something else
                                        allowed values: a, b
"""
ARGPARSE = """\
usage: serve [--kv-cache-dtype {auto,fp8}] [--kv-cache-dtype-skip-layers LAYERS [LAYERS ...]]

options:
  --kv-cache-dtype {auto,fp8}, --kv {auto,fp8}
                        Data type for kv cache storage.
  --kv-cache-dtype-skip-layers LAYERS [LAYERS ...]
                        Layer patterns
  --kind {a,b}          Something else
"""


def test_they_are_read_in_both_forms_under_every_spelling() -> None:
    assert cache_types(LLAMA) == dict.fromkeys(["-ctk", "--cache-type-k"], ("f32", "q8_0"))
    assert cache_types(ARGPARSE) == dict.fromkeys(["--kv-cache-dtype", "--kv"], ("auto", "fp8"))


def test_each_engine_that_ships_knows_the_types_of_every_option_that_it_has() -> None:
    """And takes each of those that its help names."""
    for engine in ENGINES.values():
        for option in OPTIONS:
            wrong = wrong_cache_type(engine, {option: "no-such"}, ())
            assert (wrong is not None) == (option in engine.supported), (engine, option)
    text = (images_folder() / "llama.cpp" / "help.txt").read_text()
    for types in cache_types(text).values():
        for one in types:
            assert wrong_cache_type(ENGINES["llama.cpp"], {"cache_type_k": one}, ()) is None


@pytest.mark.parametrize(
    ("engine", "values", "flags", "said"),
    [
        ("llama.cpp", {"cache_type_v": "q5"}, [], "did you mean q5_"),
        ("llama.cpp", {}, ["--no-warmup", "-ctkd", "q4_2"], "did you mean q4_"),
        ("llama.cpp", {}, ["--spec-draft-type-v=x"], "one of: f32"),
        ("vllm", {"kv_cache_dtype": "fp8_e5m3"}, [], "did you mean fp8_e"),
        ("vllm", {}, ["--kv-cache-dtype", "bfloat"], "did you mean bfloat16?"),
        ("mlx-lm", {"kv_cache_dtype": "fp8"}, [], "one of auto, int8, int4"),
    ],
)
def test_one_that_an_engine_has_not_is_refused(
    engine: str, values: Mapping[str, str], flags: list[str], said: str
) -> None:
    error = wrong_cache_type(ENGINES[engine], values, flags)
    assert error is not None
    assert said in error.hint


@pytest.mark.parametrize(
    ("engine", "values", "flags"),
    [
        ("llama.cpp", {"cache_type_k": "iq4_nl"}, ["-ctkd", "f16", "--temp", "1"]),
        ("vllm", {"kv_cache_dtype": "fp8"}, ["--kv-cache-dtype", "auto"]),
        ("mlx-lm", {"kv_cache_dtype": "int4"}, []),
    ],
)
def test_one_that_it_has_is_taken(engine: str, values: Mapping[str, str], flags: list[str]) -> None:
    assert wrong_cache_type(ENGINES[engine], values, flags) is None


def test_of_a_users_engine_nobody_knows(tmp_path: Path) -> None:
    engine = described(tmp_path, "[--uds, '{socket}']")
    assert wrong_cache_type(engine, {"kv_cache_dtype": "odd"}, ["--kv-cache-dtype", "odd"]) is None


def test_the_options_are_options() -> None:
    assert set(OPTIONS) <= {*Options.__dataclass_fields__}
