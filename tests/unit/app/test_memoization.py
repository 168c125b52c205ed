"""Questions whose answers depend on each other."""

from __future__ import annotations

from collections.abc import Callable

from bake.app.memoization import Answers


def test_an_answer_does_not_depend_on_who_asked_first() -> None:
    # b has an answer of its own, a and c ask each other and b.
    rules: dict[str, tuple[str, ...]] = {"a": ("c", "b"), "b": ("a",), "c": ("a", "d"), "d": ("b",)}

    def rule(key: str, ask: Callable[[str], str | None]) -> str | None:
        answers = [ask(other) for other in rules[key]]
        return next(filter(None, answers), "found" if key == "b" else None)

    for first in rules:
        answers: Answers[str, str] = Answers(rule)
        answers.get(first)
        assert {key: answers.get(key) for key in rules} == dict.fromkeys(rules, "found")


def test_questions_that_only_ask_each_other_have_no_answer() -> None:
    answers: Answers[str, str] = Answers(lambda key, ask: ask({"a": "b", "b": "c", "c": "a"}[key]))
    assert [answers.get(key) for key in "abc"] == [None] * 3


def test_each_question_is_asked_a_bounded_number_of_times() -> None:
    asked: list[int] = []

    def rule(key: int, ask: Callable[[int], int | None]) -> int | None:
        asked.append(key)
        found = [ask(other) for other in range(max(0, key - 5), key)]
        return key if key == 0 else next((one for one in found if one is not None), None)

    answers = Answers(rule)
    # Longer than Python's own stack.
    assert answers.get(20_000) == 0
    assert len(asked) < 5 * 20_000
