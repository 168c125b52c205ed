"""Request the app's pages from a machine as visitors do, and judge the responses.

cloud-init/features/author-server/crawl.py sends the requests. During the bake, it also requested the pages of the
author's server, and the machine has that record.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypedDict, Unpack

from bake.config import contract
from bake.config.sections import Page
from bake.diagnosis import diagnosis
from bake.errors import ProgramError
from bake.host import foreign_text, paths
from bake.verify import comparison, report
from bake.verify.comparison import Difference
from bake.verify.record import AuthorRecord, Record
from bake.verify.rules import Verdict


class Crawl(TypedDict, total=False):
    """The argument of the crawler for one crawl; `Task` of crawl.py has the defaults."""

    url: str
    connect: list[str | int]
    host: str
    seeds: list[str]
    paths: list[str]
    visitors: int
    seconds: float


#: The time limit of a crawl in seconds, the number of simultaneous visitors, and the number of pages that they request.
SECONDS, VISITORS, BUSY_PAGES = 30, 20, 6
#: The visitors and the time limit in seconds of the first requests, which reach every worker of a small machine.
WARM_UP: Crawl = {"visitors": 8, "seconds": 60}
#: Runs a command as a user that owns no files.
AS_NOBODY = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
#: Runs the crawler on the machine with a list of crawls, and returns its output.
Ask = Callable[[list[Crawl]], str]


@dataclass(frozen=True)
class Author:
    """The record of the author's server and the `seconds` it took, or the `reason` why it proves nothing."""

    record: Record | None
    reason: str = ""
    seconds: float = 0.0

    @classmethod
    def read(cls, text: str, release: str, check: dict[str, Any]) -> Author:
        """Return the record in the text of contract.AUTHOR, if it is of this release (a digest) and `check` allows it.

        Raises ProgramError if the text is not such a file.
        """
        if check.get("author") == "off":
            return cls(None, "check.author is off")
        try:
            author = AuthorRecord.from_json(text or "{}")
        except ValueError as error:
            raise ProgramError(f"{contract.AUTHOR} cannot be read: {error}", "Bake the image again.") from error
        if author.release != release:
            return cls(None, "no bake ran the author's server for this release")
        if not author.records:
            exception = diagnosis.diagnose(author.log).exception
            reason = f": {exception.text.splitlines()[0]}" if exception else ""
            service = diagnosis.unreachable_service(author.log)
            return cls(None, f"needs {service}" if service else f"`{author.command}` does not serve{reason}")
        record = reduce(Record.joined, author.records)
        if not record.is_informative:
            return cls(None, f"`{author.command}` only redirects to HTTPS or shows debug pages")
        if not record.has_page:
            status = record.answers[0].status
            reason = f"`{author.command}` responds with {status}; name a page that it serves in check.pages"
            return cls(record, reason, author.seconds)
        return cls(record, seconds=author.seconds)


@dataclass(frozen=True)
class Site:
    """The machine's host `names`, and the pages to request, from `check` in its recipe."""

    names: Sequence[str]
    health: str | None = None
    pages: Sequence[Page] = ()
    crawl: bool = True

    @classmethod
    def of(cls, names: str, check: dict[str, Any]) -> Site:
        """Return the site with the names that remote/site.sh prints and the `check` of recipe.json."""
        hosts = [name.replace("*", "www") for name in names.split()]
        pages = [Page.model_validate(page) for page in check.get("pages", ())]
        return cls(hosts, check.get("health"), pages, check.get("crawl", True))

    @property
    def seeds(self) -> list[str]:
        """Return the first URLs of a crawl."""
        return list(dict.fromkeys(["/", *([self.health] if self.health else []), *(page.path for page in self.pages)]))


def read_site(text: str) -> tuple[Site, Author]:
    """Return the site and its author's record from the output of remote/site.sh. Raises ProgramError as Author.read."""
    try:
        names, recipe_json, release, *record_lines = text.split("\n", 3)
        check = foreign_text.from_json(recipe_json).get("check", {})
        site = Site.of(names, check)
    except (ValueError, AttributeError, TypeError) as error:
        raise ProgramError(f"The machine does not describe its site: {error}", "Push the release again.") from error
    return site, Author.read("".join(record_lines), release, check)


@dataclass(frozen=True)
class Judgement:
    """The differences and a one-line summary. `seconds` is the total time for both servers."""

    differences: tuple[Difference, ...]
    summary: str
    seconds: float = 0.0

    @property
    def faults(self) -> tuple[Difference, ...]:
        """Return the findings that fail a check."""
        return tuple(difference for difference in self.differences if difference.verdict is Verdict.FAULT)


def crawler() -> str:
    """Return the source of the crawler."""
    return (paths.features() / "author-server/crawl.py").read_text()


def judge(ask: Ask, site: Site, author: Author, journal: Callable[[], str]) -> Judgement:
    """Request the app's pages by each name of a machine, and compare them with those of the author's server.

    Without a record of that server, follow the site's links and judge the responses alone. `journal` returns the app's
    journal, which shows pages that need a server on another machine.
    """
    start = time.monotonic()
    first, *other_names = site.names
    author_paths = [answer.path for answer in author.record.answers if answer.method == "GET"] if author.record else []
    seeds = list(dict.fromkeys([*site.seeds, *author_paths]))
    # Also follow links that only the machine has, within the crawler's limits.
    bounds: Crawl = {"seeds": seeds} if site.crawl else {"paths": seeds}
    discovery = _crawl("https", first, **bounds)
    https_record, front_record = _warm_records(ask, first, discovery, _crawl("http", first, paths=["/"]))
    machine_paths = [answer.path for answer in https_record.answers if answer.method == "GET"]
    page_paths = list(dict.fromkeys([*site.seeds, *machine_paths]))
    # Use HTTP if the machine serves it. Twenty TLS handshakes at once load a small machine, and do not test the app.
    redirects = any(answer.location and answer.location.origin == "https" for answer in front_record.answers)
    busy = _crawl("https" if redirects else "http", first, paths=page_paths[:BUSY_PAGES], visitors=VISITORS)
    records = [https_record, *_records(ask, _crawl("http", first, paths=page_paths), busy)]
    # Every other name serves the same app. Its front page shows whether the app accepts the name.
    for name in other_names:
        records += _records(ask, *(_crawl(scheme, name, paths=site.seeds) for scheme in ("http", "https")))
    differences = comparison.compare(author.record, records, site.pages, site.health)
    judgement = _judgement(differences, author, journal)
    return replace(judgement, seconds=author.seconds + time.monotonic() - start)


def _crawl(scheme: str, name: str, **bounds: Unpack[Crawl]) -> Crawl:
    """Return a crawl by one name. `bounds` are arguments of the crawler: `seeds`, `paths`, `visitors`, `seconds`."""
    connect: list[str | int] = ["127.0.0.1", {"http": 80, "https": 443}[scheme]]
    return {"url": f"{scheme}://{name}", "host": name, "connect": connect, "seconds": SECONDS, **bounds}


def _records(ask: Ask, *crawls: Crawl) -> list[Record]:
    """Return the records of some crawls, which one start of the crawler runs in this order.

    On a small machine a start takes seconds.
    """
    try:
        records = foreign_text.from_json(ask(list(crawls)))
        if not isinstance(records, list) or len(records) != len(crawls):
            raise ValueError("one record for each crawl is expected")
    except ValueError as error:
        raise ProgramError(f"The crawler did not print its records: {error}", "Run the command again.") from error
    return [Record.from_json(json.dumps(record)) for record in records]


def _warm_records(ask: Ask, name: str, *crawls: Crawl) -> list[Record]:
    """Return the records of some crawls, after requests for the front page whose answers do not count.

    Frameworks load much of an app at a worker's first request.
    """
    warm_up: Crawl = {**_crawl("https", name, paths=["/"]), **WARM_UP}
    return _records(ask, warm_up, *crawls)[1:]


def judge_front_page(ask: Ask, site: Site, author: Author, journal: Callable[[], str]) -> Judgement:
    """Request only the front page from a machine, and judge it as `judge` does."""
    name = site.names[0]
    records = _warm_records(ask, name, *(_crawl(scheme, name, paths=["/"]) for scheme in ("https", "http")))
    differences = comparison.compare(author.record, records, (), site.health)
    differences = tuple(difference for difference in differences if difference.address == "/")
    return _judgement(differences, author, journal)


def _fails(difference: Difference) -> bool:
    return difference.verdict is Verdict.FAULT and difference.machine.startswith("5")


def _judgement(differences: tuple[Difference, ...], author: Author, journal: Callable[[], str]) -> Judgement:
    """Return the findings. Pages that fail because a server is missing, as the app's journal shows, are only notes.

    If the journal also has other exceptions, a page that the author's server serves without that server is a fault.
    """
    log = journal() if any(map(_fails, differences)) else ""
    service = diagnosis.unreachable_service(log)
    if service:
        sentence = f"Not checked, because the page needs {service}."
        is_only_cause = not diagnosis.has_other_failures(log)
        differences = tuple(
            replace(difference, verdict=Verdict.NOTE, sentence=sentence, cure="")
            if _fails(difference) and (is_only_cause or difference.author[:1] not in ("2", "3", "4"))
            else difference
            for difference in differences
        )
    reason = f"needs {service}" if service else author.reason
    count = len({difference.address for difference in differences if difference.path})
    count_note = "" if service or not reason else f"; {count} {'address' if count == 1 else 'addresses'} requested"
    return Judgement(differences, report.summary(differences, reason) + count_note)
