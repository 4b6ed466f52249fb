"""Words of Docker Engines and vendors' runtimes, and the next step that each is told with."""

from __future__ import annotations

import pytest

from runner.errors import Conflict, DiskFull, DockerUnavailable, EngineFailed, RunnerError
from runner.launch.refusals import start_failure

OCI = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed:"
    " runc create failed: unable to start container process: error during container init: error"
    " running prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\n"
    "nvidia-container-cli: "
)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7",
            "nvidia-ctk cdi generate",
        ),
        (
            "CDI device injection failed: unresolvable CDI devices huawei.com/npu=0",
            "Ascend Docker Runtime",
        ),
        (
            "CDI device injection failed: unresolvable CDI devices acme.com/gpu=0",
            "/etc/cdi",
        ),
        (
            "CDI device injection failed: failed to inject devices: failed to stat CDI host device"
            ' "/dev/nvidia-uvm": no such file or directory',
            "does not fit the driver",
        ),
        ('could not select device driver "cdi" with capabilities: []', "turn CDI on"),
        ('could not select device driver "" with capabilities: [[gpu]]', "Container Toolkit"),
        ('could not select device driver "nvidia" with capabilities: [[gpu]]', "nvidia-ctk"),
        ("unknown or invalid runtime name: nvidia", "nvidia-ctk"),
        ("unknown or invalid runtime name: ascend", "Ascend Docker Runtime"),
        ("unknown or invalid runtime name: mthreads", "mt-container-toolkit"),
        ("unknown or invalid runtime name: kata", "`docker info`"),
        (
            OCI + "requirement error: unsatisfied condition: cuda>=12.8, please update your driver"
            " to a newer version, or use an earlier cuda container: unknown",
            "too old",
        ),
        (
            OCI + "initialization error: nvml error: driver/library version mismatch: unknown",
            "restart the machine",
        ),
        (OCI + "initialization error: nvml error: driver not loaded: unknown", "`nvidia-smi`"),
        (OCI + "device error: GPU-1234: unknown device: unknown", "`nvidia-smi -L`"),
        (
            OCI + "mount error: failed to add device rules: unable to find any existing device"
            " filters attached to the cgroup: bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation"
            " not permitted: unknown",
            "no-cgroups",
        ),
        (
            'error gathering device information while adding custom device "/dev/kfd": no such'
            " file or directory",
            "amdgpu",
        ),
        (
            "error gathering device information while adding custom device"
            ' "/dev/dri/renderD128": no such file or directory',
            "/dev/dri",
        ),
        (
            "error gathering device information while adding custom device"
            ' "/dev/davinci_manager": no such file or directory',
            "npu-smi",
        ),
        (
            'error gathering device information while adding custom device "/dev/mxcd": no such'
            " file or directory",
            "before the engine starts",
        ),
        (
            'invalid mount config for type "bind": bind source path does not exist:'
            " /usr/local/Ascend/driver/lib64",
            "npu-smi",
        ),
    ],
)
def test_the_next_step(said: str, hint: str) -> None:
    failure = start_failure("vllm", RunnerError(f"Docker refused: {said}"))
    assert isinstance(failure, EngineFailed)
    assert failure.message.startswith("vllm did not start: ")
    assert said in failure.message
    assert hint in failure.hint


def test_words_that_are_not_known_are_passed_on() -> None:
    failure = start_failure("vllm", Conflict("something else", hint="as it was"))
    assert isinstance(failure, EngineFailed)
    assert (failure.message, failure.hint) == (
        "vllm did not start: something else",
        "as it was",
    )


@pytest.mark.parametrize("error", [DockerUnavailable("gone"), DiskFull("full")])
def test_what_is_not_the_engines_fault_stays_what_it_is(error: RunnerError) -> None:
    assert start_failure("vllm", error) is error
