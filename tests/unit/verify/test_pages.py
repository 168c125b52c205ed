"""A machine's pages are asked for and judged: against the author's server, by themselves, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import json
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

import pytest
import trustme

from bake.errors import ProgramError
from bake.host import remote_scripts
from bake.host.programs import run
from bake.verify import pages
from bake.verify.pages import Author, Site
from bake.verify.rules import Verdict

#: Path to (status, body); what is not there is 404.
Answers = dict[str, tuple[int, str]]
FRONT: Answers = {
    "/": (200, "<title>Shop</title><a href=/prices>prices</a>"),
    "/prices": (200, "<title>Prices</title>"),
}


@pytest.fixture
def served() -> Iterator[Callable[[Answers], dict[str, int]]]:
    """Serve pages by HTTP and HTTPS on ports of this computer; returns the ports by scheme."""
    authority = trustme.CA()
    with contextlib.ExitStack() as stack:

        def serve(answers: Answers) -> dict[str, int]:
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    status, body = answers.get(self.path, (404, "<title>Not here</title>"))
                    self.send_response(status)
                    self.send_header("Content-Type", "text/html")
                    self.end_headers()
                    self.wfile.write(body.encode() if self.command == "GET" else b"")

                do_HEAD = do_GET

                def log_message(self, *words: object) -> None:
                    """Stay silent."""

            ports = {}
            for scheme in ("http", "https"):
                server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
                if scheme == "https":
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    authority.issue_cert("shop.example").configure_cert(context)
                    server.socket = context.wrap_socket(server.socket, server_side=True)
                threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
                stack.callback(server.shutdown)
                ports[scheme] = server.server_port
            return ports

        yield serve


def asking(ports: dict[str, int]) -> pages.Ask:
    """Run the crawler here, in place of a machine, whose ports are others."""

    def ask(crawls: list[pages.Crawl]) -> str:
        crawls = [{**crawl, "connect": ["127.0.0.1", ports[crawl["url"].partition(":")[0]]]} for crawl in crawls]
        return run(["python3", "-c", pages.crawler(), json.dumps(crawls)]).stdout

    return ask


def recorded(ports: dict[str, int], release: str = "12ab", log: str = "") -> str:
    """Return what a machine has of an author's server, which is asked now."""
    ask = asking(ports)
    (record,) = json.loads(ask([{"url": "http://localhost"}]))
    return json.dumps({"release": release, "command": "flask run", "records": [record, record], "log": log})


def test_a_machine_that_answers_as_the_author_s_server_has_no_difference(served: Callable[..., Any]) -> None:
    ports = served(FRONT)
    author = Author.read(recorded(ports), "12ab", {})
    judged = pages.judge(asking(ports), Site(["shop.example"]), author, str)
    assert judged.faults == ()
    # The front page, the one that it leads to, and one that does not exist.
    assert judged.summary == "compared, 3 addresses"


def test_a_page_that_only_the_author_s_server_has_is_a_fault(served: Callable[..., Any]) -> None:
    author = Author.read(recorded(served(FRONT)), "12ab", {})
    machine = served({"/": (200, "<title>Shop</title>")})
    judged = pages.judge(asking(machine), Site(["shop.example", "www.shop.example"]), author, str)
    assert {(fault.path, fault.machine) for fault in judged.faults} == {("/prices", "404 html")}
    assert judged.summary == "compared, 3 addresses, 1 fault"


def test_a_style_sheet_that_the_author_s_server_lacks_too_is_noted(served: Callable[..., Any]) -> None:
    ports = served({"/": (200, "<title>Shop</title><link rel=stylesheet href=/built.css>")})
    author = Author.read(recorded(ports), "12ab", {})
    judged = pages.judge(asking(ports), Site(["shop.example"]), author, str)
    noted = {difference.sentence for difference in judged.differences if difference.verdict is Verdict.NOTE}
    assert noted == {"A file that / needs is missing, also with the author's server (404)."}
    assert judged.faults == () and judged.summary == "compared, 3 addresses, 1 note"


def test_a_page_that_the_machine_alone_leads_to_is_judged(served: Callable[..., Any]) -> None:
    author = Author.read(recorded(served({"/": (400, "Which host?")})), "12ab", {})
    machine = served({**FRONT, "/prices": (500, "broken")})
    judged = pages.judge(asking(machine), Site(["shop.example"]), author, str)
    assert {fault.path for fault in judged.faults} == {"/prices"}
    alone = pages.judge(asking(machine), Site(["shop.example"], crawl=False), author, str)
    assert alone.faults == ()


def test_the_front_page_alone_can_be_asked(served: Callable[..., Any]) -> None:
    author = Author.read(recorded(served(FRONT)), "12ab", {})
    machine = served({"/": (500, "broken")})
    judged = pages.judge_front_page(asking(machine), Site(["localhost"]), author, str)
    assert {(fault.path, fault.machine) for fault in judged.faults} == {("/", "500 html"), ("HEAD /", "500 empty")}
    assert judged.summary == "compared, 1 address, 1 fault"
    assert pages.judge_front_page(asking(served(FRONT)), Site(["localhost"]), author, str).faults == ()


def test_without_a_record_the_links_are_followed_and_answers_judged_by_themselves(served: Callable[..., Any]) -> None:
    machine = served({**FRONT, "/prices": (500, "broken")})
    author = Author.read(recorded(machine), "another release", {})
    judged = pages.judge(asking(machine), Site(["localhost"]), author, str)
    assert {(fault.path, fault.machine) for fault in judged.faults} == {("/prices", "500 html")}
    reason = "no bake ran the author's server for this release"
    assert judged.summary == f"not compared ({reason}); 3 addresses requested"


UNREACHABLE = """Traceback (most recent call last):
  File "/srv/app/current/venv/lib/python3.13/site-packages/psycopg2/__init__.py", line 122, in connect
    conn = _connect(dsn, connection_factory=connection_factory, **kwasync)
psycopg2.OperationalError: connection to server at "db.shop.example" (192.0.2.1), port 5432 failed: Connection refused
"""


def test_a_page_that_needs_a_server_of_another_machine_is_not_tried(served: Callable[..., Any]) -> None:
    machine = served({**FRONT, "/prices": (500, "broken"), "/": (200, "<a href=/prices>")})
    author = Author.read(recorded(machine), "12ab", {})
    judged = pages.judge(asking(machine), Site(["localhost"]), author, lambda: UNREACHABLE)
    assert judged.faults == ()
    assert judged.summary == "not compared (needs PostgreSQL at DATABASE_URL)"
    (noted, *_) = [each for each in judged.differences if each.path == "/prices" and each.verdict is Verdict.NOTE]
    assert noted.sentence == "Not checked, because the page needs PostgreSQL at DATABASE_URL."


def test_a_missing_server_hides_no_page_that_works_without_it(served: Callable[..., Any]) -> None:
    author = Author.read(recorded(served(FRONT)), "12ab", {})
    machine = served({**FRONT, "/prices": (500, "broken")})
    other = 'Traceback (most recent call last):\n  File "app.py", line 3, in prices\nKeyError: 0\n'
    alone = pages.judge(asking(machine), Site(["localhost"]), author, lambda: UNREACHABLE)
    assert alone.faults == ()
    both = pages.judge(asking(machine), Site(["localhost"]), author, lambda: other + UNREACHABLE)
    assert {fault.address for fault in both.faults} == {"/prices"}


def test_an_author_s_server_that_does_not_serve_is_a_reason(tmp_path: Path) -> None:
    facts = {"release": "12ab", "command": "python app.py", "records": []}
    needs = Author.read(json.dumps({**facts, "log": UNREACHABLE}), "12ab", {})
    assert needs == Author(None, "needs PostgreSQL at DATABASE_URL")
    other = "Traceback (most recent call last):\n  File \"app.py\", line 3, in <module>\nKeyError: 'X'\n"
    assert Author.read(json.dumps({**facts, "log": other}), "12ab", {}).reason.startswith(
        "`python app.py` does not serve: KeyError: 'X'"
    )
    assert Author.read(json.dumps({**facts, "log": ""}), "12ab", {}).reason == "`python app.py` does not serve"


def test_an_author_s_server_that_redirects_everything_to_https_is_a_reason() -> None:
    answer = {"path": "/", "status": 301, "location": {"path": "/", "origin": "https", "host": "localhost"}}
    record = {"version": 1, "answers": [answer, {**answer, "path": "/a", "status": 308}]}
    facts = {"release": "12ab", "command": "flask run", "records": [record, record]}
    author = Author.read(json.dumps(facts), "12ab", {})
    assert author == Author(None, "`flask run` only redirects to HTTPS or shows debug pages")
    facts["records"] = [{**record, "answers": [answer, {"path": "/a", "status": 404}]}]
    assert Author.read(json.dumps(facts), "12ab", {}).record is not None


@pytest.mark.parametrize("front", [404, 400, 500])
def test_servers_that_both_serve_no_page_are_not_compared(served: Callable[..., Any], front: int) -> None:
    ports = served({"/": (front, "<title>No</title>"), "/api/items": (200, "<title>Items</title>")})
    author = Author.read(recorded(ports), "12ab", {})
    judged = pages.judge(asking(ports), Site(["shop.example"]), author, str)
    reason = f"`flask run` responds with {front}; name a page that it serves in check.pages"
    assert judged.summary == f"not compared ({reason}); 2 addresses requested"
    # A server that fails as the author's does is a fault all the same.
    assert {fault.address for fault in judged.faults} == ({"/"} if front in (400, 500) else set())


@pytest.mark.parametrize("text", ["{", "[]", '{"release": "12ab", "records": [{"version": 99}]}'])
def test_a_record_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ProgramError):
        Author.read(text, "12ab", {})


def test_a_recipe_may_end_the_comparison(served: Callable[[Answers], dict[str, int]]) -> None:
    author = Author.read(recorded(served(FRONT)), "12ab", {"author": "off"})
    assert author == Author(None, "check.author is off")


def test_workers_that_load_the_app_are_awaited() -> None:
    with tempfile.TemporaryDirectory(prefix="systemd-private-test-app.service-", dir="/tmp") as folder:
        turn = Path(folder, "tmp/first")
        turn.parent.mkdir()
        with turn.open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            waiting = Popen(["sh", "-c", remote_scripts.text("await-workers.sh")])
            with pytest.raises(TimeoutExpired):
                waiting.wait(4)
        assert waiting.wait(60) == 0


def test_a_machine_without_a_record_says_so() -> None:
    assert Author.read("", "12ab", {}) == Author(None, "no bake ran the author's server for this release")


def test_the_site_is_what_the_machine_and_its_recipe_say() -> None:
    site = Site.of("*.shop.example shop.example\n", {"health": "/health", "pages": [{"path": "/prices"}]})
    assert site.names == ["www.shop.example", "shop.example"]
    assert site.seeds == ["/", "/health", "/prices"] and site.crawl
    assert Site.of("localhost 192.0.2.1", {}).names == ["localhost", "192.0.2.1"]


@pytest.mark.parametrize(
    "text", ["", "a\n", "a\n[]\nnew\n", "a\n" + "[" * 100_000 + "\nnew\n", 'a\n{"check": {"pages": [5]}}\nnew']
)
def test_a_site_that_a_machine_does_not_describe_is_an_error(text: str) -> None:
    with pytest.raises(ProgramError, match="does not describe its site"):
        pages.read_site(text)


@pytest.mark.parametrize("output", ["", "5", "[]", "[" * 100_000, "Killed"])
def test_a_crawler_that_prints_no_records_is_an_error(output: str) -> None:
    with pytest.raises(ProgramError, match="did not print its records"):
        pages.judge(lambda crawls: output, pages.Site(["shop.example"]), pages.Author(None), str)
