"""Networks of one instance each, where an engine can only be reached by a port.

What they can't cut off are services of Docker's own host that listen on all its addresses: a
bridge whose host side has none can't publish ports. Docker Desktop's host is a virtual machine; on
Linux an engine that can use a Unix socket is therefore never put into one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from runner.dockerhost import DockerHost
from runner.launch.labels import HOME

OPTIONS = {
    # No neighbours, should another container ever be put into this network.
    "com.docker.network.bridge.enable_icc": "false",
    # What leaves has an address that nobody outside can answer; published ports still work.
    "com.docker.network.bridge.enable_ip_masquerade": "false",
}


class InstanceNetworks:
    """The networks of one runner's home, each named like its container."""

    def __init__(self, host: DockerHost, home_id: str) -> None:
        self._host = host
        self._home_id = home_id

    def make(self, name: str) -> None:
        with self._host.translated() as docker:
            docker.networks.create(
                name, driver="bridge", options=dict(OPTIONS), labels={HOME: self._home_id}
            )

    def remove(self, name: str) -> None:
        """One that is not there is fine."""
        self._remove(lambda found: found == name)

    def remove_strays(self, used: Collection[str]) -> None:
        self._remove(lambda found: found not in used)

    def _remove(self, unwanted: Callable[[str], bool]) -> None:
        with self._host.translated() as docker:
            for network in docker.networks.list(filters={"label": f"{HOME}={self._home_id}"}):
                if unwanted(str(network.name)):
                    network.remove()
