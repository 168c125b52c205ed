"""Compare a machine's responses with those of the author's server. A fault is a page that is worse on the machine.

cloud-init/features/observe/crawl.py records both. bake never compares the bodies of dynamic pages, because they may
contain random values, times or tokens.
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
#: Suffixes of static files. An app does not serve HTML at such a path.
STATIC = {
    ".css", ".js", ".mjs", ".map", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".avif", ".ico", ".woff", ".woff2",
    ".ttf", ".otf", ".eot", ".wasm", ".mp3", ".mp4", ".webm",
}  # fmt: skip
STATIC_KINDS = ("css", "js", "image", "font")
#: Content types that have several names, and the name to compare.
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
#: Names of the machine itself. A redirect to one of them does not work for visitors.
LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|::1|unix|app")


class Verdict(Enum):
    """The severity of a difference. A higher value is more severe."""

    SAME = 0
    NOTE = 1
    FAULT = 2


@dataclass(frozen=True)
class Location:
    """The target of a redirect.

    `path` includes the query. `origin` is "same", "http" or "https" (the other scheme of the same host), or "other".
    """

    path: str = ""
    origin: str = "other"
    host: str = ""


@dataclass(frozen=True)
class Answer:
    """A response to one visitor.

    If there was no response, `status` is 0 and `error` is the reason: refused, timeout, reset, tls, name, unreachable
    or protocol. `type` is the content type without parameters. `kind` is html, json, xml, css, js, image, font, text,
    binary or empty. `length` is in bytes; `sha256` is the digest of at most the first 2 MiB. `end` is whole, large
    (more than 2 MiB), stream (not complete in time) or broken. `validator`: the response has an ETag or Last-Modified
    header. `links` is a digest of the number of links of each kind. `debug` is the framework of a debug page, or
    "traceback". `loop`: the redirects of the front page never end. `own` and `foreign`: the response contains the
    marker of this visitor, or of another one. `via` is seed, link, asset, redirect or missing, and `source` the page
    with the link.
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
        """Whether the status is that of a working app. A request for a login counts as working."""
        return 200 <= self.status < 400 or self.status in (401, 403)

    @property
    def summary(self) -> str:
        """The response in a few words: `200 html`, `302 /login`, `timeout`."""
        if not self.status:
            return self.error or "no answer"
        return f"{self.status} {self.location.path if self.location else self.kind}"


@dataclass(frozen=True)
class Record:
    """The responses of one server for one host name and scheme. `complete`: the crawl requested every URL in time."""

    url: str = ""
    host: str = ""
    visitors: int = 1
    complete: bool = True
    seconds: float = 0.0
    answers: tuple[Answer, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Return the record in a crawler's output. Ignore unknown keys, and use defaults for missing keys.

        Raises ProgramError if the text is not a record, or has another version.
        """
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ProgramError(
                f"The crawler did not print a record: {error}", "Bake the image again.", text[-2000:]
            ) from error
        version = value.get("version") if isinstance(value, dict) else None
        if version != VERSION:
            raise ProgramError(
                f"The crawler's record has version {version!r}; this version of bake reads version {VERSION}",
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
        """Return a record with the responses of two crawls of one server. Values that differ in it are not compared."""
        return replace(
            self,
            visitors=max(self.visitors, other.visitors),
            complete=self.complete and other.complete,
            answers=self.answers + other.answers,
        )

    @property
    def name(self) -> str:
        """The scheme and the host, such as `https://shop.example`."""
        return f"{urlsplit(self.url).scheme}://{self.host or urlsplit(self.url).netloc}"

    @property
    def is_informative(self) -> bool:
        """Whether the responses of the author's server can be compared with a machine's."""
        return not all(map(_is_uninformative, self.answers))

    @property
    def key(self) -> tuple[str, str]:
        """The scheme, and the host without its port."""
        parts = urlsplit(self.name)
        return parts.scheme, parts.hostname or ""


_Part = TypeVar("_Part", Answer, Location, Record)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _read(part: type[_Part], value: dict[str, Any]) -> _Part:
    """Return a part of a record. Values that are missing or have another type get their default."""
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


class Finding(NamedTuple):
    """The result of a rule."""

    verdict: Verdict
    sentence: str
    cure: str = ""


def fault(sentence: str, cure: str = "") -> Finding:
    """Return a finding that fails the proof."""
    return Finding(Verdict.FAULT, sentence, cure)


def note(sentence: str, cure: str = "") -> Finding:
    """Return a finding that bake shows, but that does not fail the proof."""
    return Finding(Verdict.NOTE, sentence, cure)


@dataclass(frozen=True)
class Case:
    """A response of the machine, and one of the author's server for the same path, or None.

    `others` are all responses of the author's server for the path. `titles` counts the pages of that server by title.
    `made`: the crawl of that server may have created the page.
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
        """Return whether the responses of the author's server differ in a value."""
        return len({value(answer) for answer in self.others}) > 1


def _expected(case: Case) -> Finding | None:
    page, status = case.page, case.answer.status
    if page and page.status and status != page.status:
        return fault(f"The machine responds with {case.answer.summary}; check.pages expects {page.status}.")
    if page and not page.status and not 200 <= status < 400:
        return fault(
            f"The machine responds with {case.answer.summary}; a page in bake.yaml must respond with 2xx or 3xx.",
            f"If {status} is correct, write:  check: {{pages: [{{path: {case.path}, status: {status}}}]}}"
            if status
            else "",
        )
    return None


def _unanswered(case: Case) -> Finding | None:
    error = case.answer.error
    if not error:
        return None
    if case.author and not case.author.status:
        return note(f"Neither server responds ({error}; the author's: {case.author.error}).")
    if case.record.visitors > 1 and error in ("timeout", "reset", "tls"):
        # If the app does not respond, nginx does. A slow machine may exceed the time for a handshake or a request.
        return note(f"The machine does not respond in time to {case.record.visitors} simultaneous visitors ({error}).")
    return fault(f"The machine does not respond ({error}).")


def _debug(case: Case) -> Finding | None:
    if not case.answer.debug:
        return None
    if case.answer.debug == "traceback":
        return fault("Visitors see a traceback.", "Turn off the app's debug mode on the machine.")
    return fault(
        f"Visitors see a debug page ({case.answer.debug}).",
        "Turn off debug mode at module level, not only under `if __name__`. The app may read it from `env`.",
    )


def _mixed(case: Case) -> Finding | None:
    if not case.answer.foreign:
        return None
    if any(answer.foreign for answer in case.others):
        return note("The response contains another visitor's data, also with the author's server.")
    if case.answer.own:
        return note("The response lists several visitors.")
    return fault(
        "A visitor received another visitor's response.",
        "Requests share a connection or a global variable. Open connections in each worker: preload: off.",
    )


def _front(case: Case) -> Finding | None:
    status = case.answer.status
    if not case.is_front:
        return None
    if case.answer.loop or case.crosses:
        return fault(
            "The redirects of the front page never end.",
            "Make the app trust nginx's X-Forwarded-Proto header, or let nginx redirect to HTTPS.",
        )
    if status == 400:
        return fault(
            "The front page responds with 400.", "If the app accepts only certain hosts, add the names under `domains`."
        )
    if status in (404, 405) and not case.has_health and not (case.author and case.author.good):
        return note(f"There is no front page ({status}).", "Set a page for the health check:  check.health")
    if status in (401, 403):
        return note(f"The front page requires a login ({status}).")
    return None


def _server_error(case: Case) -> Finding | None:
    if case.answer.status < 500:
        return None
    also = ", also with the author's server" if case.author and case.author.status >= 500 else ""
    return fault(
        f"The machine responds with {case.answer.status}{also}.",
        f"The app's journal has the exception. If this page cannot work during a bake, write its status:  "
        f"check: {{pages: [{{path: {case.path}, status: {case.answer.status}}}]}}",
    )


def _status(case: Case) -> Finding | None:
    if case.page or not case.author or not case.author.status or not case.answer.status:
        return None
    author, machine = case.author.status, case.answer.status
    sentence = f"The machine responds with {case.answer.summary}, the author's server with {case.author.summary}."
    if case.made and author < 400 and machine in (404, 410):
        return note(f"{sentence} A page with links to it has different links on each request.")
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
            f"The redirect target is {target.host}, which visitors cannot reach.",
            "Make the app build URLs from the Host header, not from a constant.",
        )
    if before and masked(before.path) != masked(target.path) and not case.varies(_target):
        return fault(f"The redirect target is {target.path}; on the author's server, {before.path}.")
    if before and target.origin == "other" and before.host != target.host and not case.varies(_target):
        return note(f"The redirect target is the host {target.host}.")
    if target.origin == "http":
        return note(
            "The redirect goes from HTTPS back to HTTP.", "Make the app trust nginx's X-Forwarded-Proto header."
        )
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
    # A page may have the name of a file. A repository browser, for example, shows source code at such a path.
    if case.varies(lambda answer: answer.kind) or not (case.author or case.answer.via == "asset"):
        return None
    return fault("The machine serves HTML at the URL of a static file.", "Add the file's folder to `static`.")


def _type(case: Case) -> Finding | None:
    answer, author = case.answer, case.author
    if not author or answer.status // 100 != author.status // 100 or not answer.status or 300 <= answer.status < 400:
        return None
    if case.varies(lambda each: (each.kind, each.type)) or (answer.end in ("stream", "broken") and not answer.length):
        return None
    if answer.status >= 400:
        different = answer.kind != author.kind and not author.debug
        return note(f"The error page is {answer.kind}; on the author's server, {author.kind}.") if different else None
    named, before = (ALIASES.get(each.type, each.type) for each in (answer, author))
    same_file = bool(answer.sha256) and answer.sha256 == author.sha256
    if named != before and not (same_file and answer.kind == "empty"):
        sentence = f"The content type is {named or 'missing'}; on the author's server, {before or 'missing'}."
        # nginx knows fewer types than Python. A browser rejects style sheets, scripts and pages with a wrong type.
        unknown = named in ("", "text/plain", "application/octet-stream") and author.kind not in ("html", "css", "js")
        return note(sentence) if same_file and unknown else fault(sentence)
    if answer.kind == "empty" and answer.end == "stream" and case.record.visitors > 1:
        return None
    if answer.kind != author.kind:
        return fault(f"The body is {answer.kind}; on the author's server, {author.kind}.")
    if author.charset and author.kind in ("html", "text") and answer.charset != author.charset:
        return note(f"The charset is {answer.charset or 'missing'}; on the author's server, {author.charset}.")
    return None


def _title(case: Case) -> Finding | None:
    answer, author = case.answer, case.author
    if not author or not (200 <= answer.status < 300 and 200 <= author.status < 300) or answer.kind != author.kind:
        return None
    title, before = masked(answer.title), masked(author.title)
    if title == before or case.varies(lambda each: masked(each.title)):
        return None
    sentence = f"The title is {answer.title!r}; on the author's server, {author.title!r}."
    if case.titles[title] or (ERROR_TITLE.search(title) and not ERROR_TITLE.search(before)):
        return fault(sentence, "The machine serves another page.")
    return note(sentence)


def _content(case: Case) -> Finding | None:
    answer, author = case.answer, case.author
    if not author or not case.is_static or answer.status != 200 or author.status != 200:
        return None
    # A file server sends a validator. An app that generates files on request usually does not.
    if not (answer.sha256 and author.sha256) or not author.validator or case.varies(lambda each: each.sha256):
        return None
    if (answer.length, answer.sha256) == (author.length, author.sha256):
        return None
    return fault(
        f"The file's content differs ({answer.length} bytes; on the author's server, {author.length}).",
        "A release step or data on the machine replaced it.",
    )


def _ended(case: Case) -> Finding | None:
    ends = {answer.end for answer in case.others}
    if case.answer.end == "broken" and "broken" not in ends:
        return fault("The connection closes before the response is complete.")
    if case.answer.end == "stream" and ends and "stream" not in ends:
        return note("The response is not complete in time.")
    return None


def _broken_link(case: Case) -> Finding | None:
    if case.author or case.answer.status not in (404, 410) or case.answer.via not in ("link", "asset"):
        return None
    return note(f"The link on {case.answer.source} is broken ({case.answer.status}).")


Rule = Callable[[Case], Finding | None]
#: Rules for every response; rules that apply unless bake.yaml sets a status; and rules for responses with content.
ALWAYS: tuple[Rule, ...] = (_expected, _unanswered, _debug, _mixed)
BY_STATUS: tuple[Rule, ...] = (_front, _server_error, _status, _broken_link)
BY_CONTENT: tuple[Rule, ...] = (_redirect, _disguised, _type, _title, _content, _ended)


def judge(case: Case) -> Finding:
    """Return the first fault that a rule finds, or else the first note."""
    rules = ALWAYS if case.page and case.page.status else (*ALWAYS, *BY_STATUS, *BY_CONTENT)
    findings = [finding for rule in rules if (finding := rule(case))]
    return max(findings, key=lambda finding: finding.verdict.value, default=Finding(Verdict.SAME, ""))


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
        Difference(path, machine[0].name, Verdict.FAULT, "The crawl did not request this page.", "")
        for path in expected
        if machine and path not in asked
    ]
    return tuple(found)


def _is_uninformative(answer: Answer) -> bool:
    """Return whether a response of the author's server cannot be compared.

    It is a redirect to HTTPS, which that server does not support, or a debug page.
    """
    to_https = answer.location is not None and answer.location.origin == "https"
    return to_https or (bool(answer.debug) and 200 <= answer.status < 300)


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


def rows(differences: Iterable[Difference]) -> list[tuple[Difference, tuple[str, ...]]]:
    """Return the faults, then the notes. Each has the list of its schemes and hosts."""
    hosts: dict[Difference, dict[str, None]] = defaultdict(dict)
    for difference in differences:
        if difference.verdict is not Verdict.SAME:
            hosts[replace(difference, scheme_host="")][difference.scheme_host] = None
    ordered = sorted(hosts.items(), key=lambda item: -item[0].verdict.value)
    return [(difference, tuple(names)) for difference, names in ordered]


def table(differences: Iterable[Difference]) -> str:
    """Return the differences for a terminal, faults first, or "" if there are none.

    A row is `path  author  machine  verdict`. Below it are the sentence with the hosts, and the cure.
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
    """Return a one-line summary: `compared, 41 addresses, 3 notes`, or `not compared` with a `reason`."""
    if reason:
        return f"not compared ({reason})"
    # Count each address once, for all schemes, methods and visitors.
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
