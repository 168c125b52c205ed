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
        """The path without the method."""
        return self.path.removeprefix("HEAD ")


def compare(
    author: Record | None, machine: Sequence[Record], pages: Iterable[Page] = (), health: str | None = None
) -> tuple[Difference, ...]:
    """Compare records of a machine with that of the author's server. Return one difference for each path and record.

    Without a record of the author's server, judge the machine's responses alone. `pages` are those in bake.yaml; their
    statuses override the ones of the author's server. `health` is the health path in bake.yaml.
    """
    known: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in author.answers if author else ():
        known[answer.path, answer.method].append(answer)
    by_name = {record.key: record for record in machine if record.visitors == 1}
    expected = {unquote(page.path): page for page in [*([Page(path=health)] if health else []), *pages]}
    found = []
    for record in machine:
        grouped: dict[tuple[str, str], list[Answer]] = defaultdict(list)
        for answer in record.answers:
            grouped[answer.path, answer.method].append(answer)
        for (path, method), answers in grouped.items():
            others = [answer for answer in known[path, method] if not is_uninformative(answer)]
            if method == "HEAD" and all(map(is_uninformative, known[path, "GET"])):
                others = []
            base = Case(
                path, answers[0], None, others, _titles(known, path), record, has_health=bool(health),
                made=_is_made(known, path), page=expected.get(unquote(path)) if method == "GET" else None,
            )  # fmt: skip
            found.append(_worst([_against(base, answer, by_name) for answer in answers], base))
        if not record.complete:
            found.append(_incomplete(record))
    asked = {unquote(answer.path) for record in machine for answer in record.answers}
    found += [
        Difference(path, machine[0].name, Verdict.FAULT, "The crawl did not request this page.", "")
        for path in expected
        if machine and path not in asked
    ]
    return tuple(found)


def _is_made(known: dict[tuple[str, str], list[Answer]], path: str) -> bool:
    """Return whether a page that links to this one, on the author's server, has different links on each request.

    A visit then adds data to the app, and this page may belong to that data. Assets do not count as pages.
    """
    seen: set[str] = set()
    while path not in seen:
        seen.add(path)
        answer = next((each for each in known.get((path, "GET"), ()) if each.via in ("link", "redirect")), None)
        if answer is None:
            return False
        path = answer.source
        leads = {
            (each.links, each.location and each.location.path.partition("?")[0])
            for each in known.get((path, "GET"), ())
            if 200 <= each.status < 400
        }
        if len(leads) > 1:
            return True
    return False


def _titles(known: dict[tuple[str, str], list[Answer]], path: str) -> Counter[str]:
    """Count the pages by title, except the page at `path`."""
    pages = {
        (other, masked(answer.title))
        for (other, _), answers in known.items()
        for answer in answers
        if other != path and answer.title and 200 <= answer.status < 300
    }
    return Counter(title for _, title in pages)


def _against(base: Case, answer: Answer, records: dict[tuple[str, str], Record]) -> tuple[Finding, Case]:
    """Judge a response against each one of the author's server, all of them correct. Return the mildest finding."""
    followed = _followed(base.record, answer, records)
    if followed is None:
        return Finding(Verdict.SAME, ""), replace(base, answer=answer)
    crosses = base.is_front and _crosses(base.record, answer, records)
    authors: Sequence[Answer | None] = base.others or [None]
    cases = [replace(base, answer=followed, author=author, crosses=crosses) for author in authors]
    return min(((judge(case), case) for case in cases), key=lambda pair: pair[0].verdict.value)


def _followed(record: Record, answer: Answer, records: dict[tuple[str, str], Record]) -> Answer | None:
    """Follow nginx's redirect to HTTPS. Return None if the crawl did not request that URL."""
    target = answer.location
    if not target or target.origin != "https" or target.path != answer.path:
        return answer
    other = records.get(("https", record.key[1]))
    return _find(other, target.path, answer.method) if other else None


def _find(record: Record, path: str, method: str = "GET") -> Answer | None:
    return next((answer for answer in record.answers if (answer.path, answer.method) == (path, method)), None)


def _crosses(record: Record, answer: Answer, records: dict[tuple[str, str], Record]) -> bool:
    """Return whether redirects go from HTTP to HTTPS and back forever."""
    seen, schemes = {(record.key, answer.path)}, set()
    target = answer.location
    while target and target.origin in ("same", "http", "https"):
        scheme = record.key[0] if target.origin == "same" else target.origin
        schemes.add(scheme)
        here = records.get((scheme, record.key[1]))
        if here is None:
            return False
        if (here.key, target.path) in seen:
            return len(schemes) > 1
        seen.add((here.key, target.path))
        record, next_answer = here, _find(here, target.path)
        target = next_answer.location if next_answer else None
    return False


def _worst(judged: list[tuple[Finding, Case]], base: Case) -> Difference:
    """Return the most severe finding for any visitor as a difference."""
    finding, case = max(judged, key=lambda pair: pair[0].verdict.value)
    sentence = finding.sentence
    if base.record.visitors > 1 and finding.verdict is not Verdict.SAME:
        count = sum(other.verdict is finding.verdict for other, _ in judged)
        sentence += f" ({count} of {len(judged)} visitors)"
    path = base.path if case.answer.method == "GET" else f"{case.answer.method} {base.path}"
    before = case.author.summary if case.author else "-"
    return Difference(path, base.record.name, finding.verdict, sentence, finding.cure, before, case.answer.summary)


def _incomplete(record: Record) -> Difference:
    sentence = f"The crawl did not request every URL in its time limit ({record.seconds:.0f} s)."
    return Difference("", record.name, Verdict.NOTE, sentence, "")
