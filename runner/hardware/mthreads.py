"""Moore Threads: what mthreads-gmi tells as JSON."""

from __future__ import annotations

import json

from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.probe import Probe
from runner.hardware.text import first_line, number, size


def mthreads(probe: Probe) -> Found:
    answer = probe.run("mthreads-gmi", "-q", "--json")
    if answer is None:
        return Found()
    told = _parsed(answer.text) if answer.ok else None
    if told is None:
        return Found(troubles=(f"mthreads-gmi does not work: {first_line(answer.text)}",))
    listed = told.get("GPU")
    cards = listed if isinstance(listed, list) else []
    driver = _text(told, "Driver Version")
    return Found(tuple(_gpu(card, driver) for card in cards if isinstance(card, dict)))


def _parsed(text: str) -> dict[str, object] | None:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _gpu(card: dict[str, object], driver: str) -> Gpu:
    memory = card.get("FB Memory Usage")
    return Gpu(
        vendor=Vendor.MTHREADS,
        index=number(_text(card, "Index")) or 0,
        uuid=_text(card, "GPU UUID"),
        name=_text(card, "Product Name"),
        memory=size(_text(memory, "Total")) if isinstance(memory, dict) else None,
        driver=driver,
    )


def _text(told: dict[str, object], name: str) -> str:
    value = told.get(name)
    word = str(value).strip() if isinstance(value, str | int) else ""
    return "" if word == "N/A" else word
