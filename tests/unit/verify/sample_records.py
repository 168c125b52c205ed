"""Build records of the author's server and of machines, and compare them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bake.verify.comparison import Difference, compare
from bake.verify.record import Answer, Location, Record
from bake.verify.rules import Verdict

FAULT, NOTE, SAME = Verdict.FAULT, Verdict.NOTE, Verdict.SAME
HTML = Answer(path="/", status=200, type="text/html", charset="utf-8", kind="html", length=9, sha256="a", end="whole")
CSS = Answer(
    path="/static/a.css", status=200, type="text/css", kind="css", length=5, sha256="c", end="whole", validator=True
)
JS = replace(CSS, path="/a.js", type="text/javascript", kind="js")
BMP = replace(CSS, path="/a.bmp", type="image/bmp", kind="image")
JSON = replace(HTML, type="application/json", charset="", kind="json")


def page(path: str = "/page", like: Answer = HTML, **values: Any) -> Answer:
    return replace(like, **{"path": path, "sha256": path, **values})


def missing(path: str = "/page", status: int = 404, **values: Any) -> Answer:
    return page(path, **{"status": status, "title": "Not Found", **values})


def to(target: str, path: str = "/page", origin: str = "same", host: str = "", **values: Any) -> Answer:
    """A redirect."""
    answer = Answer(path=path, status=302, kind="empty", end="whole", location=Location(target, origin, host))
    return replace(answer, **values)


def failed(error: str, path: str = "/page") -> Answer:
    return Answer(path=path, error=error)


def author(*answers: Answer) -> Record:
    return Record(url="http://127.0.0.1:5000", host="127.0.0.1:5000", answers=answers)


def machine(*answers: Answer, scheme: str = "https", host: str = "shop.example", **values: Any) -> Record:
    return replace(Record(url=f"{scheme}://{host}", host=host, answers=answers), **values)


def only(author: Record | None, *records: Record, **expected: Any) -> Difference:
    """The most severe difference."""
    return max(compare(author, records, **expected), key=lambda difference: difference.verdict.value)


def verdict(before: Answer | tuple[Answer, ...] | None, after: Answer, **expected: Any) -> Verdict:
    """The verdict for one answer of the machine's beside the author's."""
    answers = before if isinstance(before, tuple) else (before,) if before else ()
    return only(author(*answers) if answers else None, machine(after), **expected).verdict
