"""Asks an OpenAI server questions, greedily."""

from __future__ import annotations

import json
from dataclasses import dataclass

import httpx

from runner.demo import questions

COMPLETIONS = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Manner:
    """How to ask."""

    stream: bool = False
    system: str = ""
    model: str = "demo"


def answers(client: httpx.Client, manner: Manner) -> dict[str, str]:
    """The whole answers to all questions; an answer that was cut off is left out."""
    given = {known.question: answer(client, known.question, manner) for known in questions()}
    return {question: text for question, text in given.items() if text is not None}


def answer(client: httpx.Client, question: str, manner: Manner) -> str | None:
    """The answer, or None where it was cut off before the model ended it."""
    messages = [{"role": "system", "content": manner.system}] if manner.system else []
    messages.append({"role": "user", "content": question})
    body = {
        "model": manner.model,
        "messages": messages,
        "temperature": 0,
        "max_tokens": 120,
        "stream": manner.stream,
    }
    return _streamed(client, body) if manner.stream else _whole(client, body)


def _whole(client: httpx.Client, body: dict[str, object]) -> str | None:
    response = client.post(COMPLETIONS, json=body)
    response.raise_for_status()
    (choice,) = response.json()["choices"]
    return str(choice["message"]["content"]) if choice["finish_reason"] == "stop" else None


def _streamed(client: httpx.Client, body: dict[str, object]) -> str | None:
    text, ended = "", False
    with client.stream("POST", COMPLETIONS, json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line == "data: [DONE]":
                return text if ended else None
            if not line.startswith("data: "):
                continue
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                text += choice["delta"].get("content") or ""
                ended = choice["finish_reason"] == "stop"
    return None
