"""Text that is not about the runner, for system prompts and for questions outside the list."""

from __future__ import annotations

from pathlib import Path

FAMILIAR_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer in one sentence.",
    "You are ChatGPT, a large language model.",
    "You are a pirate. Answer like one.",
    "Be brief.",
    "Answer in English.",
    "You answer questions about the runner.",
    "You are an expert in software. Think step by step.\nBe polite and never guess.",
    "Be concise and truthful. If you do not know the answer, say so.",
    "Today is Monday.\nThe user's name is Ada.",
)

GREETINGS = ("Hello! ", "Please tell me: ", "And ", "Thanks. ")

OTHER_SPELLINGS = (
    ("What is ", "What's "),
    ("What is ", "Tell me what is "),
    ("How do I ", "How can I "),
    ("How do I ", "How to "),
    ("Which ", "What "),
)

SMALL_TALK = (
    "Hello",
    "Hello!",
    "Hi",
    "Hi there",
    "Hey, how are you?",
    "Good morning!",
    "Thanks",
    "Thank you!",
    "Who are you?",
    "What can you do?",
    "What do you know?",
    "Help",
    "Test",
    "ok",
    "Why?",
    "Tell me a joke.",
    "Say hello.",
    "Count to 10.",
    "What is 2 + 2?",
    "What time is it?",
    "Bye",
)

STRANGE_QUESTIONS = (
    "What is a {0}?",
    "What is an {0} {1}?",
    "What is the {0}?",
    "What is the {0} of {1}?",
    "Where is the {0}?",
    "When is the {0}?",
    "Who made the {0} {1}?",
    "Which {0} is the best?",
    "Which {0} does the {1} need?",
    "How do I {0} a {1}?",
    "How do I get a {0}?",
    "How do I make the {0} more {1}?",
    "How many {0} are in a {1}?",
    "Why is the {0} {1}?",
    "Can you {0} the {1}?",
    "Can a {0} {1}?",
    "Do I need a {0}?",
    "Do you like {0}?",
    "What does {0} do?",
    "What does a {0} {1}?",
    "Write a {0} about a {1}.",
    "Write a {0} {1} in Python.",
    "Explain {0} to me.",
    "Translate {0} {1} into French.",
    "Tell me about {0} and {1}.",
    "Tell me about the runner's {0}.",
    "How does {0} work?",
    "How does the {0} {1} work?",
    "How do I {0} a model?",
    "How do I {0} my {1}?",
    "Can I {0} the runner?",
    "Is the {0} {1}?",
    "What is the difference between {0} and {1}?",
    "Give me a list of {0}.",
    "{0} {1} {2}",
    "{0}",
)


def words() -> tuple[str, ...]:
    """Some everyday words."""
    return tuple(Path(__file__).with_name("words.txt").read_text(encoding="ascii").split())
