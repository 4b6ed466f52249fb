"""The llama.cpp image for CPUs: what it holds, and what it leaves out."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from runner.engines.catalog import description_of
from tests.images.agreement import check_agreement

ABOUT = description_of("llama.cpp")
(CPU,) = (variant for variant in ABOUT.variants if variant.name == "cpu")
DOCKERFILE = CPU.folder / "Dockerfile"
MIB = 1 << 20

# Worst first, with the flags of /proc/cpuinfo that each one needs.
SSE42 = {"sse4_2"}
SANDYBRIDGE = SSE42 | {"avx"}
HASWELL = SANDYBRIDGE | {"f16c", "fma", "avx2", "bmi2"}
SKYLAKEX = HASWELL | {"avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"}
ICELAKE = SKYLAKEX | {"avx512vbmi", "avx512_vnni"}
VARIANTS = {
    "x64": set[str](),
    "sse42": SSE42,
    "sandybridge": SANDYBRIDGE,
    "ivybridge": SANDYBRIDGE | {"f16c"},
    "piledriver": SANDYBRIDGE | {"f16c", "fma"},
    "haswell": HASWELL,
    "alderlake": HASWELL | {"avx_vnni"},
    "skylakex": SKYLAKEX,
    "cannonlake": SKYLAKEX | {"avx512vbmi"},
    "cascadelake": SKYLAKEX | {"avx512_vnni"},
    "icelake": ICELAKE,
    "cooperlake": SKYLAKEX | {"avx512_vnni", "avx512_bf16"},
    "zen4": ICELAKE | {"avx512_bf16"},
    "sapphirerapids": ICELAKE | {"avx512_bf16", "amx_tile", "amx_int8"},
}

COMPILERS = ("cc", "c++", "gcc", "g++", "cpp", "clang", "ld", "as", "ar", "strip")
BUILD_TOOLS = (*COMPILERS, "make", "cmake", "ninja", "git", "python3", "pip")

PROBE = ("--rm", "--label", "runner.test=1", "--network", "none")
CONFINEMENT = (
    *PROBE,
    *("--read-only", "--tmpfs", "/tmp:exec", "--user", "65534"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def confined(image: str, program: str, *arguments: str) -> str:
    """What a program of the image prints, run the way the launcher runs engines."""
    ran = docker("run", *CONFINEMENT, "--entrypoint", program, image, *arguments)
    assert ran.returncode == 0, ran.stderr or ran.stdout
    return ran.stdout + ran.stderr


def arguments() -> dict[str, str]:
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE.read_text(), re.M))


def architecture(image: str) -> str:
    return docker("image", "inspect", "--format", "{{.Architecture}}", image).stdout.strip()


@pytest.fixture
def amd64_image(engine_image: str) -> str:
    if architecture(engine_image) != "amd64":
        pytest.skip("the variants listed here are those of x86-64")
    return engine_image


def test_everything_fetched_is_pinned_by_its_hash() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", arguments()["SDIST_SHA256"])
    assert re.fullmatch(r"[0-9a-f]{40}", arguments()["REVISION"])
    backend = (CPU.folder / "build-backend.txt").read_text().splitlines()
    assert backend
    for line in backend:
        assert re.fullmatch(r"[\w-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line)


@pytest.mark.docker
def test_it_says_of_itself_what_engine_yaml_says(engine_image: str) -> None:
    manifest = check_agreement(engine_image, ABOUT, CPU)
    assert "bin/llama-server" in {file.path for file in manifest.files}


@pytest.mark.docker
def test_version_is_the_one_on_the_label(engine_image: str) -> None:
    printed = confined(engine_image, "/engine/bin/llama-server", "--version")
    build = arguments()["VERSION"].removeprefix("b")
    commit = arguments()["REVISION"][:9]
    assert f"(build {build}, commit {commit})" in printed


@pytest.mark.docker
def test_runs_as_a_named_user_without_rights(engine_image: str) -> None:
    shown = docker("image", "inspect", "--format", "{{json .Config}}", engine_image)
    configuration = json.loads(shown.stdout)
    assert configuration["User"] == "10001:10001"
    assert configuration["Entrypoint"] == ["/engine/bin/llama-server"]
    ran = docker("run", *PROBE, "--entrypoint", "id", engine_image)
    assert ran.stdout.strip() == "uid=10001(engine) gid=10001(engine) groups=10001(engine)"


@pytest.mark.docker
def test_our_own_layers_stay_under_50_mb(engine_image: str) -> None:
    history = docker("history", "--no-trunc", "--human=false", "--format", "json", engine_image)
    steps = [json.loads(line) for line in history.stdout.splitlines()]
    ours = [step for step in steps if "buildkit.dockerfile" in step["Comment"]]
    assert len(ours) < len(steps), "the base has a step of its own"
    assert 10 * MIB < sum(int(step["Size"]) for step in ours) <= 50_000_000


@pytest.mark.docker
def test_holds_no_build_tools(engine_image: str) -> None:
    look = f'for tool in {" ".join(BUILD_TOOLS)}; do command -v "$tool" || true; done'
    assert confined(engine_image, "/bin/sh", "-c", look) == ""
    packages = confined(engine_image, "dpkg-query", "-W", "-f", "${Package}\n").split()
    assert "libgomp1" in packages
    build = re.compile(r"binutils.*|cmake.*|ninja-build|g(cc|\+\+)(-\d+)?|.*-dev|python3.*")
    assert [name for name in packages if build.fullmatch(name)] == []


@pytest.mark.docker
def test_ships_programs_libraries_and_licences_only(engine_image: str) -> None:
    found = confined(engine_image, "find", "/engine", "-not", "-type", "d").split()
    names = [Path(path).relative_to("/engine").as_posix() for path in found]
    allowed = re.compile(
        r"bin/(llama-server|ggml-rpc-server|lib[\w.-]+\.so[.\d]*)|licenses/LICENSE[\w-]*|manifest\.json"
    )
    assert [name for name in names if not allowed.fullmatch(name)] == []
    assert {"bin/llama-server", "bin/ggml-rpc-server", "licenses/LICENSE"} <= set(names)
    not_stripped = "grep -laF .symtab /engine/bin/* || true"
    assert confined(engine_image, "/bin/sh", "-c", not_stripped) == ""


@pytest.mark.docker
def test_every_library_is_found(engine_image: str) -> None:
    linked = confined(engine_image, "/bin/sh", "-c", "ldd /engine/bin/*")
    assert "libgomp.so.1 => /" in linked
    assert "not found" not in linked


@pytest.mark.docker
def test_binaries_find_their_libraries_beside_them(engine_image: str) -> None:
    """Moved elsewhere as a whole, they load the moved libraries: the run path is $ORIGIN."""
    move = "cp -r /engine/bin /tmp/moved && ldd /tmp/moved/*"
    linked = confined(engine_image, "/bin/sh", "-c", move)
    own = re.findall(r"lib(?:llama|ggml|mtmd)\S* => (\S+)", linked)
    assert own
    assert {str(Path(path).parent) for path in own} == {"/tmp/moved"}


@pytest.mark.docker
def test_rpc_server_starts(engine_image: str) -> None:
    assert "--port" in confined(engine_image, "/engine/bin/ggml-rpc-server", "--help")


@pytest.mark.docker
def test_every_generation_of_processor_has_its_backend(amd64_image: str) -> None:
    listed = confined(amd64_image, "/bin/sh", "-c", "ls /engine/bin")
    assert set(re.findall(r"libggml-cpu-(\w+)\.so", listed)) == set(VARIANTS)
    assert "libggml-rpc.so" in listed


@pytest.mark.docker
def test_the_best_backend_for_this_processor_is_chosen(amd64_image: str) -> None:
    processor = confined(amd64_image, "cat", "/proc/cpuinfo")
    flags = set(re.findall(r"^flags\s*:(.*)$", processor, re.M)[0].split())
    best = [name for name, needs in VARIANTS.items() if needs <= flags][-1]
    assert loaded_backends(amd64_image) == [best]


def loaded_backends(image: str) -> list[str]:
    """Asked again where nothing is told: llama-server leaves without waiting for its log's thread,
    and loses the lines in one of twenty runs."""
    for _ in range(5):
        printed = confined(image, "/engine/bin/llama-server", "-lv", "5", "--list-devices")
        if found := re.findall(r"libggml-cpu-(\w+)\.so", printed):
            return found
    return []
