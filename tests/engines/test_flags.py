"""A user's flags: what passes, what is refused and why, and how a captured help is read."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engines.flag_help import every_spelling, from_help, help_flags
from runner.engines.flag_names import named, routed
from runner.engines.flags import (
    FlagRules,
    Inverse,
    Switched,
    Takes,
    checked,
    is_flag,
    parsed,
)
from runner.errors import BadInput

RULES = FlagRules(
    known={
        "--threads": True,
        "-t": True,
        "--temp": True,
        "--range": Takes.TWO,
        "--modules": Takes.MANY,
        "--level": Takes.MAYBE,
        "--things": Takes.ANY,
        "--mlock": False,
        "--warmup": False,
        "--no-warmup": False,
        "--no-offload": False,
        "--offload": False,
        "--model": True,
        "--log-file": True,
        "--ctx-size": True,
        "--trust_remote_code": False,
    },
    own={"--model": "it starts the engine for one model", "--ctx-size": "an option says it"},
    dangerous={"--log-file": "it makes the engine write files"},
    nested={
        "n_threads": "--threads",
        "sampling.temp": "--temp",
        "warmup": "--warmup",
        "no_offload": "--no-offload",
        "mlock": "--mlock",
        "n_gpu_layers": "gpu_layers",
        "no_mmap": Inverse("mmap"),
        "flash": Switched("flash_attention"),
        "model.path": "--model",
    },
    impossible={"grouped_query": "it is a property of the model"},
    options={"--ctx-size": "context_size"},
    gone={"--old": "use --threads"},
)
ARGPARSE = FlagRules(known=RULES.known, joins=True, dotted=True)
PLAIN = FlagRules(known=RULES.known, joins=False)


@pytest.mark.parametrize(
    ("flags", "result"),
    [
        ((), ()),
        (("--threads", "2"), ("--threads", "2")),
        (("--threads=2",), ("--threads", "2")),
        (("-t", "2", "--mlock"), ("-t", "2", "--mlock")),
        (("--temp", "-1"), ("--temp", "-1")),
        (("--temp", "-.5"), ("--temp", "-.5")),
        (("--temp", "-inf"), ("--temp", "-inf")),
        (("--temp=-1",), ("--temp", "-1")),
        (("--temp=",), ("--temp", "")),
        (("--temp=a=b",), ("--temp", "a=b")),
        (("--range", "1", "2"), ("--range", "1", "2")),
        (("--range=1", "2"), ("--range", "1", "2")),
        (("--modules", "a", "b", "c", "--mlock"), ("--modules", "a", "b", "c", "--mlock")),
        (("--level", "--mlock"), ("--level", "--mlock")),
        (("--level", "3"), ("--level", "3")),
        (("--things", "--mlock"), ("--things", "--mlock")),
        (("--no_warmup",), ("--no-warmup",)),
        (("--trust-remote-code",), ("--trust_remote_code",)),
        (("--temp", "1", "--temp", "2"), ("--temp", "1", "--temp", "2")),
    ],
)
def test_what_passes(flags: tuple[str, ...], result: tuple[str, ...]) -> None:
    assert checked(flags, RULES) == result


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (("--thread", "2"), "--thread is no flag", "did you mean --threads?"),
        (("--modell", "x"), "--modell is no flag", "--model, which the runner sets itself"),
        (("--module", "x"), "--module is no flag", "did you mean --modules?"),
        (("--log-fil", "x"), "--log-fil is no flag", "did you mean --log-file?"),
        (("--zzzzzzzz",), "--zzzzzzzz is no flag", "help lists them"),
        (("--model", "x"), "set by the runner itself: it starts the engine", "take it out"),
        (("--model=x",), "set by the runner itself", "take it out"),
        (("--log-file", "x"), "refused: it makes the engine write files", "allowed_flags"),
        (("--log_file", "x"), "refused: it makes the engine write files", "allowed_flags"),
        (("--mlock=1",), "--mlock takes no value, but got '1'", "write --mlock alone"),
        (("--mlock", "1"), "'1' stands where a flag was expected", "quotes"),
        (("--threads", "2", "3"), "'3' stands where a flag was expected", "quotes"),
        (("--threads",), "--threads needs a value", "--threads VALUE"),
        (("--threads", "--mlock"), "--threads needs a value", "--threads=VALUE"),
        (("--range", "1"), "--range needs a value", "VALUE"),
        (("--modules",), "--modules needs a value", "VALUE"),
        (("--old", "1"), "--old is gone", "use --threads"),
        (("-",), "'-' stands where a flag was expected", ""),
        (("",), "'' stands where a flag was expected", ""),
        (("--threads", "1\0"), "can't be an argument", "no NUL"),
        (("--threads", "\ud800"), "can't be an argument", "plain Unicode"),
        (("--threads", "1" * 200_000), "can't be an argument", "bytes at most"),
    ],
)
def test_what_is_refused(flags: tuple[str, ...], message: str, hint: str) -> None:
    with pytest.raises(BadInput) as refused:
        checked(flags, RULES)
    assert message in refused.value.message
    assert hint in refused.value.hint


def test_an_operator_allows_dangerous_and_unknown_flags_but_never_the_runners_own() -> None:
    allowed = frozenset({"--log-file", "--brand-new", "--model"})
    flags = ("--log-file", "x", "--brand-new", "1", "2", "--mlock")
    assert checked(flags, RULES, allowed=allowed) == flags
    with pytest.raises(BadInput, match="set by the runner itself"):
        checked(("--model", "x"), RULES, allowed=allowed)


@pytest.mark.parametrize("flags", [("--log-file", "x"), ("--newer", "1")])
def test_what_an_operator_allows_allows_nothing_else(flags: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match=flags[0]):
        checked(flags, RULES, allowed=frozenset({"--brand-new", "--temp"}))


@pytest.mark.parametrize(
    ("rules", "result"), [(ARGPARSE, ("--temp=-x",)), (PLAIN, ("--temp", "-x"))]
)
def test_a_value_that_looks_like_a_flag_must_be_joined(
    rules: FlagRules, result: tuple[str, ...]
) -> None:
    """argparse refuses it apart from its flag, llama.cpp refuses it joined."""
    assert checked(("--temp=-x",), rules) == result


def test_a_part_of_a_json_flag_is_known_where_the_parser_knows_it() -> None:
    assert checked(("--temp.low", "1"), ARGPARSE) == ("--temp.low", "1")
    with pytest.raises(BadInput, match="no flag"):
        checked(("--temp.low", "1"), PLAIN)


def test_parsed_gives_each_flag_with_its_values() -> None:
    found = parsed(("--range=1", "2", "--mlock"), RULES)
    assert found == (("--range", ("1", "2")), ("--mlock", ()))


WORDS = st.one_of(
    st.sampled_from([*RULES.known, "--nope", "--threads=3", "--temp=-1", "-1", "0.5", "x", ""]),
    st.text(max_size=8),
)


@given(st.lists(WORDS, max_size=8), st.sampled_from([RULES, ARGPARSE, PLAIN]))
def test_flags_are_refused_with_a_reason_or_come_out_in_one_stable_form(
    flags: list[str], rules: FlagRules
) -> None:
    try:
        once = checked(flags, rules)
    except BadInput as error:
        assert error.message
        return
    assert checked(once, rules) == once
    assert not [word for word in once if is_flag(word) and word in rules.own]
    assert not [word for word in once if is_flag(word) and word in rules.dangerous]


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=12))
def test_any_value_reaches_argparse_as_it_is(value: str) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--temp")
    assert parser.parse_args(checked((f"--temp={value}",), ARGPARSE)).temp == value


@pytest.mark.parametrize(
    ("values", "flags", "options"),
    [
        ({"n_threads": "4"}, ("--threads", "4"), {}),
        ({"n-threads": "4"}, ("--threads", "4"), {}),
        ({"sampling.temp": "-1"}, ("--temp", "-1"), {}),
        ({"warmup": "true"}, ("--warmup",), {}),
        ({"warmup": "False"}, ("--no-warmup",), {}),
        ({"no_offload": "true"}, ("--no-offload",), {}),
        ({"no_offload": "false"}, ("--offload",), {}),
        ({"mlock": "0"}, (), {}),
        ({"n_gpu_layers": "-1"}, (), {"gpu_layers": "-1"}),
        ({"no_mmap": "true"}, (), {"mmap": "false"}),
        ({"no_mmap": "false"}, (), {"mmap": "true"}),
        ({"flash": "True"}, (), {"flash_attention": "on"}),
        ({"flash": "0"}, (), {"flash_attention": "off"}),
        ({"flash": "auto"}, (), {"flash_attention": "auto"}),
        ({"n_threads": "1", "sampling.temp": "0"}, ("--threads", "1", "--temp", "0"), {}),
    ],
)
def test_nested_names(
    values: dict[str, str], flags: tuple[str, ...], options: dict[str, str]
) -> None:
    found = named(values, RULES)
    assert (found.flags, found.options) == (flags, options)
    assert len(found.messages) == len(values)
    assert checked(found.flags, RULES) == flags


@pytest.mark.parametrize(
    ("name", "value", "message", "hint"),
    [
        ("n_thread", "1", "no parameter", "did you mean n_threads?"),
        ("quite_else", "1", "no parameter", "the engine's own flag"),
        ("grouped_query", "true", "property of the model", "take it out"),
        ("warmup", "maybe", "neither true nor false", "warmup: true"),
    ],
)
def test_nested_names_that_are_refused(name: str, value: str, message: str, hint: str) -> None:
    with pytest.raises(BadInput) as refused:
        named({name: value}, RULES)
    assert message in refused.value.message
    assert hint in refused.value.hint


def test_a_nested_name_is_no_way_around_the_rules() -> None:
    with pytest.raises(BadInput, match="set by the runner itself"):
        checked(named({"model.path": "/etc/passwd"}, RULES).flags, RULES)


@pytest.mark.parametrize("flags", [("--ctx-size", "512"), ("--ctx-size=512",)])
def test_a_flag_that_is_really_an_option_is_taken_out(flags: tuple[str, ...]) -> None:
    found = routed((*flags, "--mlock", "--temp=-1"), RULES)
    assert found.flags == ("--mlock", "--temp=-1")
    assert found.options == {"context_size": "512"}
    assert found.messages == ("--ctx-size sets context_size to 512",)


def test_an_option_without_a_value_is_refused() -> None:
    with pytest.raises(BadInput, match="--ctx-size needs a value"):
        routed(("--ctx-size", "--mlock"), RULES)


LLAMA = """\
# a header line
----- common params -----

-h,    --help, --usage                  print usage and exit
-t,    --threads N                      number of CPU threads to use during generation (default: -1)
                                        (env: LLAMA_ARG_THREADS)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use
--perf, --no-perf                       whether to enable internal libllama performance timings
-ot,   --override-tensor <tensor name pattern>=<buffer type>,...
                                        override tensor buffer type
-nr,   --no-host                        bypass - host -buffer
--control-vector-layer-range START END
                                        layer range to apply
--draft, --draft-n N                    the argument has been removed. use --other
"""


def test_reads_the_help_of_llama_server() -> None:
    assert from_help(LLAMA) == {
        **dict.fromkeys(("-h", "--help", "--usage"), Takes.NOTHING),
        **dict.fromkeys(("-t", "--threads", "-fa", "--flash-attn"), Takes.ONE),
        **dict.fromkeys(("--perf", "--no-perf", "-nr", "--no-host"), Takes.NOTHING),
        **dict.fromkeys(("-ot", "--override-tensor"), Takes.ONE),
        "--control-vector-layer-range": Takes.TWO,
    }


def test_reads_the_help_of_argparse() -> None:
    parser = argparse.ArgumentParser(prog="engine")
    parser.add_argument("--model", "-m", help="a path, - for standard input")
    parser.add_argument("--kind", choices=["a", "b-c"])
    parser.add_argument("--many", nargs="+")
    parser.add_argument("--any", nargs="*")
    parser.add_argument("--maybe", nargs="?")
    parser.add_argument("--pair", nargs=2, metavar=("FROM", "UPTO"))
    parser.add_argument("--on", action=argparse.BooleanOptionalAction)
    parser.add_argument("--a-flag-with-a-name-so-long-that-its-help-moves-down", help="x")
    assert from_help(parser.format_help()) == {
        **dict.fromkeys(("-h", "--help", "--on", "--no-on"), Takes.NOTHING),
        **dict.fromkeys(("--model", "-m", "--kind"), Takes.ONE),
        "--a-flag-with-a-name-so-long-that-its-help-moves-down": Takes.ONE,
        "--many": Takes.MANY,
        "--any": Takes.ANY,
        "--maybe": Takes.MAYBE,
        "--pair": Takes.TWO,
    }


def test_a_table_holds_for_every_spelling() -> None:
    assert every_spelling({"--threads": "why", "--gone": "as before"}, LLAMA) == {
        "--threads": "why",
        "-t": "why",
        "--gone": "as before",
    }


def test_a_flag_is_one_under_all_its_names() -> None:
    assert ("-fa", "--flash-attn") in [flag.names for flag in help_flags(LLAMA)]
