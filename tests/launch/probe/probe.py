"""Tries what an engine's container must not be able to do; prints a JSON object of what it found.

Each argument is one probe: `name` or `name=target`. A probe's value is "yes" if it got through,
else "no: " and why.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

TIMEOUT_S = 2.0


def connect(target: str) -> None:
    """host:port of a service that greets with "hello"."""
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
        if connection.recv(5) != b"hello":
            raise OSError("something else answered")


def resolve(name: str) -> None:
    socket.getaddrinfo(name, 80)


def write(folder: str) -> None:
    file = Path(folder) / "written-by-probe"
    file.write_text("x")
    file.unlink()


def execute_in(folder: str) -> None:
    program = Path(folder) / "true"
    shutil.copy("/bin/true", program)
    try:
        subprocess.run([program], check=True)
    finally:
        program.unlink()


def setuid(program: str) -> None:
    """A setuid program that prints its effective user."""
    told = subprocess.run([program, "-u"], capture_output=True, text=True, check=True).stdout
    if told.strip() != "0":
        raise PermissionError(f"still user {told.strip()}")


def capabilities(_: str) -> None:
    if int(status("CapEff"), 16) | int(status("CapPrm"), 16) | int(status("CapBnd"), 16) == 0:
        raise PermissionError("no capability in any set")


def new_privileges(_: str) -> None:
    if status("NoNewPrivs") != "0":
        raise PermissionError("NoNewPrivs is set")


def root(_: str) -> None:
    if os.getuid() != 0:
        raise PermissionError(f"user {os.getuid()}")


def device(path: str) -> None:
    mode = Path(path).stat().st_mode
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
        raise OSError("not a device")


def make_device(path: str) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    Path(path).unlink()


def mount(folder: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    libc.umount(folder.encode())


def unix_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


def allocate(mebibytes: str) -> None:
    block = bytearray(int(mebibytes) << 20)
    for page in range(0, len(block), 4096):
        block[page] = 1


def threads(count: str) -> None:
    """A bomb of threads: each counts as a process."""
    threading.stack_size(64 * 1024)
    done = threading.Event()
    started = []
    try:
        for _ in range(int(count)):
            thread = threading.Thread(target=done.wait)
            thread.start()
            started.append(thread)
    finally:
        done.set()
        for thread in started:
            thread.join()


def interfaces(_: str) -> None:
    found = sorted(name for _, name in socket.if_nameindex())
    if found == ["lo"]:
        raise OSError("loopback alone")


def variable(target: str) -> None:
    """NAME=VALUE of the environment."""
    name, _, value = target.partition("=")
    if os.environ.get(name) != value:
        raise OSError(f"{name} is {os.environ.get(name)}")


def group(number: str) -> None:
    if int(number) not in os.getgroups():
        raise PermissionError(f"in the groups {os.getgroups()}")


def read(path: str) -> None:
    with Path(path).open("rb") as file:
        file.read(1)


def room(target: str) -> None:
    """FOLDER:BYTES, the size of the file system that the folder is."""
    folder, _, size = target.rpartition(":")
    found = os.statvfs(folder)
    if found.f_blocks * found.f_frsize != int(size):
        raise OSError(f"{found.f_blocks * found.f_frsize} bytes")


def status(field: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    raise OSError(f"no {field} in /proc/self/status")


PROBES: dict[str, Callable[[str], None]] = {
    "connect": connect,
    "resolve": resolve,
    "write": write,
    "execute_in": execute_in,
    "setuid": setuid,
    "capabilities": capabilities,
    "new_privileges": new_privileges,
    "root": root,
    "device": device,
    "make_device": make_device,
    "mount": mount,
    "unix_socket": unix_socket,
    "allocate": allocate,
    "threads": threads,
    "interfaces": interfaces,
    "variable": variable,
    "group": group,
    "read": read,
    "room": room,
}


def attempt(probe: str) -> str:
    name, _, target = probe.partition("=")
    try:
        PROBES[name](target)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"no: {type(error).__name__}: {error}"
    return "yes"


if __name__ == "__main__":
    print(json.dumps({probe: attempt(probe) for probe in sys.argv[1:]}), flush=True)
