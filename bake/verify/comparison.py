"""Compare the records of a machine with that of the author's server, one difference for each path and host."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from bake.config.sections import Page
from bake.verify.record import Answer, Record, is_uninformative
from bake.verify.rules import Case, Finding, Verdict, judge, masked


@dataclass(frozen=True)
class Difference:
    """The result of comparing one path, for one scheme and host. `cure` is an edit, or ""."""

    path: str
    scheme_host: str
    verdict: Verdict
    sentence: str
    cure: str
    author: str = "-"
    machine: str = "-"

    @property
    def address(self) -> str:
        """Return the path without the method."""
        return self.path.removeprefix("HEAD ")


def compare(
    author: Record | None, machine: Sequence[Record], pages: Iterable[Page] = (), health: str | None = None
) -> tuple[Difference, ...]:
    """Compare records of a machine with that of the author's server. Return one difference for each path and record.

    Without a record of the author's server, judge the machine's responses alone. `pages` are those in bake.yaml; their
    statuses override the ones of the author's server. `health` is the health path in bake.yaml.
    """
    author_answers: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in author.answers if author else ():
        author_answers[answer.path, answer.method].append(answer)
    by_name = {record.key: record for record in machine if record.visitors == 1}
    expected_pages = {unquote(page.path): page for page in [*([Page(path=health)] if health else []), *pages]}
    differences = []
    for record in machine:
        page_answers: dict[tuple[str, str], list[Answer]] = defaultdict(list)
        for answer in record.answers:
            page_answers[answer.path, answer.method].append(answer)
        for (path, method), answers in page_answers.items():
            comparable_answers = [answer for answer in author_answers[path, method] if not is_uninformative(answer)]
            if method == "HEAD" and all(map(is_uninformative, author_answers[path, "GET"])):
                comparable_answers = []
            case = Case(
                path, answers[0], None, comparable_answers, _titles(author_answers, path), record,
                has_health=bool(health), created_by_crawl=_is_created_by_crawl(author_answers, path),
                page=expected_pages.get(unquote(path)) if method == "GET" else None,
            )  # fmt: skip
            differences.append(_worst([_mildest(case, answer, by_name) for answer in answers], case))
        if not record.complete:
            differences.append(_incomplete(record))
    machine_paths = {unquote(answer.path) for record in machine for answer in record.answers}
    differences += [
        Difference(path, machine[0].name, Verdict.FAULT, "The crawl did not request this page.", "")
        for path in expected_pages
        if machine and path not in machine_paths
    ]
    return tuple(differences)


def _is_created_by_crawl(author_answers: dict[tuple[str, str], list[Answer]], path: str) -> bool:
    """Return whether a page that links to this one, on the author's server, has different links on each request.

    A visit then adds data to the app, and this page may belong to that data. Assets do not count as pages.
    """
    visited_paths: set[str] = set()
    while path not in visited_paths:
        visited_paths.add(path)
        answers = author_answers.get((path, "GET"), ())
        answer = next((answer for answer in answers if answer.via in ("link", "redirect")), None)
        if answer is None:
            return False
        path = answer.source
        link_sets = {
            (answer.links, answer.location and answer.location.path.partition("?")[0])
            for answer in author_answers.get((path, "GET"), ())
            if 200 <= answer.status < 400
        }
        if len(link_sets) > 1:
            return True
    return False


def _titles(author_answers: dict[tuple[str, str], list[Answer]], path: str) -> Counter[str]:
    """Count the pages by title, except the page at `path`."""
    pages = {
        (other, masked(answer.title))
        for (other, _), answers in author_answers.items()
        for answer in answers
        if other != path and answer.title and 200 <= answer.status < 300
    }
    return Counter(title for _, title in pages)


def _mildest(case: Case, answer: Answer, records: dict[tuple[str, str], Record]) -> tuple[Finding, Case]:
    """Judge a response against each one of the author's server, all of them correct. Return the mildest finding."""
    final_answer = _follow_https(case.record, answer, records)
    if final_answer is None:
        return Finding(Verdict.SAME, ""), replace(case, answer=answer)
    is_scheme_loop = case.is_front and _is_scheme_loop(case.record, answer, records)
    authors: Sequence[Answer | None] = case.author_answers or [None]
    cases = [replace(case, answer=final_answer, author=author, is_scheme_loop=is_scheme_loop) for author in authors]
    return min(((judge(candidate), candidate) for candidate in cases), key=lambda pair: pair[0].verdict.value)


def _follow_https(record: Record, answer: Answer, records: dict[tuple[str, str], Record]) -> Answer | None:
    """Follow nginx's redirect to HTTPS. Return None if the crawl did not request that URL."""
    target = answer.location
    if not target or target.origin != "https" or target.path != answer.path:
        return answer
    https_record = records.get(("https", record.key[1]))
    return _find(https_record, target.path, answer.method) if https_record else None


def _find(record: Record, path: str, method: str = "GET") -> Answer | None:
    return next((answer for answer in record.answers if (answer.path, answer.method) == (path, method)), None)


def _is_scheme_loop(record: Record, answer: Answer, records: dict[tuple[str, str], Record]) -> bool:
    """Return whether redirects go from HTTP to HTTPS and back forever."""
    visited_pages, schemes = {(record.key, answer.path)}, set()
    target = answer.location
    while target and target.origin in ("same", "http", "https"):
        scheme = record.key[0] if target.origin == "same" else target.origin
        schemes.add(scheme)
        next_record = records.get((scheme, record.key[1]))
        if next_record is None:
            return False
        if (next_record.key, target.path) in visited_pages:
            return len(schemes) > 1
        visited_pages.add((next_record.key, target.path))
        record, next_answer = next_record, _find(next_record, target.path)
        target = next_answer.location if next_answer else None
    return False


def _worst(findings: list[tuple[Finding, Case]], case: Case) -> Difference:
    """Return the most severe finding for any visitor as a difference."""
    finding, worst_case = max(findings, key=lambda pair: pair[0].verdict.value)
    sentence = finding.sentence
    if case.record.visitors > 1 and finding.verdict is not Verdict.SAME:
        count = sum(other.verdict is finding.verdict for other, _ in findings)
        sentence += f" ({count} of {len(findings)} visitors)"
    path = case.path if worst_case.answer.method == "GET" else f"{worst_case.answer.method} {case.path}"
    author = worst_case.author.summary if worst_case.author else "-"
    return Difference(
        path, case.record.name, finding.verdict, sentence, finding.cure, author, worst_case.answer.summary
    )


def _incomplete(record: Record) -> Difference:
    sentence = f"The crawl did not request every URL in its time limit ({record.seconds:.0f} s)."
    return Difference("", record.name, Verdict.NOTE, sentence, "")
