"""Which proxy a URL goes through: the settings' own, else the environment's."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from runner.settings import Proxy


def proxies_for(url: str, proxy: Proxy) -> dict[str, str]:
    """Proxies by scheme, as requests takes them; empty where the URL is reached directly."""
    if not (proxy.http or proxy.https or proxy.no_proxy):
        from requests.utils import get_environ_proxies

        return dict(get_environ_proxies(url))
    parts = urlsplit(url)
    chosen = proxy.https if parts.scheme == "https" else proxy.http
    if not chosen or bypasses(parts.hostname or "", parts.port, proxy.no_proxy):
        return {}
    return {parts.scheme: chosen}


def bypasses(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether `no_proxy` (hosts, .suffixes, addresses, networks, `*`) names this host.

    Loopback is always reached directly.
    """
    if is_loopback(host):
        return True
    entries = [entry.strip().lower() for entry in no_proxy.split(",")]
    return any(entry and _matches(host.lower(), port, entry) for entry in entries)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    address = as_address(host)
    return address.is_loopback if address else host.lower() == "localhost"


def as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that `host` spells out, if it is one."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _matches(host: str, port: int | None, entry: str) -> bool:
    if entry == "*":
        return True
    address = as_address(host)
    if address:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, wanted = entry.partition(":")
    if colon and wanted != str(port):
        return False
    name = name.removeprefix("*").removeprefix(".")
    return host == name or host.endswith(f".{name}")
