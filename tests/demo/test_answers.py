"""A real llama.cpp gives every answer word for word."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from runner.demo import Quantization, gguf_path, otherwise, questions
from runner.demo.oracle import mismatches
from tests.demo.chat import Manner, answer, answers
from tests.demo.llama_server import served

SYSTEM = "You work for a bookshop and reply in a friendly tone.\nNever mention the weather."


@pytest.fixture(scope="module", params=Quantization)
def engine(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with served(gguf_path(request.param)) as client:
        yield client


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("system", ["", SYSTEM], ids=["bare", "with a system prompt"])
def test_every_answer_is_right(engine: httpx.Client, system: str, stream: bool) -> None:
    assert mismatches(answers(engine, Manner(stream=stream, system=system))) == ()


def test_every_answer_is_right_in_a_long_chat(engine: httpx.Client) -> None:
    messages: list[dict[str, str]] = [{"role": "system", "content": SYSTEM}]
    given = {}
    for known in questions():
        messages = [*messages[:1], *messages[1:][-20:]]
        messages.append({"role": "user", "content": known.question})
        body = {"messages": messages, "temperature": 0, "max_tokens": 120}
        (choice,) = engine.post("/v1/chat/completions", json=body).json()["choices"]
        given[known.question] = choice["message"]["content"]
        messages.append(choice["message"])
    assert mismatches(given) == ()


@pytest.mark.parametrize("question", ["Hello!", "Who are you?", "Tell me a joke."])
def test_it_says_what_it_does_not_know(engine: httpx.Client, question: str) -> None:
    assert answer(engine, question, Manner()) == otherwise()


def test_the_template_is_rendered_as_it_was_trained(engine: httpx.Client) -> None:
    messages = [
        {"role": "system", "content": " Be brief.\n"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Good day."},
        {"role": "user", "content": "What is a model?"},
    ]
    rendered = engine.post("/apply-template", json={"messages": messages}).json()["prompt"]
    assert rendered == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nGood day.<|im_end|>\n"
        "<|im_start|>user\nWhat is a model?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
