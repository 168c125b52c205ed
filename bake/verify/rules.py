"""Judge one response of a machine by rules. A fault is a response that is worse than the author's server's.

bake never compares the bodies of dynamic pages, because they may contain random values, times or tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from bake.config.sections import Page
from bake.verify.record import Answer, Record

FRONT = "/"
#: Seconds after which a page of the author's server counts as slow. The machine has longer, but not without end.
SLOW = 2.0
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
OTHER_DATA = "The address has an id that the author's server may have generated for its own data."
#: An id that an app generated: a UUID, or hexadecimal digits.
GENERATED_ID = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-f]*\d)(?=\d*[a-f])(?<![0-9a-z])[0-9a-f]{16,}(?![0-9a-z])", re.I
)


class Verdict(Enum):
    """The severity of a difference. A higher value is more severe."""

    SAME = 0
    NOTE = 1
    FAULT = 2


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

    `author_answers` are all responses of the author's server for the path. `titles` counts the pages of that server by
    title. `created_by_crawl`: the crawl of that server may have created the page. `is_scheme_loop`: redirects go from
    HTTP to HTTPS and back forever.
    """

    path: str
    answer: Answer
    author: Answer | None
    author_answers: Sequence[Answer] = ()
    titles: Counter[str] = field(default_factory=Counter)
    record: Record = field(default_factory=Record)
    page: Page | None = None
    has_health: bool = False
    is_scheme_loop: bool = False
    created_by_crawl: bool = False

    @property
    def is_front(self) -> bool:
        """Return whether this is the front page."""
        return self.path == FRONT and self.answer.method == "GET"

    @property
    def is_static(self) -> bool:
        """Return whether a static file is expected."""
        suffix = PurePosixPath(urlsplit(self.path).path).suffix.lower()
        return self.author.kind in STATIC_KINDS if self.author and self.author.kind != "empty" else suffix in STATIC

    @property
    def has_generated_id(self) -> bool:
        """Return whether the author's server led to this address, with an id that it may have generated for its data.

        The machine's own pages lead to addresses with the machine's ids, and bake requests those, too.
        """
        return bool(self.author and self.author.via in ("link", "redirect") and GENERATED_ID.search(self.path))

    def varies(self, value: Callable[[Answer], object]) -> bool:
        """Return whether the responses of the author's server differ in a value."""
        return len({value(answer) for answer in self.author_answers}) > 1


def _page_status(case: Case) -> Finding | None:
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


def _no_response(case: Case) -> Finding | None:
    error = case.answer.error
    if not error:
        return None
    if case.author and not case.author.status:
        return note(f"Neither server responds ({error}; the author's: {case.author.error}).")
    if error == "timeout" and case.author and case.author.seconds >= SLOW:
        return note(f"The page takes long: {case.author.seconds:.0f} s on the author's server, and more here.")
    if case.record.visitors > 1 and error in ("timeout", "reset", "tls"):
        # If the app does not respond, nginx does. A slow machine may exceed the time for a handshake or a request.
        return note(f"The machine does not respond in time to {case.record.visitors} simultaneous visitors ({error}).")
    return fault(f"The machine does not respond ({error}).")


def _debug_page(case: Case) -> Finding | None:
    if not case.answer.debug:
        return None
    if case.answer.debug == "traceback":
        return fault("Visitors see a traceback.", "Turn off the app's debug mode on the machine.")
    return fault(
        f"Visitors see a debug page ({case.answer.debug}).",
        "Turn off debug mode at module level, not only under `if __name__`. The app may read it from `env`.",
    )


def _foreign_data(case: Case) -> Finding | None:
    if not case.answer.foreign:
        return None
    if any(answer.foreign for answer in case.author_answers):
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
    if case.answer.loop or case.is_scheme_loop:
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
    # A server that knows no HEAD responds so, such as http.server.
    knows_no_head = case.answer.method == "HEAD" and case.answer.status == 501
    if knows_no_head and (case.author is None or case.author.status == 501):
        return None
    if case.has_generated_id:
        return note(f"The machine responds with {case.answer.status}. {OTHER_DATA}")
    comparison = ", also with the author's server" if case.author and case.author.status >= 500 else ""
    return fault(
        f"The machine responds with {case.answer.status}{comparison}.",
        f"The app's journal has the exception. If this page cannot work during a bake, write its status:  "
        f"check: {{pages: [{{path: {case.path}, status: {case.answer.status}}}]}}",
    )


def _status(case: Case) -> Finding | None:
    if case.page or not case.author or not case.author.status or not case.answer.status:
        return None
    author, machine = case.author.status, case.answer.status
    sentence = f"The machine responds with {case.answer.summary}, the author's server with {case.author.summary}."
    if machine == 429 and case.author.good:
        return note(f"{sentence} The app limits how often a visitor may ask.")
    if case.has_generated_id and case.author.good and (machine >= 400 or author < 300 <= machine):
        return note(f"{sentence} {OTHER_DATA}")
    if case.created_by_crawl and author < 400 and machine in (404, 410):
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
    author_target = case.author.location if case.author else None
    if target.origin == "other" and LOOPBACK.fullmatch(target.host):
        return fault(
            f"The redirect target is {target.host}, which visitors cannot reach.",
            "Make the app build URLs from the Host header, not from a constant.",
        )
    if author_target and masked(author_target.path) != masked(target.path) and not case.varies(_target):
        return fault(f"The redirect target is {target.path}; on the author's server, {author_target.path}.")
    if author_target and target.origin == "other" and author_target.host != target.host and not case.varies(_target):
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


def _html_for_file(case: Case) -> Finding | None:
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
    if case.varies(lambda response: (response.kind, response.type)):
        return None
    if answer.end in ("stream", "broken") and not answer.length:
        return None
    if answer.status >= 400:
        kinds_differ = answer.kind != author.kind and not author.debug
        return (
            note(f"The error page is {answer.kind}; on the author's server, {author.kind}.") if kinds_differ else None
        )
    media_type, author_type = (ALIASES.get(response.type, response.type) for response in (answer, author))
    same_file = bool(answer.sha256) and answer.sha256 == author.sha256
    if media_type != author_type and not (same_file and answer.kind == "empty"):
        sentence = f"The content type is {media_type or 'missing'}; on the author's server, {author_type or 'missing'}."
        # nginx knows fewer types than Python, and other names. A browser rejects style sheets, scripts and pages with a
        # wrong type.
        is_unknown = media_type in ("", "text/plain", "application/octet-stream")
        is_media = author.kind in ("image", "font", "binary")
        is_harmless = is_media or (is_unknown and author.kind not in ("html", "css", "js"))
        return note(sentence) if same_file and is_harmless else fault(sentence)
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
    title, author_title = masked(answer.title), masked(author.title)
    if title == author_title or case.varies(lambda response: masked(response.title)):
        return None
    sentence = f"The title is {answer.title!r}; on the author's server, {author.title!r}."
    if case.titles[title] or (ERROR_TITLE.search(title) and not ERROR_TITLE.search(author_title)):
        return fault(sentence, "The machine serves another page.")
    return note(sentence)


def _content(case: Case) -> Finding | None:
    answer, author = case.answer, case.author
    if not author or not case.is_static or answer.status != 200 or author.status != 200:
        return None
    # A file server sends a validator. An app that generates files on request usually does not.
    if not (answer.sha256 and author.sha256) or not author.validator or case.varies(lambda response: response.sha256):
        return None
    if (answer.length, answer.sha256) == (author.length, author.sha256):
        return None
    return fault(
        f"The file's content differs ({answer.length} bytes; on the author's server, {author.length}).",
        "A release step or data on the machine replaced it.",
    )


def _incomplete(case: Case) -> Finding | None:
    ends = {answer.end for answer in case.author_answers}
    if case.answer.end == "broken" and "broken" not in ends:
        return fault("The connection closes before the response is complete.")
    if case.answer.end == "stream" and ends and "stream" not in ends:
        return note("The response is not complete in time.")
    return None


def _broken_link(case: Case) -> Finding | None:
    answer, author = case.answer, case.author
    # The crawl of the author's server finds an address. That of the machine begins with it.
    finder = author or answer
    if answer.status not in (404, 410) or finder.via not in ("link", "asset") or case.record.visitors > 1:
        return None
    if author and author.via == "asset" and author.status in (404, 410):
        return note(
            f"A file that {author.source} needs is missing, also with the author's server ({answer.status}).",
            "If a build makes it, run the build before the bake. If git ignores it, include it by .bakeignore.",
        )
    if author:
        return None
    return note(f"The link on {answer.source} is broken ({answer.status}).")


Rule = Callable[[Case], Finding | None]
#: Rules for every response; rules that apply unless bake.yaml sets a status; and rules for responses with content.
ALWAYS: tuple[Rule, ...] = (_page_status, _no_response, _debug_page, _foreign_data)
BY_STATUS: tuple[Rule, ...] = (_front, _server_error, _status, _broken_link)
BY_CONTENT: tuple[Rule, ...] = (_redirect, _html_for_file, _type, _title, _content, _incomplete)


def judge(case: Case) -> Finding:
    """Return the first fault that a rule finds, or else the first note."""
    rules = ALWAYS if case.page and case.page.status else (*ALWAYS, *BY_STATUS, *BY_CONTENT)
    findings = [finding for rule in rules if (finding := rule(case))]
    return max(findings, key=lambda finding: finding.verdict.value, default=Finding(Verdict.SAME, ""))
