"""Read and write the record of a server's responses.

cloud-init/features/author-server/crawl.py prints such records.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bake.errors import ProgramError
from bake.host import foreign_text

#: Version of the record that this module reads.
VERSION = 1


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
    marker of this visitor, or of another one. `via` is seed, link, asset, redirect, missing, or guess (the description
    of an API), and `source` the page with the link.
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
        """Return whether the status is that of a working app. A request for a login counts as working."""
        return 200 <= self.status < 400 or self.status in (401, 403)

    @property
    def summary(self) -> str:
        """Return the response in a few words, such as `200 html`, `302 /login` or `timeout`."""
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
            value = foreign_text.from_json(text)
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
        rows = value.get("answers")
        answers = [_read(Answer, row) for row in rows if isinstance(row, dict)] if _is_list(rows) else []
        return replace(_read(cls, value), answers=tuple(answers))

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
        """Return the scheme and the host, such as `https://shop.example`."""
        return f"{urlsplit(self.url).scheme}://{self.host or urlsplit(self.url).netloc}"

    @property
    def is_informative(self) -> bool:
        """Return whether the responses of the author's server can be compared with a machine's."""
        return not all(map(is_uninformative, self.answers))

    @property
    def has_page(self) -> bool:
        """Return whether the server served a page. If none is, equal responses prove nothing."""
        return any(answer.good and not is_uninformative(answer) for answer in self.answers)

    @property
    def key(self) -> tuple[str, str]:
        """Return the scheme, and the host without its port."""
        parts = urlsplit(self.name)
        return parts.scheme, parts.hostname or ""


@dataclass(frozen=True)
class AuthorRecord:
    """The record of the author's server, which a bake puts into the image.

    `release` is the digest of the release that the server ran, and `command` starts it. `seconds` is the duration of
    the crawls in `records`, which have the same pages. `log` is the end of the server's log if it did not answer.
    """

    release: str = ""
    command: str = ""
    seconds: float = 0.0
    records: tuple[Record, ...] = ()
    log: str = ""

    @classmethod
    def from_json(cls, text: str) -> AuthorRecord:
        """Return the record in the file's text. Raises ValueError, and ProgramError for an unknown version."""
        value = foreign_text.from_json(text)
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
        records = tuple(Record.from_json(json.dumps(record)) for record in value.get("records", ()))
        return replace(_read(cls, value), records=records)


_Part = TypeVar("_Part", Answer, Location, Record, AuthorRecord)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _read(part: type[_Part], value: dict[str, Any]) -> _Part:
    """Return a part of a record. Values that are missing or have another type get their default."""
    values: dict[str, Any] = {}
    for item in fields(part):
        field_value = value.get(item.name)
        if item.name == "location" and isinstance(field_value, dict):
            values[item.name] = _read(Location, field_value)
        elif item.name == "seconds" and isinstance(field_value, int | float):
            values[item.name] = float(field_value)
        elif type(field_value) is type(item.default) and not isinstance(field_value, tuple):
            values[item.name] = field_value
    return part(**values)


def is_uninformative(answer: Answer) -> bool:
    """Return whether a response of the author's server cannot be compared.

    It is a redirect to HTTPS, which that server does not support, or a debug page.
    """
    to_https = answer.location is not None and answer.location.origin == "https"
    return to_https or (bool(answer.debug) and 200 <= answer.status < 300)
