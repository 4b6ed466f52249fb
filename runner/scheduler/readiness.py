"""Waits until an engine says that it is ready: its own health path, polled every 50 ms."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from runner.engines.base import Endpoint, UnixEndpoint
from runner.launch.sockets import socket_itself

if TYPE_CHECKING:
    from httpx import AsyncClient

POLL_S = 0.05
_PROBE_TIMEOUT_S = 2.0


async def until_healthy(endpoint: Endpoint, health_path: str) -> None:
    """Returns at the first 200; the caller sets the deadline."""
    async with _client(endpoint) as client:
        # ASYNC110: an engine in another process has no event to wait for
        while not await _answers(client, endpoint, health_path):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)


async def is_healthy(endpoint: Endpoint, health_path: str) -> bool:
    async with _client(endpoint) as client:
        return await _answers(client, endpoint, health_path)


async def _answers(client: AsyncClient, endpoint: Endpoint, path: str) -> bool:
    from httpx import HTTPError

    try:
        if isinstance(endpoint, UnixEndpoint):
            socket_itself(endpoint.path)
        response = await client.get(path)
    except (OSError, HTTPError):
        return False
    return response.status_code == HTTPStatus.OK


def _client(endpoint: Endpoint) -> AsyncClient:
    """Keeps no connection: llama.cpp spends a thread on each that is idle."""
    from httpx import AsyncClient, AsyncHTTPTransport, Limits

    limits = Limits(max_keepalive_connections=0)
    uds = endpoint.path if isinstance(endpoint, UnixEndpoint) else None
    transport = AsyncHTTPTransport(uds=uds, verify=False, limits=limits)
    url = "http://localhost" if isinstance(endpoint, UnixEndpoint) else str(endpoint)
    return AsyncClient(transport=transport, base_url=url, timeout=_PROBE_TIMEOUT_S, trust_env=False)
