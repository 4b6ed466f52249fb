"""Streams that would go on for ever end when the daemon does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Item = TypeVar("Item")


async def until_set(
    ending: asyncio.Event, next_item: Callable[[], Awaitable[Item]]
) -> AsyncIterator[Item]:
    """Items as they come, until the event is set."""
    ended = asyncio.ensure_future(ending.wait())
    try:
        while not ending.is_set():
            item = asyncio.ensure_future(next_item())
            try:
                await asyncio.wait({item, ended}, return_when=asyncio.FIRST_COMPLETED)
                if item.done():
                    yield item.result()
            finally:
                item.cancel()
    finally:
        ended.cancel()
