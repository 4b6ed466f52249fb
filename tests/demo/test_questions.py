from __future__ import annotations

from runner.demo import gguf_path, huggingface_path, otherwise, questions
from runner.demo.oracle import Mismatch, mismatches


def test_there_are_some_forty_questions_and_no_two_are_alike() -> None:
    known = questions()
    assert 40 <= len(known) <= 60
    assert len({entry.question.lower() for entry in known}) == len(known)
    assert len({entry.answer for entry in known}) == len(known)


def test_texts_are_plain_sentences() -> None:
    for text in (otherwise(), *(known.answer for known in questions())):
        assert text.isascii()
        assert text == " ".join(text.split())
        assert text.endswith(".")


def test_the_first_question_of_the_documentation_is_known() -> None:
    assert "What is an engine?" in {known.question for known in questions()}


def test_the_files_are_small_enough_to_ship() -> None:
    files = [path for path in huggingface_path().iterdir() if path.is_file()]
    files += list(gguf_path().parent.glob("*.gguf"))
    assert sum(path.stat().st_size for path in files) < 8_000_000


def test_the_oracle_accepts_only_all_answers_word_for_word() -> None:
    right = {known.question: known.answer for known in questions()}
    assert mismatches(right) == ()
    first = questions()[0]
    assert mismatches(right | {first.question: first.answer[:-1]}) == (
        Mismatch(first.question, first.answer, first.answer[:-1]),
    )
    del right[first.question]
    assert mismatches(right) == (Mismatch(first.question, first.answer, None),)
