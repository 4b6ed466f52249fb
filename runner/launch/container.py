"""From an instance to the container it runs in: a pure step that holds every isolation rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from runner.engines.base import Endpoint, TcpEndpoint, UnixEndpoint
from runner.launch.base import InstanceSpec
from runner.launch.folders import SOCKET_NAME
from runner.launch.labels import to_labels

if TYPE_CHECKING:
    from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

    from runner.launch.devices import Devices

MODEL_FOLDER = "/model"
CACHE_FOLDER = "/cache"
OTHERS_FOLDER = "/others"
RUN_FOLDER = "/run/engine"
PORT = 8080
LOOPBACK = "127.0.0.1"

IMAGE_USER = 10001
"""The non-root user that engine images are made for."""

TMP_OPTIONS = "rw,noexec,nosuid,nodev,size=256m,mode=1777"
PIDS_LIMIT = 4096
"""Threads count too: engines start some per core and pool, so this is far above them."""
LOG_FILE_SIZE = "10m"
LOG_FILES = "3"

NO_GPU_BY_DEFAULT = {"NVIDIA_VISIBLE_DEVICES": "void"}
"""Makers' images ask for all GPUs by this variable, which NVIDIA's runtime heeds where it is
Docker's default: an instance gets what it was granted alone."""


class CreateArguments(TypedDict):
    """Arguments of the SDK's `containers.create`."""

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    labels: dict[str, str]
    user: str
    cap_drop: list[str]
    security_opt: list[str]
    read_only: bool
    tmpfs: dict[str, str]
    mounts: list[Mount]
    ipc_mode: str
    network_mode: str
    dns: list[str] | None
    ports: dict[str, tuple[str, int] | None]
    device_requests: list[DeviceRequest]
    devices: list[str]
    group_add: list[int]
    runtime: str | None
    shm_size: int | None
    mem_limit: int
    memswap_limit: int
    pids_limit: int
    ulimits: list[Ulimit]
    init: bool
    stop_signal: str
    log_config: LogConfig


def container_name(instance: str) -> str:
    return f"runner-{instance}"


def seen_others(others: Sequence[Path]) -> tuple[str, ...]:
    """Where the container sees them, each in a place of its own: names may be the same."""
    return tuple(f"{OTHERS_FOLDER}/{n}/{other.name}" for n, other in enumerate(others))


def listens_on(*, published: bool) -> Endpoint:
    """Where the engine in the container shall listen: a socket, or the port to be published."""
    if published:
        return TcpEndpoint("0.0.0.0", PORT)  # noqa: S104 - inside a network of its own
    return UnixEndpoint(f"{RUN_FOLDER}/{SOCKET_NAME}")


def create_arguments(
    spec: InstanceSpec, *, home_id: str, user: str, network: str | None
) -> CreateArguments:
    """The container of `spec`, run by `user` (uid:gid inside it).

    Without a `network` it has none at all and serves on a socket in the mounted run folder;
    with one it publishes its port on this host's loopback.
    """
    from docker.types import LogConfig, Ulimit

    unlimited = [Ulimit(name="memlock", soft=-1, hard=-1)] if spec.locks_memory else []
    image, *first = spec.program
    shared = max(spec.devices.shm_size, spec.shm_size)
    memory = spec.memory_bytes + shared
    return CreateArguments(
        name=container_name(spec.identity.instance),
        image=image,
        command=[*first, *spec.command.arguments],
        environment={
            **_no_other_gpus(spec.devices),
            **spec.command.environment,
            **spec.devices.environment,
            "HOME": CACHE_FOLDER,
            "XDG_CACHE_HOME": CACHE_FOLDER,
        },
        labels=to_labels(home_id, spec.identity, spec.folders),
        user=user,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        read_only=True,
        tmpfs={"/tmp": TMP_OPTIONS},  # noqa: S108 - the container's own
        mounts=_mounts(spec, network),
        ipc_mode="private",
        network_mode=network or "none",
        # Docker's resolver in a network asks the host's servers otherwise: a way out.
        dns=[LOOPBACK] if network else None,
        ports={f"{PORT}/tcp": (LOOPBACK, 0)} if network else {},
        device_requests=_device_requests(spec.devices),
        # Read and write, but no making of device files.
        devices=[f"{node.path}:{node.path}:rw" for node in spec.devices.nodes],
        group_add=list(spec.devices.group_add),
        runtime=spec.devices.runtime or None,
        shm_size=shared or None,
        mem_limit=memory,
        memswap_limit=memory,
        pids_limit=PIDS_LIMIT,
        ulimits=unlimited,
        init=True,
        stop_signal="SIGTERM",
        log_config=LogConfig(
            type=LogConfig.types.JSON, config={"max-size": LOG_FILE_SIZE, "max-file": LOG_FILES}
        ),
    )


def _mounts(spec: InstanceSpec, network: str | None) -> list[Mount]:
    from docker.types import Mount

    mounts = [
        Mount(MODEL_FOLDER, str(spec.folders.model), type="bind", read_only=True),
        Mount(CACHE_FOLDER, str(spec.folders.cache), type="bind"),
    ]
    if network is None:
        mounts.append(Mount(RUN_FOLDER, str(spec.folders.run), type="bind"))
    for other, seen in zip(spec.folders.others, seen_others(spec.folders.others), strict=True):
        mounts.append(Mount(seen, str(other), type="bind", read_only=True))
    for file in spec.devices.mounts:
        mounts.append(Mount(file.path, file.path, type="bind", read_only=True))
    return mounts


def _device_requests(devices: Devices) -> list[DeviceRequest]:
    from docker.types import DeviceRequest

    return [
        DeviceRequest(
            driver=request.driver,
            device_ids=list(request.ids),
            capabilities=[list(these) for these in request.capabilities],
        )
        for request in devices.device_requests
    ]


def _no_other_gpus(devices: Devices) -> dict[str, str]:
    """Where NVIDIA's driver of Docker gives the GPUs, it sets the variable itself."""
    by_driver = any(request.driver == "nvidia" for request in devices.device_requests)
    return {} if by_driver else NO_GPU_BY_DEFAULT
