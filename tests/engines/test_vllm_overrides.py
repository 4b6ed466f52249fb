"""Which `hf_overrides` are for config.json, and which are really for vLLM."""

from __future__ import annotations

from typing import Any

import pytest

from runner.engines.options import Options, RopeScaling
from runner.engines.vllm_overrides import Routed, config_overrides, route_overrides
from runner.errors import BadInput

LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("key", "value", "options"),
    [
        ("max_model_len", 4096, Options(context_size=4096)),
        ("gpu_memory_utilization", 0.5, Options(gpu_memory_utilization=0.5)),
        ("tensor_parallel_size", 2, Options(tensor_parallel_size=2)),
        ("max_num_seqs", 8, Options(parallel=8)),
        ("max_num_batched_tokens", 512, Options(max_batched_tokens=512)),
        ("enforce_eager", True, Options(enforce_eager=True)),
        ("n_ctx", 512, Options(context_size=512)),
    ],
)
def test_an_option_of_the_engine_is_routed_to_it(key: str, value: object, options: Options) -> None:
    routed = route_overrides({key: value, "vocab_size": 3})
    assert routed.options == options
    assert routed.remaining == {"vocab_size": 3}
    (message,) = routed.messages
    assert f"hf_overrides.{key}" in message
    assert options.set_fields()[0] in message


@pytest.mark.parametrize(
    ("key", "value", "flags"),
    [
        ("enable_prefix_caching", True, ("--enable-prefix-caching",)),
        ("enable_prefix_caching", False, ("--no-enable-prefix-caching",)),
        ("block_size", 32, ("--block-size", "32")),
        ("limit_mm_per_prompt", {"image": 2}, ("--limit-mm-per-prompt", '{"image": 2}')),
    ],
)
def test_another_flag_of_the_engine_is_routed_too(
    key: str, value: object, flags: tuple[str, ...]
) -> None:
    routed = route_overrides({key: value})
    assert (routed.options, routed.flags, routed.remaining) == (Options(), flags, {})
    assert routed.messages[0].endswith(" ".join(flags))


def test_fields_of_config_json_stay_what_they_are() -> None:
    given = {"architectures": ["A"], "dtype": "float16", "text_config": {"a": 1}, "is_causal": True}
    assert route_overrides(given) == Routed(remaining=given)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"max_model_len": "long"}, "context_size"),
        ({"gpu_memory_utilization": 3}, "gpu_memory_utilization"),
        ({"api_key": "x"}, "--api-key"),
        ({"middleware": "x.y"}, "--middleware"),
        ({"enable_prefix_caching": "perhaps"}, "enable_prefix_caching"),
    ],
)
def test_bad_values_and_refused_flags_are_named(overrides: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput) as refused:
        route_overrides(overrides)
    assert named in refused.value.message


@pytest.mark.parametrize(
    ("overrides", "options", "expected"),
    [
        ({}, Options(), {}),
        ({"a": 1}, Options(), {"a": 1}),
        ({"rope_parameters": LINEAR}, Options(), {"rope_parameters": LINEAR}),
        (
            {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}, "a": 1},
            Options(),
            {"rope_parameters": LINEAR, "a": 1},
        ),
        (
            {"rope_parameters": LINEAR},
            Options(rope_scale=4.0),
            {"rope_parameters": {**LINEAR, "factor": 4.0}},
        ),
        (
            {"rope_parameters": {"original_max_position_embeddings": 8}},
            Options(rope_scaling=RopeScaling.YARN, rope_scale=2.0, rope_freq_base=1e4),
            {
                "rope_parameters": {
                    **LINEAR,
                    "rope_type": "yarn",
                    "original_max_position_embeddings": 8,
                }
            },
        ),
        (
            {},
            Options(rope_scaling=RopeScaling.NONE, rope_freq_base=5.0),
            {"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}},
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1}}},
            Options(),
            {"rope_parameters": {"full_attention": {"rope_theta": 1}}},
        ),
    ],
)
def test_rope_is_given_as_a_whole(
    overrides: dict[str, Any], options: Options, expected: dict[str, Any]
) -> None:
    assert config_overrides(overrides, options) == expected


@pytest.mark.parametrize(
    ("overrides", "options", "lacking"),
    [
        ({"rope_theta": 1e6}, Options(), "rope_scaling"),
        ({}, Options(rope_freq_base=1e6), "rope_scaling"),
        ({}, Options(rope_scaling=RopeScaling.LINEAR, rope_scale=2.0), "rope_freq_base"),
        ({}, Options(rope_scaling=RopeScaling.LINEAR, rope_freq_base=1e4), "rope_scale"),
        (
            {},
            Options(rope_scaling=RopeScaling.YARN, rope_scale=2.0, rope_freq_base=1e4),
            "original_max_position_embeddings",
        ),
        ({"rope_scaling": "linear"}, Options(), "not an object"),
    ],
)
def test_half_of_rope_is_refused(overrides: dict[str, Any], options: Options, lacking: str) -> None:
    """vLLM takes it without a word, and computes with other positions than the model learned."""
    with pytest.raises(BadInput) as refused:
        config_overrides(overrides, options)
    assert lacking in refused.value.message
