"""`runner configure` and `configure show`: how they are written, and what they print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer._click.exceptions import UsageError

from runner.cli.option_flags import FLAGS
from runner.demo import gguf_path
from runner.engines.option_values import option_names
from runner.errors import BadInput, ModelNotFound, RunnerError
from tests.api.control import MODEL, recorded
from tests.cli.in_process import Terminal, terminal
from tests.support.program import runner, succeed


@pytest.fixture
def shell(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    with terminal(recorded("nvidia"), home, capsys, monkeypatch) as found:
        found.api.package_demo()
        yield found


def kept(shell: Terminal, model: str = MODEL) -> dict[str, Any]:
    """The one configuration of a model, by `configure show`."""
    (row,) = json.loads(shell.run("configure", "show", model, "--json"))
    assert isinstance(row, dict)
    return row


def test_every_option_has_a_flag_and_every_flag_an_option() -> None:
    assert [flag.option for flag in FLAGS if flag.option not in option_names()] == []
    assert sorted(flag.option for flag in FLAGS) == sorted(option_names())
    spellings = [one for flag in FLAGS for one in flag.spellings]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    "written",
    [
        ["--context-size", "512", MODEL, "--", "--no-warmup", "--temp", "0.1"],
        ["--context-size=512", MODEL, "--", "--no-warmup", "--temp", "0.1"],
        [MODEL, "--context-size", "512", "--", "--no-warmup", "--temp", "0.1"],
        [MODEL, "--ctx-size", "512", "--runtime-flags", "--no-warmup --temp 0.1"],
        [MODEL, "--set", "n_ctx=512", "--", "--no-warmup", "--temp=0.1"],
        [MODEL, "--max-model-len", "512", "--runtime-flags=--no-warmup", "--", "--temp", "0.1"],
    ],
)
def test_it_is_written_as_people_and_compose_write_it(shell: Terminal, written: list[str]) -> None:
    shell.run("configure", *written)
    row = kept(shell)
    assert row["options"] == {"context_size": 512}
    words = " ".join(row["flags"]).replace("--temp=", "--temp ").split()
    assert sorted(words) == ["--no-warmup", "--temp", "0.1"]


def test_switches_numbers_lists_and_json(shell: Terminal) -> None:
    shell.run(
        *("configure", "ai/m", "--no-mmap", "--memory-lock", "--gpus", "0", "--split", "3,1"),
        *("--n-gpu-layers", "-1", "--flash-attn", "on", "--backend", "llama.cpp"),
    )
    assert kept(shell, "ai/m")["options"] == {
        "mmap": False,
        "memory_lock": True,
        "gpus": ["0"],
        "split": [3.0, 1.0],
        "gpu_layers": -1,
        "flash_attention": "on",
    }
    overrides = '{"rope_theta": 10, "max_model_len": 99}'
    told = shell.run("configure", "ai/n", "--backend", "vllm", "--hf_overrides", overrides)
    assert "hf_overrides.max_model_len" in told
    assert kept(shell, "ai/n")["options"] == {
        "context_size": 99,
        "hf_overrides": {"rope_theta": 10},
    }


def test_it_prints_what_is_kept_and_what_engines_make_of_it(shell: Terminal) -> None:
    told = shell.run(
        *("configure", MODEL, "--threads", "2", "--set", "sampling.top_k=40"),
        *("--env", "LD_PRELOAD=x", "--env", "MY_TOKEN=abc", "--", "--ctx-size", "512"),
    )
    assert told.splitlines()[:6] == [
        f"{MODEL} is configured:",
        "  context_size    512",
        "  threads         2",
        "  sampling.top_k  40",
        "  environment     LD_PRELOAD=x",
        "  environment     MY_TOKEN=***",
    ]
    assert "--ctx-size sets context_size to 512" in told
    assert "llama.cpp: LD_PRELOAD: dropped, because" in told
    assert "llama.cpp: MY_TOKEN=***: kept" in told
    assert "llama.cpp: sampling.top_k is passed as --top-k 40" in told
    assert "vllm" not in told


def test_a_model_that_is_not_here_yet_is_told_of(shell: Terminal) -> None:
    told = shell.run("configure", "ai/m", "--threads", "2", "--", "--no-warmup")
    assert told.startswith("ai/m is not in the store yet: this holds once it is pulled\n")
    assert "vllm: can't start so: --no-warmup is no flag of this engine. Next: " in told
    shell.run("configure", "ai/m", "--unset", "flags", "--mmap")
    told = shell.run("configure", "ai/m", "--unset", "threads", "--memory-lock")
    assert "vllm: is not chosen, it has no memory_lock" in told
    assert shell.run("configure", "ai/m", "--reset") == "ai/m has nothing set\n"


def test_what_was_set_goes_again(shell: Terminal) -> None:
    shell.run("configure", MODEL, "--threads", "2", "--env", "A=1")
    told = shell.run("configure", MODEL, "--unset", "threads", "--unset", "A")
    assert told == f"{MODEL} has nothing set\n"
    shell.run("configure", MODEL, "--threads", "2")
    shell.run("configure", MODEL, "--reset")
    assert shell.run("configure", "show") == "nothing is configured\n"
    assert shell.run("configure", "show", MODEL) == f"nothing is configured for {MODEL}\n"


def test_show_lists_all_models_or_one(shell: Terminal) -> None:
    shell.run("configure", MODEL, "--threads", "2")
    shell.run("configure", "ai/m:latest", "--backend", "vllm", "--tensor-parallel-size", "2")
    rows = [line.split() for line in shell.run("configure", "show").splitlines()]
    assert rows == [
        ["MODEL", "BACKEND", "SETTING", "VALUE"],
        ["ai/m", "vllm", "tensor_parallel_size", "2"],
        [MODEL, "any", "threads", "2"],
    ]
    assert "threads" not in shell.run("configure", "show", "ai/m")
    everything = json.loads(shell.run("configure", "show", "--json"))
    assert [row["backend"] for row in everything] == ["vllm", ""]


def test_json_says_all(shell: Terminal) -> None:
    done = json.loads(shell.run("configure", "--json", MODEL, "--threads", "2"))
    assert done["model"] == MODEL
    assert done["configured"][0]["effects"][0]["backend"] == "llama.cpp"


def test_a_model_may_be_called_show(shell: Terminal) -> None:
    shell.run("configure", "ai/show", "--threads", "2")
    assert kept(shell, "show")["model"] == "docker.io/ai/show:latest"
    shell.run("configure", "--threads", "3", "show")
    assert kept(shell, "show:latest")["options"] == {"threads": 3}


def test_a_file_of_that_name_is_its_model(
    shell: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "show").write_bytes(gguf_path().read_bytes())
    (tmp_path / "show.gguf").write_bytes(gguf_path().read_bytes())
    monkeypatch.chdir(tmp_path)
    shell.run("configure", "./show.gguf", "--threads", "2")
    assert kept(shell, "localhost/show")["options"] == {"threads": 2}


@pytest.mark.parametrize(
    "written", [("--chat-template", "chat.jinja"), ("--set", "chat-template=chat.jinja")]
)
def test_a_template_goes_to_the_daemon_as_its_text(
    shell: Terminal,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: tuple[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    shell.run("configure", MODEL, *written)
    found = Path(kept(shell)["options"]["chat_template"])
    assert found.parent == home / "templates"
    assert found.read_text() == "{{ messages }}"


def test_a_template_that_is_not_there_or_too_long_is_named(shell: Terminal, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"lost\.jinja: No such file"):
        shell.run("configure", MODEL, "--chat-template", str(tmp_path / "lost.jinja"))
    long = tmp_path / "long.jinja"
    long.write_text("{{ a }}" + " " * (1 << 20))
    with pytest.raises(BadInput, match="more than 1048576 bytes"):
        shell.run("configure", MODEL, "--chat-template", str(long))
    assert shell.run("configure", "show") == "nothing is configured\n"


@pytest.mark.parametrize(
    ("written", "kind", "said"),
    [
        (["--context-size", "many", MODEL], BadInput, "context_size is 'many'"),
        (["--gpu-memory-utilization", "1.5", "ai/m"], BadInput, "from 0.01 to 1"),
        (["--hf-overrides", "{", "ai/m"], BadInput, "no JSON"),
        ([MODEL, "--set", "threads"], BadInput, "--set NAME=VALUE"),
        ([MODEL, "--env", "=1"], BadInput, "--env NAME=VALUE"),
        ([MODEL, "--threads", "1", "--set", "threads=2"], BadInput, "given twice"),
        ([MODEL, "--threads", "1", "--set", "n_threads=2"], BadInput, "given twice"),
        ([MODEL, "--set", "thraeds=1"], BadInput, "did you mean threads?"),
        ([MODEL, "--threads", "1", "--", "--no-wramup"], BadInput, "did you mean --no-warmup?"),
        ([MODEL, "--threads", "1", "word"], BadInput, "'word' stands where a flag"),
        ([MODEL, "--unset", "thread"], BadInput, "'thread' is not set"),
        ([MODEL, "--backend", "vlm", "--threads", "1"], RunnerError, "did you mean vllm?"),
        (["sha256:" + "0" * 64, "--threads", "1"], ModelNotFound, "0000"),
        (["Bad Name", "--threads", "1"], BadInput, "Bad Name"),
        ([MODEL, "--draft-model", "ai/darft"], BadInput, "`runner pull ai/darft` fetches"),
        ([MODEL, "--lora", MODEL], BadInput, f"{MODEL} is a whole model, no adapter"),
        ([MODEL, "--gpus", "3"], BadInput, "there is no GPU '3' there are: nvidia:0"),
        ([MODEL, "--cache-type-k", "q8"], BadInput, "did you mean q8_0?"),
        (["ai/m", "--backend", "vllm", "--", "--kv-cache-dtype", "fp9"], BadInput, "mean fp8?"),
        ([MODEL, "--thraeds", "1"], UsageError, "--threads"),
        ([], UsageError, "MODEL"),
    ],
)
def test_a_bad_word_is_named_and_nothing_is_kept(
    shell: Terminal, written: list[str], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as caught:
        shell.run("configure", *written)
    error = caught.value
    told = error.format_message() if isinstance(error, UsageError) else f"{error} {_hint(error)}"
    assert said in told
    assert shell.run("configure", "show") == "nothing is configured\n"


def _hint(error: Exception) -> str:
    return error.hint if isinstance(error, RunnerError) else ""


def test_show_needs_no_daemon(home: Path) -> None:
    assert succeed("configure", "show") == "nothing is configured\n"
    assert runner("configure", "show", "Bad Name").returncode == 2
    assert not (home / "run" / "runner.sock").exists()
    assert "configure show" in succeed("--help")
