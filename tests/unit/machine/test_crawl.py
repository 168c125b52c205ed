"""The crawler, on real servers: what it asks, what it leaves alone, and that it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import itertools
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from conftest import REPOSITORY

from bake.verify import comparison
from bake.verify.record import VERSION, Answer, Location, Record
from bake.verify.rules import Verdict

PROGRAM = REPOSITORY / "cloud-init/features/author-server/crawl.py"
MISSING = "/bake-no-such-page-7f3a"
PNG = b"\x89PNG\r\n"
#: A page as (content type, body), as (status, headers, body), or a function of the request's handler.
Pages = dict[str, Any]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers from the server's pages, and keeps the requests as `METHOD path`."""

    server: Site

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        page = self.server.pages.get(self.path, (404, {"Content-Type": "text/html"}, "<title>Not found</title>"))
        page = page(self) if callable(page) else page
        if page is None:
            return
        status, headers, body = page if len(page) == 3 else (200, {"Content-Type": page[0]}, page[1])
        data = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_POST = do_GET

    def log_message(self, *words: object) -> None:
        pass


class Site(http.server.ThreadingHTTPServer):
    """A server of pages by path."""

    request_queue_size = 50

    def __init__(self, pages: Pages) -> None:
        self.pages, self.requests = pages, list[str]()
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: the crawler hangs up on streams."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


Serve = Callable[[Pages], Site]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers of pages."""
    with contextlib.ExitStack() as stack:

        def start(pages: Pages) -> Site:
            site = stack.enter_context(Site(pages))
            threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            stack.callback(site.shutdown)
            return site

        yield start


@pytest.fixture(scope="module")
def crawl() -> types.ModuleType:
    """The program as a module; no bytecode is written beside it."""
    module = sys.modules["crawl"] = types.ModuleType("crawl")
    exec(compile(PROGRAM.read_text(), PROGRAM, "exec"), module.__dict__)
    return module


@pytest.fixture
def ask(crawl: types.ModuleType) -> Callable[..., Record]:
    """Crawl, and read the record as the host does."""

    def record(site: Site | str, **argument: Any) -> Record:
        url = site if isinstance(site, str) else site.url
        return Record.from_json(json.dumps(crawl.main(crawl.Task(**{"url": url, "seconds": 20, **argument}))))

    return record


Ask = Callable[..., Record]


def paths(record: Record) -> list[str]:
    return [answer.path for answer in record.answers if answer.method == "GET"]


def answer(record: Record, path: str = "/", method: str = "GET") -> Answer:
    return next(answer for answer in record.answers if (answer.path, answer.method) == (path, method))


def page(*links: str, title: str = "", head: str = "") -> tuple[str, str]:
    body = "".join(f'<a href="{link}">more</a>' for link in links)
    return "text/html; charset=utf-8", f"<!doctype html><head><title>{title}</title>{head}</head>{body}"


def test_the_program_prints_a_record_that_the_host_reads(serve: Serve) -> None:
    site = serve({"/": page("/a", title="Front"), "/a": page()})
    crawl = {"url": site.url, "connect": None, "host": "shop.example", "seeds": ["/"], "paths": None}
    argument = json.dumps([crawl, {"url": site.url, "paths": ["/a"]}])
    done = subprocess.run([sys.executable, "-I", PROGRAM, argument], capture_output=True, text=True, check=True)
    record, other = (Record.from_json(json.dumps(printed)) for printed in json.loads(done.stdout))
    assert paths(other) == ["/a"]
    assert record.name == "http://shop.example" and record.complete
    assert paths(record) == ["/", "/a", MISSING]
    assert (answer(record).title, answer(record).charset, answer(record).kind) == ("Front", "utf-8", "html")
    assert (answer(record, "/a").via, answer(record, "/a").source) == ("link", "/")


def test_the_program_and_the_host_have_the_same_fields_and_version(crawl: types.ModuleType) -> None:
    ours, theirs = (dataclasses.asdict(of(path="/")) for of in (Answer, crawl.Answer))
    assert list(ours.items()) == list(theirs.items())
    assert crawl.VERSION == VERSION


def test_everything_that_a_browser_would_load_is_asked(serve: Serve, ask: Ask) -> None:
    head = (
        '<link rel="stylesheet" href="style.css"><link rel="shortcut icon" href="/i.ico"><link rel=canonical href=/no>'
        "<link rel=preload href=/f.woff2><script src=/s.js></script>"
        "<style>@import 'more.css'; a {b: url( /u.gif )}</style>"
    )
    body = (
        '<img src="/p.png" srcset="/p2.png 2x, /p3.webp 640w"><video poster=/v.jpg><source src=/v.mp4></video>'
        '<form method=post action="/form"></form><p style="background: url(/inline.svg)">'
    )
    site = serve({"/": ("text/html", head + body), "/style.css": ("text/css", "a {b: url('deep.png')}")})
    asked = set(paths(ask(site)))
    assert asked == {
        "/", "/style.css", "/i.ico", "/f.woff2", "/s.js", "/more.css", "/u.gif", "/p.png", "/p2.png", "/p3.webp",
        "/v.jpg", "/v.mp4", "/form", "/inline.svg", "/deep.png", MISSING,
    }  # fmt: skip
    assert {request.split()[0] for request in site.requests} == {"GET", "HEAD"}


def test_two_levels_are_asked_breadth_first_and_the_third_is_not(serve: Serve, ask: Ask) -> None:
    pages = {"/": page("/a", "/b"), "/a": page("/a/a"), "/b": page("/b/b", "/"), "/a/a": page("/too-deep")}
    assert paths(ask(serve(pages))) == ["/", "/a", "/b", "/a/a", "/b/b", MISSING]


def test_the_front_page_alone_is_asked_by_head_too(serve: Serve, ask: Ask) -> None:
    site = serve({"/": page("/a"), "/a": page()})
    record = ask(site)
    assert [request for request in site.requests if request.startswith("HEAD")] == ["HEAD /"]
    assert answer(record, method="HEAD").status == 200 and answer(record, method="HEAD").length > 0


def test_seeds_are_asked_first_and_a_list_of_paths_is_asked_alone(serve: Serve, ask: Ask) -> None:
    site = serve({"/": page("/a"), "/healthz": ("text/plain", "well"), "/pricing": page("/plan")})
    found = ask(site, seeds=["/", "/healthz", "/pricing"])
    assert paths(found) == ["/", "/healthz", "/pricing", "/a", "/plan", MISSING]
    assert paths(ask(site, paths=["/pricing", "/"])) == ["/pricing", "/"]


def api(**description: object) -> tuple[str, str]:
    get = {"get": dict[str, object]()}
    items = {"get": {"parameters": [{"name": "q", "required": True}]}}
    routes = {
        "/hello": get, "/items": items, "/users/{name}": get, "/logout": get, "/new": {"post": {}},
        "/pages": {"get": {"parameters": [{"name": "page", "required": False}]}, "post": {}},
    }  # fmt: skip
    return "application/json", json.dumps({"openapi": "3.1.0", "paths": routes, **description})


@pytest.mark.parametrize("front", [(404, {"Content-Type": "application/json"}, "{}"), ("application/json", "[1]")])
def test_the_description_of_an_api_has_its_pages(serve: Serve, ask: Ask, front: tuple[object, ...]) -> None:
    site = serve({"/": front, "/openapi.json": api(), "/hello": ("application/json", "{}")})
    record = ask(site)
    assert paths(record) == ["/", "/openapi.json", "/hello", "/pages", "/bake-no-such-page-7f3a"]
    assert answer(record, "/hello").source == "/openapi.json"


def test_an_api_below_a_path_is_described_with_it(serve: Serve, ask: Ask) -> None:
    description = api(servers=[{"url": "https://api.example/v1"}, {"url": "/api/"}])
    record = ask(serve({"/": ("text/plain", "hello"), "/schema/openapi.json": description}))
    assert paths(record)[1:4] == ["/schema/openapi.json", "/api/hello", "/api/pages"]


@pytest.mark.parametrize("text", ["[]", '{"paths": []}', '{"paths": {"/a": 1}}', "[" * 100000, "{"])
def test_other_json_is_no_description_and_a_site_of_pages_is_not_asked_for_one(
    serve: Serve, ask: Ask, text: str
) -> None:
    site = serve({"/": ("application/json", text), "/openapi.json": ("application/json", text)})
    assert paths(ask(site)) == ["/", "/bake-no-such-page-7f3a"]
    pages = serve({"/": page("/a")})
    ask(pages)
    assert not any("openapi" in request for request in pages.requests)


def test_nothing_that_acts_is_asked(serve: Serve, ask: Ask) -> None:
    words = (
        "/logout",
        "/accounts/log-out/",
        "/x?do=signout",
        "/items/3/delete",
        "/deleteItem",
        "/itemDelete",
        "/Remove",
    )
    more = ("/un%73ubscribe", "/destroy/", "/order/cancel")
    texts = (
        '<a href="/quit">Log <b>out</b></a><a href="/quit"><img></a><a href="/bin" aria-label="Delete"></a>'
        '<form action="/wipe"><input type=submit value="Destroy"></form><a rel="external nofollow" href="/trap">x</a>'
        "<a href='mailto:a@b.example'>m</a><a href='javascript:f()'>j</a><a href='data:text/html,x'>d</a>"
        "<a href='#x'>x</a>"
        '<a href="/catalogue/undeleted?q=login">fine</a><a href="/blogout">fine</a>'
    )
    kind, body = page(*words, *more)
    site = serve({"/": (kind, body + texts)})
    assert paths(ask(site)) == ["/", "/catalogue/undeleted?q=login", "/blogout", MISSING]


def test_a_redirect_is_recorded_and_its_target_is_crawled_at_the_same_level(serve: Serve, ask: Ask) -> None:
    def to(target: str) -> tuple[int, dict[str, str], str]:
        return 302, {"Location": target}, ""

    pages = {"/": to("catalog/"), "/catalog/": page("/1", "/out", "/end"), "/1": page("/2"), "/2": page("/3")}
    pages |= {"/out": to("https://accounts.example/in?a=b"), "/end": to("/logout")}
    record = ask(serve(pages))
    assert paths(record) == ["/", "/catalog/", "/1", "/out", "/end", "/2", MISSING]
    assert answer(record).location == Location("/catalog/", "same", "127.0.0.1")
    assert answer(record, "/out").location == Location("/in?a=b", "other", "accounts.example")
    assert not answer(record).loop


def test_a_redirect_to_the_host_s_other_scheme_is_told_from_other_hosts(serve: Serve, ask: Ask) -> None:
    pages = {"/": page("/tls", "/own", "/port"), "/tls": (301, {"Location": "https://shop.example/tls?a"}, "")}
    pages |= {"/own": (301, {"Location": "http://shop.example/new"}, "")}
    pages |= {"/port": (301, {"Location": "http://shop.example:8000/"}, "")}
    record = ask(serve(pages), host="shop.example")
    origins = {path: answer(record, path).location for path in ("/tls", "/own", "/port")}
    assert origins == {
        "/tls": Location("/tls?a", "https", "shop.example"),
        "/own": Location("/new", "same", "shop.example"),
        "/port": Location("/", "other", "shop.example"),
    }


def test_a_redirect_to_another_port_of_the_host_leads_elsewhere(serve: Serve, ask: Ask) -> None:
    pages = {"/": page("/old", "/tls"), "/old": (302, {"Location": "https://shop.example:5000/new"}, "")}
    site = serve(pages)
    pages["/tls"] = (302, {"Location": f"https://127.0.0.1:{site.server_port}/tls"}, "")
    assert answer(ask(site, host="shop.example"), "/old").location == Location("/new", "other", "shop.example")
    location = answer(ask(site), "/tls").location
    assert location is not None and location.origin == "https"


def test_long_addresses_and_redirects_are_bounded(serve: Serve, ask: Ask, crawl: types.ModuleType) -> None:
    long = "/" + "y" * 20_000
    pages: Pages = {"/": page(*(f"/{number}?{'x' * 1500}" for number in range(9)), "/far", "/next")}
    pages |= {"/far": (302, {"Location": f"{long}?{'z' * 9000}"}, ""), "/type": ("t" * 9000, "")}
    pages |= {"/next": (302, {"Location": f"/type?state={'z' * 9000}"}, "")}
    record = ask(serve(pages))
    assert len(record.to_json()) < 20_000
    assert paths(record)[:3] == ["/", "/far", "/next"] and "/type" in paths(record)
    # The paths of the second crawl are one argument of a process, as is the program itself in a check.
    assert (crawl.MOST + crawl.EXTRAS + 1) * crawl.LONGEST + len(PROGRAM.read_bytes()) < 128 << 10


def test_the_tools_of_developers_are_no_pages_of_the_app(serve: Serve, ask: Ask) -> None:
    tools = ("/_debug_toolbar/1", "/__debug__/history", "/?__debugger__=yes&cmd=resource", "/a?b=1&__debugger__=yes")
    assert paths(ask(serve({"/": page(*tools, "/debug"), "/debug": page()}))) == ["/", "/debug", MISSING]


def test_the_number_of_links_of_each_kind_is_recorded(serve: Serve, ask: Ask) -> None:
    pages = {"/": page("/a", "/b"), "/a": page("/item/1?t=x", "/b"), "/b": page("/item/22?t=y", "/b")}
    record = ask(serve({**pages, "/item/1?t=x": page("/item/1", "/item/2", "/b")}))
    one, other, more = (answer(record, path).links for path in ("/a", "/b", "/item/1?t=x"))
    assert one == other != more


def test_a_seed_that_is_missing_on_purpose_is_asked_once(serve: Serve, ask: Ask) -> None:
    assert paths(ask(serve({"/": page()}), seeds=["/", MISSING])) == ["/", MISSING]


def test_a_redirect_loop_of_the_front_page_is_found(serve: Serve, ask: Ask) -> None:
    loop = {"/": (302, {"Location": "/a"}, ""), "/a": (302, {"Location": "/"}, "")}
    assert answer(ask(serve(loop))).loop

    def once(handler: Handler) -> tuple[Any, ...]:
        """Set a cookie, and come back."""
        if "seen=1" in handler.headers["Cookie"]:
            return page(title="Welcome")
        return 302, {"Location": "/", "Set-Cookie": "seen=1; Path=/; HttpOnly"}, ""

    assert not answer(ask(serve({"/": once}))).loop


def test_a_base_element_is_honoured_and_other_origins_are_not_asked(serve: Serve, ask: Ask) -> None:
    body = '<base href="../lib/"><a href="x">x</a><a href="//other.example/y">y</a><a href="http://[bad">z</a>'
    site = serve({"/docs/v1/": ("text/html", body)})
    absolute = f'<a href="{site.url}/abs?q=1&amp;r=a b#part">x</a><a href="http://127.0.0.1:1/other-port">x</a>'
    site.pages["/docs/v1/"] = ("text/html", body + absolute)
    assert paths(ask(site, seeds=["/docs/v1/"])) == ["/docs/v1/", "/docs/lib/x", "/abs?q=1&r=a%20b", MISSING]


def test_broken_html_and_other_encodings_are_read(serve: Serve, ask: Ask) -> None:
    broken = '<html><a href="/a"<b><![if x]><a href=/b <!-- <p <<>> & &#xffffffff; <title>T<a href=\'/c'
    pages: Pages = {
        "/": ("text/html", broken),
        "/latin": ("text/html; charset=latin-1", "<title>grüße</title>".encode("latin-1")),
        "/meta": ("text/html", '<meta charset="shift_jis"><title>日本</title>'.encode("shift_jis")),
        "/unknown": ("text/html; charset=klingon", "<title>é</title>"), "/bytes": ("text/html", bytes(range(256)) * 9),
        "/utf-16": ("text/html; charset=utf-16", "<title>wide</title>".encode("utf-16")),
    }  # fmt: skip
    record = ask(serve(pages), seeds=list(pages))
    assert "/a" in paths(record)
    titles = {path: answer(record, path).title for path in pages}
    assert (titles["/latin"], titles["/meta"], titles["/unknown"]) == ("grüße", "日本", "é")
    assert titles["/utf-16"] == "wide"
    assert answer(record, "/bytes").status == 200


def test_sixty_addresses_are_asked_of_ten_thousand_and_one_file_of_each_suffix(serve: Serve, ask: Ask) -> None:
    kind, body = page(*(f"/page-{'x' * number}" for number in range(1, 101)), *(f"/item/{n}" for n in range(10_000)))
    files = "".join(f"<img src=/{n}.png>" for n in range(50)) + "<script src=/a.js></script><script src=/b.js></script>"
    record = ask(serve({"/": (kind, body + files)}))
    assert len([path for path in paths(record) if not path.endswith((".png", ".js"))]) == 60 + 1
    assert paths(record)[-3:] == ["/0.png", "/a.js", MISSING]


def test_alike_addresses_leave_room_for_others(serve: Serve, ask: Ask) -> None:
    record = ask(serve({"/": page(*(f"/item/{n}?page={n}" for n in range(100)), "/about", "/help")}))
    assert paths(record)[5:8] == ["/item/4?page=4", "/about", "/help"]
    assert len(paths(record)) == 60 + 1


def test_two_crawls_ask_the_same_addresses_in_the_same_order(serve: Serve, ask: Ask) -> None:
    pages = {"/": page(*(f"/{n * 7 % 101}x" for n in range(90)), "/b/c"), "/b/c": page("/z", "/y")}
    site = serve(pages)
    assert paths(ask(site)) == paths(ask(site))


def drip(handler: Handler) -> None:
    """Send a byte from time to time, as long as somebody reads."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/plain")
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.05)


def slow_head(handler: Handler) -> None:
    with contextlib.suppress(OSError):
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)


def silent(handler: Handler) -> None:
    time.sleep(2)


def huge(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "video/mp4")
    handler.send_header("Content-Length", str(50 << 20))
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(50):
            handler.wfile.write(bytes(1 << 20))


def cut(handler: Handler) -> tuple[Any, ...]:
    return 200, {"Content-Type": "text/html", "Content-Length": "9999"}, "<p>"


def test_slow_silent_huge_and_endless_answers_end(serve: Serve, ask: Ask) -> None:
    pages = {"/": page("/drip", "/head", "/silent", "/huge", "/cut"), "/drip": drip, "/head": slow_head}
    site = serve({**pages, "/silent": silent, "/huge": huge, "/cut": cut})
    begin = time.monotonic()
    record = ask(site, seconds=4)
    assert time.monotonic() - begin < 8
    assert (answer(record, "/drip").end, answer(record, "/drip").sha256) == ("stream", "")
    assert 5 < answer(record, "/drip").length < 100
    assert answer(record, "/head").error == answer(record, "/silent").error == "timeout"
    assert (answer(record, "/huge").end, answer(record, "/huge").length) == ("large", 50 << 20)
    assert answer(record, "/cut").end == "broken"
    assert answer(record).end == "whole"


def test_a_slow_first_page_is_waited_for(serve: Serve, ask: Ask) -> None:
    def slow(handler: Handler) -> tuple[str, str]:
        time.sleep(2.5)
        return page("/report")

    record = ask(serve({"/": slow, "/report": slow}), seconds=8)
    assert (answer(record).status, answer(record, "/report").error) == (200, "timeout")


def test_an_event_stream_is_given_up_soon(serve: Serve, ask: Ask, crawl: types.ModuleType) -> None:
    def events(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(b"data: 1\n\n")
        time.sleep(12)

    record = ask(serve({"/": events}), paths=["/"], seconds=60)
    first = answer(record)
    assert (first.end, first.length, first.kind) == ("stream", 9, "text")
    assert first.seconds < crawl.STREAM + 5


def test_the_time_of_all_requests_is_a_bound(serve: Serve, ask: Ask) -> None:
    def slow(handler: Handler) -> tuple[str, str]:
        time.sleep(0.3)
        return page()

    site = serve({f"/{name}": slow for name in "abcdefghijklmnopqrstuvwxyz"})
    begin = time.monotonic()
    record = ask(site, paths=list(site.pages), seconds=2)
    assert time.monotonic() - begin < 6
    assert not record.complete and 0 < len(record.answers) < 26
    assert all(answer.status == 200 for answer in record.answers)


@pytest.mark.parametrize("text", ["<!--", "<a ", "<", "<![", "<title>", "<script></s", "<a href='", "&", "<div>"])
def test_hostile_html_takes_no_time(serve: Serve, ask: Ask, text: str) -> None:
    begin = time.monotonic()
    record = ask(serve({"/": ("text/html", "<p>" + text * ((4 << 20) // len(text)))}), seeds=["/"])
    assert time.monotonic() - begin < 20
    assert (answer(record).status, answer(record).end) == (200, "large")


def test_cookies_make_one_visitor(serve: Serve, ask: Ask) -> None:
    sent: list[str] = []

    def front(handler: Handler) -> tuple[Any, ...]:
        return 200, {"Content-Type": "text/html", "Set-Cookie": "session=a=b; Secure; HttpOnly"}, page("/a", "/b")[1]

    def keep(handler: Handler) -> tuple[Any, ...]:
        sent.append(handler.headers["Cookie"].partition("; ")[2])
        return 200, {"Content-Type": "text/html", "Set-Cookie": "session=; Max-Age=0"}, ""

    ask(serve({"/": front, "/a": keep, "/b": keep}))
    assert sent == ["session=a=b", ""]


def test_visitors_ask_at_once_and_each_sees_its_own_answers(serve: Serve, ask: Ask) -> None:
    together = threading.Barrier(20, timeout=10)

    def hello(handler: Handler) -> tuple[str, str]:
        together.wait()
        return "text/html", f"Hello {handler.headers['User-Agent']}"

    record = ask(serve({"/": hello}), paths=["/"], visitors=20)
    assert sorted(answer.visitor for answer in record.answers) == list(range(20))
    assert all(answer.own and not answer.foreign for answer in record.answers)


def test_an_answer_for_another_visitor_is_seen(serve: Serve, ask: Ask) -> None:
    last = [""]

    def mixed(handler: Handler) -> tuple[str, str]:
        previous, last[0] = last[0], handler.headers["Cookie"]
        return "text/html", f"Hello {previous}"

    record = ask(serve({"/": mixed, "/plain": page()}), paths=["/", "/plain"], visitors=5)
    verdicts = {each.path: each.verdict for each in comparison.compare(None, [record])}
    assert verdicts == {"/": Verdict.FAULT, "/plain": Verdict.SAME}
    front = [answer for answer in record.answers if answer.path == "/"]
    assert sum(answer.foreign and not answer.own for answer in front) == 4
    assert not any(answer.foreign for answer in record.answers if answer.path == "/plain")


def test_records_of_real_servers_are_compared(serve: Serve, ask: Ask) -> None:
    counter = itertools.count()

    def random(handler: Handler) -> tuple[Any, ...]:
        number = next(counter)
        headers = {"Content-Type": "text/html", "Set-Cookie": f"csrf={number}"}
        return 200, headers, f"<title>{'odd' if number % 2 else 'even'}</title><input value={number * 'x'}>"

    static = 200, {"Content-Type": "text/css", "ETag": "1"}, "a {}"
    pages: Pages = {"/": page("/random", "/pricing", title="Shop", head="<link rel=stylesheet href=/a.css>")}
    pages |= {"/random": random, "/pricing": page(title="Pricing"), "/a.css": static}
    site = serve(pages)
    first = ask(site)
    author = first.joined(ask(site, paths=paths(first), visitors=5))
    same = comparison.compare(author, [ask(serve(pages), paths=paths(first), visitors=visitors) for visitors in (1, 5)])
    assert {each.verdict for each in same} == {Verdict.SAME}
    worse = {**pages, "/pricing": page(title="Shop"), "/a.css": (*static[:2], "b {}")}
    found = comparison.compare(author, [ask(serve(worse), paths=paths(first))])
    assert [each.path for each in found if each.verdict is Verdict.FAULT] == ["/a.css", "/pricing"]


def test_debug_pages_and_exceptions_are_recognized(serve: Serve, ask: Ask) -> None:
    trace = "Traceback (most recent call last):\n  File"
    pages: Pages = {
        "/django": (404, {"Content-Type": "text/html"}, "seeing this error because you have <code>DEBUG = True</code>"),
        "/werkzeug": (500, {"Content-Type": "text/html"}, "<title>ValueError // Werkzeug Debugger</title>"),
        "/starlette": (500, {"Content-Type": "text/html"}, "<title>Starlette Debugger</title>"),
        "/text": (500, {"Content-Type": "text/plain"}, trace),
        "/docs": ("text/html", f"Set DEBUG = True, and Werkzeug Debugger shows: {trace}"),
    }  # fmt: skip
    record = ask(serve(pages), paths=list(pages))
    debug = {path: answer(record, path).debug for path in pages}
    assert debug == {
        "/django": "Django", "/werkzeug": "Werkzeug", "/starlette": "Starlette", "/text": "traceback", "/docs": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content_type", "body", "kind"),
    [
        ("text/html", b"x", "html"), ("application/json", b"{}", "json"), ("application/problem+json", b"{}", "json"),
        ("image/svg+xml", b"<svg/>", "image"), ("application/atom+xml", b"<feed/>", "xml"), ("text/css", b"a{}", "css"),
        ("application/javascript", b"f()", "js"), ("font/woff2", b"wOF2", "font"), ("text/plain", b"<html>", "text"),
        ("text/css", b"<!DOCTYPE html><p>", "html"), ("application/pdf", b"%PDF", "binary"),
        ("text/html", b"", "empty"),
        ("", PNG, "image"), ("application/octet-stream", b"wOFF", "font"), ("", b'{"a": 1}', "json"),
        ("", b"\0\1", "binary"), ("", b"plain", "text"), ("", b"\xff\xfe\xfd\xfc\xfb", "binary"),
    ],
)  # fmt: skip
def test_a_body_s_kind_comes_from_its_type_and_first_bytes(
    crawl: types.ModuleType, content_type: str, body: bytes, kind: str
) -> None:
    assert crawl.kind(content_type, body) == kind


def test_a_server_that_is_not_there_or_not_http_is_an_answer(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def speak() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"SSH-2.0-x\r\n\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        assert answer(ask(f"http://127.0.0.1:{port}", paths=["/"])).error == "protocol"
        thread.join(10)
    record = ask(f"http://127.0.0.1:{port}", paths=["/", "/a"])
    assert [answer.error for answer in record.answers] == ["refused"] * 3 and record.complete


def test_https_is_asked_by_a_name_at_another_address(serve: Serve, ask: Ask) -> None:
    site = serve({"/": lambda handler: ("text/plain", f"{handler.headers['Host']} {names}")})
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda connection, name, _: names.append(name)
    trustme.CA().issue_cert("other.example").configure_cert(context)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    record = ask("https://shop.example", connect=["127.0.0.1", site.server_port], paths=["/"])
    assert answer(record).status == 200 and record.name == "https://shop.example"
    assert answer(record).length == len("shop.example ['shop.example']")
    assert answer(ask(f"https://127.0.0.1:{serve({}).server_port}", paths=["/"])).error in ("tls", "reset")
