"""Compare a machine's answers with those of the author's server: a fault is where the machine is worse.

cloud-init/release/observe/crawl.py records both. Bodies of dynamic pages are never compared: they may be random, timed
or hold tokens.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from bake.config.recipe import Page
from bake.errors import ProgramError
from bake.host import terminal

#: Version of the record that this module reads.
VERSION = 1
FRONT = "/"
#: Suffixes of files that no app answers with a page.
STATIC = {
    ".css", ".js", ".mjs", ".map", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".avif", ".ico", ".woff", ".woff2",
    ".ttf", ".otf", ".eot", ".wasm", ".mp3", ".mp4", ".webm",
}  # fmt: skip
STATIC_KINDS = ("css", "js", "image", "font")
#: Names of one content type.
ALIASES = {
    "application/javascript": "text/javascript", "application/x-javascript": "text/javascript",
    "image/vnd.microsoft.icon": "image/x-icon", "text/xml": "application/xml", "image/jpg": "image/jpeg",
    "application/font-woff": "font/woff", "application/x-font-woff": "font/woff",
    "application/font-woff2": "font/woff2", "application/x-font-ttf": "font/ttf",
    "application/vnd.ms-fontobject": "font/eot",
}  # fmt: skip
#: Titles of pages that report an error.
ERROR_TITLE = re.compile(
    r"\b(error|not found|bad (request|gateway)|forbidden|unauthorized|unavailable|time-?out|exception"
    r"|welcome to nginx)\b",
    re.I,
)
#: Names of this computer, to which no redirect may lead a visitor.
LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|::1|unix|app")


class Verdict(Enum):
    """What a difference means; the value orders them by severity."""

    SAME = 0
    NOTE = 1
    FAULT = 2


@dataclass(frozen=True)
class Location:
    """Where a redirect leads.

    `path` has the query. `origin` is "same", "http" or "https" (the other scheme of the same host), or "other".
    """

    path: str = ""
    origin: str = "other"
    host: str = ""


@dataclass(frozen=True)
class Answer:
    """An answer to one visitor.

    `status` is 0 and `error` its reason where no response came: refused, timeout, reset, tls, name, unreachable or
    protocol. `type` is without parameters. `kind` is html, json, xml, css, js, image, font, text, binary or empty.
    `length` in bytes; `sha256` of at most the first 2 MiB. `end` is whole, large (more than 2 MiB), stream (no end
    came in time) or broken. `validator`: it has an ETag or a Last-Modified. `links` is a digest of the kinds of its
    links and of how many there are of each. `debug` names the framework whose page for developers it is, or is
    "traceback". `loop`: the redirects of the first page never end. `own` and `foreign`: the marker of this visitor,
    or of another one, is in the answer. `via` is seed, link, asset, redirect or missing, and `source` the page with
    the link.
    """

    path: str = ""
    method: str = "GET"
    visitor: int = 0
    status: int = 0
    type: str = ""
    charset: str = ""
    location: Location | None = None
    kind: str = ""
    length: int = 0
    sha256: str = ""
    end: str = ""
    validator: bool = False
    links: str = ""
    title: str = ""
    debug: str = ""
    loop: bool = False
    own: bool = False
    foreign: bool = False
    seconds: float = 0.0
    error: str = ""
    via: str = ""
    source: str = ""

    @property
    def good(self) -> bool:
        """Whether the status is one of an app that works: a login that is asked for is right."""
        return 200 <= self.status < 400 or self.status in (401, 403)

    @property
    def summary(self) -> str:
        """The answer in a few words: `200 html`, `302 /login`, `timeout`."""
        if not self.status:
            return self.error or "no answer"
        return f"{self.status} {self.location.path if self.location else self.kind}"


@dataclass(frozen=True)
class Record:
    """The answers of one server, at one name and scheme. `complete`: every address was asked within the time."""

    url: str = ""
    host: str = ""
    visitors: int = 1
    complete: bool = True
    seconds: float = 0.0
    answers: tuple[Answer, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Return the record in a crawler's output. Unknown keys are ignored, and missing ones get their defaults.

        Raises ProgramError where the text is no record, or a record of another version.
        """
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ProgramError(f"The crawler printed no record: {error}", details=text[-2000:]) from error
        version = value.get("version") if isinstance(value, dict) else None
        if version != VERSION:
            raise ProgramError(
                f"The crawler's record has version {version!r}; this bake reads version {VERSION}",
                "Bake the image again.",
            )
        answers = value.get("answers")
        read = [_read(Answer, answer) for answer in answers if isinstance(answer, dict)] if _is_list(answers) else []
        return replace(_read(cls, value), answers=tuple(read))

    def to_json(self) -> str:
        """Return the record as JSON, as `from_json` reads it."""
        answers = [{key: value for key, value in asdict(answer).items() if value} for answer in self.answers]
        return json.dumps({"version": VERSION, **asdict(self), "answers": answers})

    def joined(self, other: Record) -> Record:
        """Return a record with the answers of both crawls of one server, which show what varies by itself."""
        return replace(
            self,
            visitors=max(self.visitors, other.visitors),
            complete=self.complete and other.complete,
            answers=self.answers + other.answers,
        )

    @property
    def name(self) -> str:
        """Scheme and host, as `https://shop.example`."""
        return f"{urlsplit(self.url).scheme}://{self.host or urlsplit(self.url).netloc}"

    @property
    def is_informative(self) -> bool:
        """Whether a machine can be compared with these answers of the author's server."""
        return not all(map(_is_uninformative, self.answers))

    @property
    def key(self) -> tuple[str, str]:
        """Scheme and host without its port."""
        parts = urlsplit(self.name)
        return parts.scheme, parts.hostname or ""


_Part = TypeVar("_Part", Answer, Location, Record)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _read(part: type[_Part], value: dict[str, Any]) -> _Part:
    """Return a part of a record, with the default where a value is missing or has another type."""
    known: dict[str, Any] = {}
    for item in fields(part):
        found = value.get(item.name)
        if item.name == "location" and isinstance(found, dict):
            known[item.name] = _read(Location, found)
        elif item.name == "seconds" and isinstance(found, int | float):
            known[item.name] = float(found)
        elif type(found) is type(item.default) and not isinstance(found, tuple):
            known[item.name] = found
    return part(**known)


@dataclass(frozen=True)
class Difference:
    """What the comparison of one path found, at one scheme and host. `cure` is an edit, or ""."""

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


class Finding(NamedTuple):
    """What a rule found."""

    verdict: Verdict
    sentence: str
    cure: str = ""


def fault(sentence: str, cure: str = "") -> Finding:
    """Return a finding that fails the proof."""
    return Finding(Verdict.FAULT, sentence, cure)


def note(sentence: str, cure: str = "") -> Finding:
    """Return a finding that is shown, and fails nothing."""
    return Finding(Verdict.NOTE, sentence, cure)


@dataclass(frozen=True)
class Case:
    """An answer of the machine, beside one of the author's to the same path, or None.

    `others` are all answers of the author's to it. `titles` counts the pages of the author's that have a title. `made`:
    the crawl of the author's server may have made the page itself.
    """

    path: str
    answer: Answer
    author: Answer | None
    others: Sequence[Answer] = ()
    titles: Counter[str] = field(default_factory=Counter)
    record: Record = field(default_factory=Record)
    page: Page | None = None
    has_health: bool = False
    crosses: bool = False
    made: bool = False

    @property
    def is_front(self) -> bool:
        """Whether this is the front page."""
        return self.path == FRONT and self.answer.method == "GET"

    @property
    def is_static(self) -> bool:
        """Whether a static file is expected."""
        suffix = PurePosixPath(urlsplit(self.path).path).suffix.lower()
        return self.author.kind in STATIC_KINDS if self.author and self.author.kind != "empty" else suffix in STATIC

    def varies(self, value: Callable[[Answer], object]) -> bool:
        """Return whether the author's own answers differ in a value."""
        return len({value(answer) for answer in self.others}) > 1


def _expected(case: Case) -> Finding | None:
    page, status = case.page, case.answer.status
    if page and page.status and status != page.status:
        return fault(f"The machine answers {case.answer.summary}; check.pages states {page.status}.")
    if page and not page.status and not 200 <= status < 400:
        return fault(
            f"The machine answers {case.answer.summary}; a page of bake.yaml must answer 2xx or 3xx.",
            f"If {status} is right, state it:  check: {{pages: [{{path: {case.path}, status: {status}}}]}}"
            if status
            else "",
        )
    return None


def _unanswered(case: Case) -> Finding | None:
    error = case.answer.error
    if not error:
        return None
    if case.author and not case.author.status:
        return note(f"Neither server answers ({error}; the author's: {case.author.error}).")
    if case.record.visitors > 1 and error in ("timeout", "reset", "tls"):
        # nginx answers for an app that does not. A slow machine may be late with a handshake, or with the request.
        return note(f"No answer came in time for {case.record.visitors} visitors at once ({error}).")
    return fault(f"The machine does not answer ({error}).")


def _debug(case: Case) -> Finding | None:
    if not case.answer.debug:
        return None
    if case.answer.debug == "traceback":
        return fault("Visitors see the text of an exception.", "Turn off the app's debug mode on the machine.")
    return fault(
        f"Visitors see a page for developers ({case.answer.debug}).",
        "Turn off debug mode where the app is imported, not only under `if __name__`; it may read a variable of env.",
    )


def _mixed(case: Case) -> Finding | None:
    if not case.answer.foreign:
        return None
    if any(answer.foreign for answer in case.others):
        return note("The answer holds data of another visitor, also with the author's server.")
    if case.answer.own:
        return note("The answer lists several visitors.")
    return fault(
        "A visitor got the answer of another one.",
        "A connection or a global variable is shared by requests. Open connections in each worker: preload: off.",
    )


def _front(case: Case) -> Finding | None:
    status = case.answer.status
    if not case.is_front:
        return None
    if case.answer.loop or case.crosses:
        return fault(
            "The redirects of the front page never end.",
            "The app has to believe X-Forwarded-Proto of nginx, or leave the redirect to HTTPS to it.",
        )
    if status == 400:
        return fault(
            "The front page answers 400.", "An app that accepts certain hosts alone needs the machine's names."
        )
    if status in (404, 405) and not case.has_health and not (case.author and case.author.good):
        return note(f"There is no front page ({status}).", "Name a page that tells the app's health:  check.health")
    if status in (401, 403):
        return note(f"The front page asks for a login ({status}).")
    return None


def _server_error(case: Case) -> Finding | None:
    if case.answer.status < 500:
        return None
    also = ", also with the author's server" if case.author and case.author.status >= 500 else ""
    return fault(
        f"The machine answers {case.answer.status}{also}.",
        f"The app's journal has the exception. If this page needs what the bake lacks, state its status:  "
        f"check: {{pages: [{{path: {case.path}, status: {case.answer.status}}}]}}",
    )


def _status(case: Case) -> Finding | None:
    if case.page or not case.author or not case.author.status or not case.answer.status:
        return None
    author, machine = case.author.status, case.answer.status
    sentence = f"The machine answers {case.answer.summary}, the author's server {case.author.summary}."
    if case.made and author < 400 and machine in (404, 410):
        return note(f"{sentence} A page that leads there has other links with each request.")
    if case.author.good and machine >= 400 and not (author in (401, 403) and machine in (401, 403)):
        return fault(sentence)
    if author < 300 <= machine < 400:
        target = case.answer.location
        slash = target and target.origin == "same" and target.path.rstrip("/") == case.path.rstrip("/")
        return note(sentence) if slash else fault(sentence)
    are_redirects = 300 <= author < 400 and 300 <= machine < 400
    return None if author == machine or are_redirects else note(sentence)


def _redirect(case: Case) -> Finding | None:
    target = case.answer.location
    if not target:
        return None
    before = case.author.location if case.author else None
    if target.origin == "other" and LOOPBACK.fullmatch(target.host):
        return fault(
            f"The redirect leads visitors to {target.host}.",
            "The app has to build addresses from the Host header, not from a constant.",
        )
    if before and masked(before.path) != masked(target.path) and not case.varies(_target):
        return fault(f"The redirect leads to {target.path}; with the author's server to {before.path}.")
    if before and target.origin == "other" and before.host != target.host and not case.varies(_target):
        return note(f"The redirect leads to the host {target.host}.")
    if target.origin == "http":
        return note("The redirect leads from HTTPS back to HTTP.", "The app has to believe X-Forwarded-Proto of nginx.")
    return None


def _target(answer: Answer) -> object:
    return answer.location and (answer.location.origin, answer.location.host, masked(answer.location.path))


def masked(text: str) -> str:
    """Return a path or a title without its numbers, tokens and query."""
    path = text.partition("?")[0] if text.startswith("/") else text
    return re.sub(r"(?=\w*\d)[\w-]{8,}|\d+", "0", path).strip().lower()


def _disguised(case: Case) -> Finding | None:
    if case.answer.status != 200 or case.answer.kind != "html" or not case.is_static:
        return None
    # A page may have the name of a file: that of a repository shows its source.
    if case.varies(lambda answer: answer.kind) or not (case.author or case.answer.via == "asset"):
        return None
    return fault("The machine answers a static file's address with HTML.", "Name its folder under  static:")


def _type(case: Case) -> Finding | None:
    answer, author = case.answer, case.author
    if not author or answer.status // 100 != author.status // 100 or not answer.status or 300 <= answer.status < 400:
        return None
    if case.varies(lambda each: (each.kind, each.type)) or (answer.end in ("stream", "broken") and not answer.length):
        return None
    if answer.status >= 400:
        different = answer.kind != author.kind and not author.debug
        return note(f"The error is {answer.kind}; with the author's server {author.kind}.") if different else None
    named, before = (ALIASES.get(each.type, each.type) for each in (answer, author))
    same_file = bool(answer.sha256) and answer.sha256 == author.sha256
    if named != before and not (same_file and answer.kind == "empty"):
        sentence = f"The content type is {named or 'missing'}; with the author's server {before or 'missing'}."
        # nginx knows fewer types than Python. A browser refuses style sheets, scripts and pages of another type.
        unknown = named in ("", "text/plain", "application/octet-stream") and author.kind not in ("html", "css", "js")
        return note(sentence) if same_file and unknown else fault(sentence)
    if answer.kind == "empty" and answer.end == "stream" and case.record.visitors > 1:
        return None
    if answer.kind != author.kind:
        return fault(f"The body is {answer.kind}; with the author's server {author.kind}.")
    if author.charset and author.kind in ("html", "text") and answer.charset != author.charset:
        return note(f"The charset is {answer.charset or 'missing'}; with the author's server {author.charset}.")
    return None


def _title(case: Case) -> Finding | None:
    answer, author = case.answer, case.author
    if not author or not (200 <= answer.status < 300 and 200 <= author.status < 300) or answer.kind != author.kind:
        return None
    title, before = masked(answer.title), masked(author.title)
    if title == before or case.varies(lambda each: masked(each.title)):
        return None
    sentence = f"The title is {answer.title!r}; with the author's server {author.title!r}."
    if case.titles[title] or (ERROR_TITLE.search(title) and not ERROR_TITLE.search(before)):
        return fault(sentence, "The machine answers with another page.")
    return note(sentence)


def _content(case: Case) -> Finding | None:
    answer, author = case.answer, case.author
    if not author or not case.is_static or answer.status != 200 or author.status != 200:
        return None
    # A server of files sends a validator; an app that makes them as they are asked for mostly does not.
    if not (answer.sha256 and author.sha256) or not author.validator or case.varies(lambda each: each.sha256):
        return None
    if (answer.length, answer.sha256) == (author.length, author.sha256):
        return None
    return fault(
        f"The file has other bytes ({answer.length}; with the author's server {author.length}).",
        "A step of the release, or the machine's data, replaced it.",
    )


def _ended(case: Case) -> Finding | None:
    ends = {answer.end for answer in case.others}
    if case.answer.end == "broken" and "broken" not in ends:
        return fault("The answer ends before its end.")
    if case.answer.end == "stream" and ends and "stream" not in ends:
        return note("The answer had no end in time.")
    return None


def _broken_link(case: Case) -> Finding | None:
    if case.author or case.answer.status not in (404, 410) or case.answer.via not in ("link", "asset"):
        return None
    return note(f"The link on {case.answer.source} leads nowhere ({case.answer.status}).")


Rule = Callable[[Case], Finding | None]
#: Rules for every answer; those that a stated status replaces; the others need an answer with the right status.
ALWAYS: tuple[Rule, ...] = (_expected, _unanswered, _debug, _mixed)
BY_STATUS: tuple[Rule, ...] = (_front, _server_error, _status, _broken_link)
BY_CONTENT: tuple[Rule, ...] = (_redirect, _disguised, _type, _title, _content, _ended)


def judge(case: Case) -> Finding:
    """Return the first fault that the rules find, else the first note."""
    rules = ALWAYS if case.page and case.page.status else (*ALWAYS, *BY_STATUS, *BY_CONTENT)
    findings = [finding for rule in rules if (finding := rule(case))]
    return max(findings, key=lambda finding: finding.verdict.value, default=Finding(Verdict.SAME, ""))


def compare(
    author: Record | None, machine: Sequence[Record], pages: Iterable[Page] = (), health: str | None = None
) -> tuple[Difference, ...]:
    """Compare records of a machine with that of the author's server: one difference for each path and record.

    Without a record of the author's, the machine is judged by itself. `pages` are those of bake.yaml, whose statuses
    win over what the author's server answers. `health` is its health path.
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
            others = [answer for answer in known[path, method] if not _is_uninformative(answer)]
            if method == "HEAD" and all(map(_is_uninformative, known[path, "GET"])):
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
        Difference(path, machine[0].name, Verdict.FAULT, "The machine was not asked for this page.", "")
        for path in expected
        if machine and path not in asked
    ]
    return tuple(found)


def _is_uninformative(answer: Answer) -> bool:
    """Return whether an answer of the author's server tells nothing about the page.

    It redirects to HTTPS, which that server does not speak, or it is a page for developers.
    """
    to_https = answer.location is not None and answer.location.origin == "https"
    return to_https or (bool(answer.debug) and 200 <= answer.status < 300)


def _is_made(known: dict[tuple[str, str], list[Answer]], path: str) -> bool:
    """Return whether a page that leads to a page of the author's server has other links, or another target, each time.

    What a visit adds to the app's data shows so. The files of a page are no such pages.
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
    """Judge an answer against each of the author's, and return the mildest finding: any of them is right."""
    followed = _followed(base.record, answer, records)
    if followed is None:
        return Finding(Verdict.SAME, ""), replace(base, answer=answer)
    crosses = base.is_front and _crosses(base.record, answer, records)
    authors: Sequence[Answer | None] = base.others or [None]
    cases = [replace(base, answer=followed, author=author, crosses=crosses) for author in authors]
    return min(((judge(case), case) for case in cases), key=lambda pair: pair[0].verdict.value)


def _followed(record: Record, answer: Answer, records: dict[tuple[str, str], Record]) -> Answer | None:
    """Follow nginx's redirect to HTTPS; None where nobody asked there."""
    target = answer.location
    if not target or target.origin != "https" or target.path != answer.path:
        return answer
    other = records.get(("https", record.key[1]))
    return _find(other, target.path, answer.method) if other else None


def _find(record: Record, path: str, method: str = "GET") -> Answer | None:
    return next((answer for answer in record.answers if (answer.path, answer.method) == (path, method)), None)


def _crosses(record: Record, answer: Answer, records: dict[tuple[str, str], Record]) -> bool:
    """Return whether redirects lead from HTTP to HTTPS and back without an end."""
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
    """Return the most severe finding of the visitors as a difference."""
    finding, case = max(judged, key=lambda pair: pair[0].verdict.value)
    sentence = finding.sentence
    if base.record.visitors > 1 and finding.verdict is not Verdict.SAME:
        count = sum(other.verdict is finding.verdict for other, _ in judged)
        sentence += f" ({count} of {len(judged)} visitors)"
    path = base.path if case.answer.method == "GET" else f"{case.answer.method} {base.path}"
    before = case.author.summary if case.author else "-"
    return Difference(path, base.record.name, finding.verdict, sentence, finding.cure, before, case.answer.summary)


def _incomplete(record: Record) -> Difference:
    sentence = f"The time ended before every address was asked ({record.seconds:.0f} s)."
    return Difference("", record.name, Verdict.NOTE, sentence, "")


def rows(differences: Iterable[Difference]) -> list[tuple[Difference, tuple[str, ...]]]:
    """Return the faults, then the notes, each once with the schemes and hosts that have it."""
    hosts: dict[Difference, dict[str, None]] = defaultdict(dict)
    for difference in differences:
        if difference.verdict is not Verdict.SAME:
            hosts[replace(difference, scheme_host="")][difference.scheme_host] = None
    ordered = sorted(hosts.items(), key=lambda item: -item[0].verdict.value)
    return [(difference, tuple(names)) for difference, names in ordered]


def table(differences: Iterable[Difference]) -> str:
    """Return the differences for a terminal, faults first; "" where there are none.

    A row is `path  author  machine  verdict`. The sentence, the hosts and the cure stand below it.
    """
    found = rows(differences)
    if not found:
        return ""
    head = ("path", "author", "machine", "verdict")
    cells = [head, *((each.path, each.author, each.machine, each.verdict.name.lower()) for each, _ in found)]
    short = [[_cut(cell) for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*short, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in short]
    shown = [lines[0]]
    for line, (difference, hosts) in zip(lines[1:], found, strict=True):
        below = [f"{difference.sentence} ({', '.join(hosts)})", difference.cure]
        shown += [line, *(f"    {terminal.one_line(text)}" for text in below if text)]
    return "\n".join(shown)


def _cut(text: str, most: int = 48) -> str:
    line = terminal.one_line(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def summary(differences: Sequence[Difference], reason: str = "") -> str:
    """Return the comparison in a line: `compared, 41 addresses, 3 notes`; with a `reason`, that there was none."""
    if reason:
        return f"not compared ({reason})"
    # Each address counts once, whichever way and by however many visitors it was asked for.
    worst: dict[str, Verdict] = {}
    for difference in differences:
        before = worst.get(difference.address, Verdict.SAME)
        worst[difference.address] = max(before, difference.verdict, key=lambda verdict: verdict.value)
    counts = {"address": len(worst.keys() - {""})}
    for verdict in (Verdict.FAULT, Verdict.NOTE):
        if found := sum(each is verdict for each in worst.values()):
            counts[verdict.name.lower()] = found
    plural = {"address": "addresses", "fault": "faults", "note": "notes"}
    parts = [f"{count} {name if count == 1 else plural[name]}" for name, count in counts.items()]
    return ", ".join(["compared", *parts])
