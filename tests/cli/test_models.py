"""The commands for models that need no daemon, on a real store."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from runner.demo import gguf_path
from tests.cli.terminal import on_a_terminal
from tests.support.program import runner, succeed
from tests.weights.gguf_bytes import gguf

MODEL = "localhost:5000/demo:1"
OTHER = "myorg/mymodel:Q4_K_M"


@pytest.fixture
def packaged(home: Path) -> str:
    """The digest of the demo model, which is in the store as MODEL."""
    return succeed("package", "--gguf", str(gguf_path()), MODEL).strip()


def listed() -> list[str]:
    return [row.split()[0] for row in succeed("ls").splitlines()[1:]]


def daemon_is_off(home: Path) -> bool:
    return not (home / "run" / "runner.sock").exists()


def test_a_second_name_and_its_end(home: Path, packaged: str) -> None:
    assert succeed("tag", MODEL, OTHER).strip() == packaged
    assert listed() == [MODEL, OTHER]
    assert succeed("rm", MODEL) == f"Untagged: {MODEL}\n"
    assert listed() == [OTHER]
    gone = succeed("rm", OTHER).splitlines()
    assert gone == [f"Untagged: {OTHER}", f"Deleted: {packaged}"]
    assert listed() == []
    assert daemon_is_off(home)


def test_ls_has_plain_json_and_quiet_forms(packaged: str) -> None:
    assert succeed("ls", "-q") == f"{packaged}\n"
    (model,) = json.loads(succeed("ls", "--json"))
    assert model["id"] == packaged
    assert model["tags"] == [MODEL]
    header, row = succeed("ls").splitlines()
    assert header.split()[:2] == ["MODEL", "FORMAT"]
    assert row.split()[:2] == [MODEL, "gguf"]


def test_ls_gives_every_spelling_to_programs_that_compare_names(home: Path) -> None:
    succeed("package", "--gguf", str(gguf_path()), "smol")
    (model,) = json.loads(succeed("ls", "--json"))
    assert {"docker.io/ai/smol:latest", "ai/smol", "ai/smol:latest"} <= set(model["tags"])


def test_inspect_shows_what_the_file_says(packaged: str) -> None:
    for name in (MODEL, packaged, packaged.removeprefix("sha256:")[:12]):
        shown = json.loads(succeed("inspect", name))
        assert shown["id"] == packaged
        assert shown["config"]["architecture"] == "llama"
    assert json.loads(succeed("inspect", "--json", MODEL)) == shown


def test_inspect_takes_several_models(packaged: str) -> None:
    one = json.loads(succeed("inspect", MODEL))
    assert json.loads(succeed("inspect", MODEL, packaged)) == [one, one]


def test_json_spells_names_as_ls_prints_them(packaged: str) -> None:
    assert json.loads(succeed("tag", "--json", MODEL, OTHER)) == {"id": packaged, "target": OTHER}
    assert json.loads(succeed("rm", "--json", OTHER)) == [{"Untagged": OTHER}]


def test_rm_goes_on_and_names_what_was_missing(packaged: str) -> None:
    succeed("tag", MODEL, OTHER)
    done = runner("rm", "nobody/a", OTHER, "nobody/b", MODEL)
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == f"Deleted: {packaged}"
    assert "nobody/a is not in the model store; nobody/b is not" in done.stderr
    assert listed() == []


def test_ls_fits_a_narrow_terminal_and_is_whole_in_a_pipe(packaged: str) -> None:
    name = "registry.example:5000/an-organisation/" + "long-" * 12 + "name:F16"
    succeed("tag", MODEL, name)
    screen = on_a_terminal(["ls"], [], columns=80).splitlines()
    assert max(map(len, screen)) <= 80
    assert "ARCHITECTURE" not in screen[0]
    assert any(line.split()[0].endswith("name:F16") for line in screen)
    assert listed() == [MODEL, name]
    assert "ARCHITECTURE" in succeed("ls")


@pytest.mark.parametrize(
    ("arguments", "pulling_helps"),
    [
        (["inspect"], True),
        (["rm"], False),
        (["tag", OTHER], False),
        (["export"], False),
        (["package", OTHER, "--from"], False),
    ],
)
def test_a_pull_is_offered_where_it_helps(
    home: Path, arguments: list[str], *, pulling_helps: bool
) -> None:
    words = ["tag", "nobody/nothing", OTHER] if arguments[0] == "tag" else None
    done = runner(*(words or [*arguments, "nobody/nothing"]))
    assert done.returncode == 3
    assert "`runner ls` lists the models here" in done.stderr
    assert ("runner pull" in done.stderr) is pulling_helps


@pytest.mark.parametrize("command", ["inspect", "rm", "tag", "export", "push"])
def test_a_model_that_is_not_here_is_named_with_a_near_one(packaged: str, command: str) -> None:
    more = {"tag": [OTHER], "export": ["-o", "x.tar"]}.get(command, [])
    done = runner(command, "localhost:5000/dmo:1", *more)
    if command == "push":
        succeed("stop-runner")
    assert done.returncode == 3
    assert f"did you mean {MODEL}?" in done.stderr
    assert done.stdout == ""


def test_df_tells_models_and_what_may_go(home: Path, packaged: str) -> None:
    shown = json.loads(succeed("df", "--json"))
    assert shown["blobs"] > gguf_path().stat().st_size
    assert shown["total"] == shown["blobs"] + shown["bundles"]
    assert "Models" in succeed("df")
    assert MODEL in succeed("df", "-v")


def test_prune_frees_what_belongs_to_no_model(home: Path, packaged: str) -> None:
    orphan = home / "models" / "blobs" / "sha256" / ("0" * 64)
    orphan.write_bytes(bytes(1000))
    assert "`runner prune` removes them after a day" in succeed("df")
    kept = runner("prune")
    assert "1.0 kB more is younger than a day" in kept.stderr
    assert "nothing to remove" in kept.stdout
    assert "--all" in kept.stderr
    assert succeed("prune", "--all") == "removed 1 blob: 1.0 kB freed\n"
    assert not orphan.exists()
    assert listed() == [MODEL]


def test_prune_tells_of_models_without_a_name(home: Path, packaged: str, tmp_path: Path) -> None:
    (tmp_path / "new.gguf").write_bytes(gguf(data=b"new" + bytes(61)))
    succeed("package", "--gguf", str(tmp_path / "new.gguf"), MODEL)
    kept = runner("prune")
    assert "1 model without a name is here: `runner prune --all` removes it" in kept.stderr
    assert len(listed()) == 2
    assert succeed("prune", "--all").startswith("removed 1 model: ")
    assert listed() == [MODEL]


def test_prune_calls_a_stopped_pull_what_it_is(home: Path, packaged: str) -> None:
    part = home / "models" / "partial" / ("0" * 64)
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(b"x" * 4096)
    kept = runner("prune")
    assert kept.stdout == "nothing to remove\n"
    assert "is what a stopped pull has so far" in kept.stderr
    assert "younger" not in kept.stderr
    assert part.exists()


def test_purge_counts_what_models_share_once_as_df_does(packaged: str) -> None:
    succeed("package", "--from", MODEL, "--context-size", "512", OTHER)
    figure = next(line for line in succeed("df").splitlines() if line.startswith("Models"))
    screen = on_a_terminal(["purge"], ["n"], prompt="[y/N]: ")
    assert "Remove 2 models (2.6 MB)?" in screen
    assert "2.6 MB" in figure


def test_what_cannot_be_pushed_is_not_packaged_first(home: Path) -> None:
    for name in ("hf.co/org/repo", "ms://org/repo"):
        refused = runner("package", "--gguf", str(gguf_path()), "--push", name)
        assert refused.returncode == 2
        assert "no OCI registry" in refused.stderr
        assert "packaged" not in refused.stderr
    assert listed() == []
    assert daemon_is_off(home)


def test_purge_asks_nobody_without_a_terminal(packaged: str) -> None:
    refused = runner("purge")
    assert refused.returncode == 2
    assert "runner purge --force" in refused.stderr
    assert listed() == [MODEL]
    assert f"Deleted: {packaged}" in succeed("purge", "--force")
    assert listed() == []


@pytest.mark.parametrize(("answer", "left"), [("n", [MODEL]), ("y", [])])
def test_purge_asks_on_a_terminal(packaged: str, answer: str, left: list[str]) -> None:
    screen = on_a_terminal(["purge"], [answer], prompt="[y/N]: ")
    assert "Remove 1 model (2.6 MB)?" in screen
    assert listed() == left


def test_check_passes_a_sound_store_and_fails_a_damaged_one(home: Path, packaged: str) -> None:
    assert runner("check").returncode == 0
    blobs = (home / "models" / "blobs" / "sha256").iterdir()
    weights = max(blobs, key=lambda path: path.stat().st_size)
    weights.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with weights.open("r+b") as file:
        file.seek(100_000)
        file.write(b"damage")
    found = runner("check")
    assert found.returncode == 1
    assert weights.name[:12] in found.stdout + found.stderr
    assert "--repair" in found.stderr


def test_package_says_what_is_wrong(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf({}))
    for arguments, said in {
        ("--gguf", "nowhere.gguf"): "nowhere.gguf",
        (): "nothing says what is to be packaged",
        ("--gguf", str(file), "--dir", str(tmp_path)): "only one model",
        ("--gguf", str(file), "--format", "oci"): "docker or cncf",
    }.items():
        done = runner("package", *arguments, OTHER)
        assert done.returncode == 2, arguments
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert listed() == []


def test_package_takes_relative_paths(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(gguf_path(), tmp_path / "model.gguf")
    (tmp_path / "LICENSE").write_text("do as you please")
    monkeypatch.chdir(tmp_path)
    first = succeed("package", "--gguf", "./model.gguf", "-l", "LICENSE", OTHER)
    assert succeed("package", "--gguf", "model.gguf", "-l", "./LICENSE", OTHER) == first


def test_a_folder_with_pickles_is_packaged_with_a_warning(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    done = runner("package", "--dir", str(folder), OTHER)
    assert done.returncode == 0, done.stderr
    assert "pickles" in done.stderr
    assert json.loads(succeed("inspect", OTHER))["config"]["pickles"] is True


def test_repackaging_shares_the_weights(packaged: str) -> None:
    digest = succeed("package", "--from", MODEL, "--context-size", "512", OTHER).strip()
    assert digest != packaged
    assert json.loads(succeed("inspect", OTHER))["config"]["context_size"] == 512
    usage = json.loads(succeed("df", "--json"))
    assert usage["blobs"] < 2 * gguf_path().stat().st_size


def test_a_linked_file_takes_no_room(home: Path, tmp_path: Path) -> None:
    file = home / "model.gguf"
    shutil.copyfile(gguf_path(), file)
    succeed("package", "--link", "--gguf", str(file), OTHER)
    assert file.stat().st_nlink == 2
    assert "Linked files" in succeed("df")


def test_the_store_lies_where_the_settings_say(home: Path, tmp_path: Path) -> None:
    moved = {"RUNNER_MODELS_PATH": str(tmp_path / "elsewhere")}
    succeed("package", "--gguf", str(gguf_path()), MODEL, env=moved)
    assert listed() == []
    assert MODEL in succeed("ls", env=moved)
    assert (tmp_path / "elsewhere" / "models.json").exists()


def test_names_follow_the_defaults_of_the_settings(home: Path) -> None:
    (home / "config.yaml").write_text("default_organisation: team\ndefault_tag: v1\n")
    succeed("package", "--gguf", str(gguf_path()), "mine")
    assert listed() == ["team/mine"]
    (model,) = json.loads(succeed("ls", "--json"))
    assert "docker.io/team/mine:v1" in model["tags"]
