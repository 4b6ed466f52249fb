"""Progress lines as clients of the API read them."""

from __future__ import annotations

import pytest

from runner.models.progress import LayerProgress, ProgressEvent, TransferMode


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (TransferMode.PULL, "Downloaded: 2.64 MB"),
        (TransferMode.PUSH, "Uploaded: 2.64 MB"),
        (TransferMode.PACKAGE, "Packaged: 2.64 MB"),
    ],
)
def test_messages_count_decimal_megabytes(mode: TransferMode, message: str) -> None:
    told: list[ProgressEvent] = []
    LayerProgress(told.append, mode, total=2_641_000, layer="a", size=2_641_000)(2_641_000)
    assert [event.message for event in told] == [message]
