"""Jobs whose client reads slowly: progress may be missed, the result never."""

from __future__ import annotations

import asyncio
import json
import threading

from starlette.responses import StreamingResponse

from runner.api.jobs import MAX_WAITING, Line, Tell, job


def test_progress_that_nobody_reads_is_dropped_and_the_result_is_not() -> None:
    def work(tell: Tell, cancelled: threading.Event) -> Line:
        for number in range(3 * MAX_WAITING):
            tell({"type": "progress", "number": number})
        return {"type": "success"}

    async def main() -> list[str]:
        response = await job(work, asyncio.Event())
        assert isinstance(response, StreamingResponse)
        for thread in threading.enumerate():
            if thread.name == "job":
                await asyncio.to_thread(thread.join)
        lines = [line async for line in response.body_iterator]
        return [json.loads(line)["type"] for line in lines if isinstance(line, bytes)]

    types = asyncio.run(main())
    assert types[-1] == "success"
    assert len(types) <= MAX_WAITING + 2
