"""Memoize the answers to questions that depend on each other, also in cycles.

Memoization alone is wrong for cycles: the value that breaks a cycle depends on which question came first. So this
module groups the questions by cycles (strongly connected components) before it answers any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Ask = Callable[[Key], Value | None]


class Answers(Generic[Key, Value]):
    """The answers of a `rule`. None means that there is no answer.

    `rule(key, ask)` answers one question, and gets the answers to others from `ask`. If `ask` returns None each time,
    the rule must ask every question that it could ask. The time is linear in the number of questions.
    """

    def __init__(self, rule: Callable[[Key, Ask[Key, Value]], Value | None]) -> None:
        self._rule = rule
        self._answers: dict[Key, Value | None] = {}

    def get(self, key: Key) -> Value | None:
        """Return the answer to a question. It does not depend on earlier questions."""
        for group in self._groups(key):
            self._settle(group)
        return self._answers[key]

    def _groups(self, first: Key) -> Iterator[dict[Key, list[Key]]]:
        """Yield groups of questions that depend on each other. A group follows the groups that it depends on.

        A group maps each question to the questions that it may ask. This is Tarjan's algorithm for strongly connected
        components, with an explicit stack, because chains of imports may exceed Python's recursion limit.
        """
        numbers: dict[Key, int] = {}
        lowest: dict[Key, int] = {}
        questions: dict[Key, list[Key]] = {}
        open_keys: list[Key] = []
        stack: list[tuple[Key, Iterator[Key]]] = []

        def enter(key: Key) -> None:
            questions[key] = []
            value = self._rule(key, questions[key].append)
            if not questions[key]:
                self._answers[key] = value
                return
            numbers[key] = lowest[key] = len(numbers)
            open_keys.append(key)
            stack.append((key, iter(questions[key])))

        if first not in self._answers:
            enter(first)
        while stack:
            key, others = stack[-1]
            for other in others:
                if other not in self._answers:
                    break
            else:
                stack.pop()
                if stack:
                    lowest[stack[-1][0]] = min(lowest[stack[-1][0]], lowest[key])
                if lowest[key] == numbers[key]:
                    start = len(open_keys) - 1
                    while open_keys[start] != key:
                        start -= 1
                    yield {member: questions[member] for member in open_keys[start:]}
                    del open_keys[start:]
                continue
            if other in numbers:
                lowest[key] = min(lowest[key], numbers[other])
            else:
                enter(other)

    def _settle(self, group: dict[Key, list[Key]]) -> None:
        """Answer the questions of a group in rounds. Each round uses the answers of the previous rounds.

        An answer is final if the rule asked only answered questions. If a round has no such answer, the group depends
        on itself, and the tentative answers become final. The remaining questions have no answer.
        """
        if len(group) == 1:
            for key in group:
                self._answers[key] = self._rule(key, self._answers.get)
            return
        dependents: dict[Key, list[Key]] = {}
        for key, questions in group.items():
            for other in questions:
                dependents.setdefault(other, []).append(key)
        tentative_answers: dict[Key, Value | None] = {}
        pending: Iterable[Key] = group
        while True:
            final_answers: dict[Key, Value | None] = {}
            for key in pending:
                open_questions: list[Key] = []
                value = self._rule(key, partial(self._look_up, open_questions))
                tentative_answers.pop(key, None)
                if not open_questions:
                    final_answers[key] = value
                elif value is not None:
                    tentative_answers[key] = value
            if not final_answers:
                final_answers, tentative_answers = tentative_answers, {}
            if not final_answers:
                break
            self._answers |= final_answers
            askers = (asker for key in final_answers for asker in dependents.get(key, ()))
            pending = dict.fromkeys(asker for asker in askers if asker not in self._answers)
        self._answers |= dict.fromkeys(key for key in group if key not in self._answers)

    def _look_up(self, open_questions: list[Key], key: Key) -> Value | None:
        """Return an answer if it is known. Otherwise, add the question to `open_questions` and return None."""
        if key not in self._answers:
            open_questions.append(key)
        return self._answers.get(key)
