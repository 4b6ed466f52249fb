"""The data plane in front of a real llama.cpp with the demo model."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest

from runner.demo import gguf_path, questions
from runner.engines.base import TcpEndpoint
from tests.demo.llama_server import served
from tests.gateway.stage import Stage, staged

KEEP_ALIVE_OF_LLAMA_CPP = 5.0
"""Seconds for which an idle connection blocks one of its threads."""

MORE_THAN_ITS_THREADS = 16


@pytest.fixture(scope="module")
def llama() -> Iterator[TcpEndpoint]:
    with served(gguf_path()) as client:
        port = client.base_url.port
        assert port is not None
        yield TcpEndpoint(client.base_url.host, port)


def asking(on: Stage, question: str, *, stream: bool = False) -> bytes:
    messages = [{"role": "user", "content": question}]
    body = {"model": "ai/demo", "temperature": 0, "stream": stream, "messages": messages}
    return on.request(json.dumps(body).encode())


def test_whole_and_streamed_answers(llama: TcpEndpoint) -> None:
    @staged()
    async def play(on: Stage) -> None:
        on.instances.endpoint = llama
        wire = await on.connect()
        for known in questions()[:5]:
            await wire.send(asking(on, known.question))
            answer = json.loads((await wire.message()).body)
            assert answer["choices"][0]["message"]["content"] == known.answer
            await wire.send(asking(on, known.question, stream=True))
            stream = await wire.message()
            assert stream.headers["x-runner-engine"] == "llama.cpp"
            assert streamed_text(stream.body) == known.answer

    play()


def streamed_text(body: bytes) -> str:
    events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]
    assert events.pop() == b"[DONE]"
    deltas = [json.loads(event)["choices"] for event in events]
    return "".join(choices[0]["delta"].get("content") or "" for choices in deltas if choices)


def test_idle_connections_keep_no_thread_from_others(llama: TcpEndpoint) -> None:
    @staged()
    async def play(on: Stage) -> None:
        on.instances.endpoint = llama

        async def ask_three_times() -> float:
            wire = await on.connect()
            longest = 0.0
            for _ in range(3):
                start = time.monotonic()
                await wire.send(asking(on, questions()[1].question))
                assert (await wire.message()).status == 200
                longest = max(longest, time.monotonic() - start)
            return longest

        waits = await asyncio.gather(*(ask_three_times() for _ in range(MORE_THAN_ITS_THREADS)))
        assert max(waits) < KEEP_ALIVE_OF_LLAMA_CPP

    play()
