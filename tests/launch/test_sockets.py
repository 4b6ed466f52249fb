"""What lies where an engine's socket should be."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from runner.launch.sockets import socket_itself


def test_only_a_socket_itself_is_connected_to(session_folder: Path) -> None:
    real, link, file = (session_folder / name for name in ("s", "l", "f"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(real))
        link.symlink_to(real)
        file.write_text("")
        assert socket_itself(str(real)) == str(real)
        for other in (link, file):
            with pytest.raises(ConnectionRefusedError):
                socket_itself(str(other))
    for path in (real, link, file):
        path.unlink()
