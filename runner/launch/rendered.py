"""A container's creation as the `docker run` that a person would type. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.engines.environment import shown

if TYPE_CHECKING:
    from docker.types import DeviceRequest, Mount

    from runner.launch.container import CreateArguments


def docker_run(arguments: CreateArguments) -> tuple[str, ...]:
    """Everything but the labels that the daemon knows its instances by; secrets are redacted."""
    return (
        *("docker", "run", "--rm", "--init"),
        *_confinement(arguments),
        *_limits(arguments),
        *_devices(arguments),
        *(word for mount in arguments["mounts"] for word in ("--mount", _mount(mount))),
        *(word for pair in _environment(arguments) for word in ("--env", pair)),
        arguments["image"],
        *arguments["command"],
    )


def _confinement(arguments: CreateArguments) -> Iterator[str]:
    yield from ("--user", arguments["user"])
    for capability in arguments["cap_drop"]:
        yield from ("--cap-drop", capability)
    for option in arguments["security_opt"]:
        yield from ("--security-opt", option)
    if arguments["read_only"]:
        yield "--read-only"
    for path, options in arguments["tmpfs"].items():
        yield from ("--tmpfs", f"{path}:{options}")
    yield from ("--network", arguments["network_mode"])
    for server in arguments["dns"] or ():
        yield from ("--dns", server)
    for port, bound in arguments["ports"].items():
        host, number = bound or ("", 0)
        yield from ("--publish", f"{host}:{number or ''}:{port.removesuffix('/tcp')}")
    yield from ("--ipc", arguments["ipc_mode"])


def _limits(arguments: CreateArguments) -> Iterator[str]:
    yield from ("--memory", str(arguments["mem_limit"]))
    yield from ("--memory-swap", str(arguments["memswap_limit"]))
    yield from ("--pids-limit", str(arguments["pids_limit"]))
    for limit in arguments["ulimits"]:
        yield from ("--ulimit", f"{limit['Name']}={limit['Soft']}:{limit['Hard']}")
    if arguments["shm_size"]:
        yield from ("--shm-size", str(arguments["shm_size"]))


def _devices(arguments: CreateArguments) -> Iterator[str]:
    for request in arguments["device_requests"]:
        yield from _request(request)
    for device in arguments["devices"]:
        yield from ("--device", device)
    for group in arguments["group_add"]:
        yield from ("--group-add", str(group))
    if arguments["runtime"]:
        yield from ("--runtime", arguments["runtime"])


def _request(request: DeviceRequest) -> Iterator[str]:
    names = request.get("DeviceIDs") or ()
    if request.get("Driver") == "cdi":
        for name in names:
            yield from ("--device", name)
        return
    capabilities = [one for these in request.get("Capabilities") or () for one in these]
    wanted = f"device={','.join(names)}" if names else "all"
    more = f',"capabilities={",".join(capabilities)}"' if capabilities not in ([], ["gpu"]) else ""
    yield from ("--gpus", f'"{wanted}"{more}' if names else wanted + more)


def _mount(mount: Mount) -> str:
    text = f"type={mount['Type']},source={mount['Source']},target={mount['Target']}"
    return f"{text},readonly" if mount.get("ReadOnly") else text


def _environment(arguments: CreateArguments) -> Iterator[str]:
    for name, value in shown(arguments["environment"]).items():
        yield f"{name}={value}"
