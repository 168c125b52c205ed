"""Request a web app's pages as visitors do, and print records of its answers as JSON.

Run it on the machine of the app: `python3 crawl.py ARGUMENT`. It needs no privileges. It is one file, because the
checks send it to machines as an argument of Python. ARGUMENT is a list in JSON.
The program runs its crawls in turn, and prints the list of their records. A crawl is
{"url": the app's origin, as http://127.0.0.1:5000,
 "connect": [address, port] to connect to instead of the URL's, or null,
 "host": Host header (default: that of the URL),
 "seeds": pages to begin with (default: the front page),
 "paths": pages to request instead of those that a crawl discovers, or null,
 "visitors": number of concurrent visitors (default: 1),
 "seconds": for all requests (default: 60)}.
`bake/verify/record.py` describes the record. Certificates are not verified. Only GET and HEAD are sent.
"""

from __future__ import annotations

import codecs
import hashlib
import heapq
import html.parser
import http.client
import io
import json
import re
import secrets
import socket
import ssl
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

#: Version of the record.
VERSION = 1
FRONT, NO_SUCH_PAGE = "/", "/bake-no-such-page-7f3a"
#: The depth of links below the first pages; the limit of addresses; the number of addresses of one shape that have
#: priority; and the number of files beyond `MOST`, each the first of its suffix.
DEPTH, MOST, ALIKE, EXTRAS = 2, 60, 5, 20
#: Bytes read of a body, bytes searched for links, and characters of the longest address. MOST + EXTRAS addresses and
#: this program fit into one argument of a process (128 KiB).
BODY, PARSED, LONGEST = 2 << 20, 512 << 10, 1000
#: Seconds for a response of the first page, and for a stream after its start. The limit of consecutive redirects.
PATIENCE, STREAM, HOPS = 15.0, 2.0, 10
STREAMS = ("text/event-stream", "multipart/x-mixed-replace")
PORTS = {"http": 80, "https": 443}
#: Where frameworks describe their API (OpenAPI): FastAPI, APIFlask and Quart-Schema; Litestar; Django Ninja; Sanic.
DESCRIPTIONS = ("/openapi.json", "/schema/openapi.json", "/api/openapi.json", "/docs/openapi.json")
#: Links to actions, in an address or in the text of a link.
ACTION = re.compile(
    r"(?<![a-z])(log|sign)[-_\s]?(out|off)|(?<![a-z])(delete|remove|unsubscribe|destroy|cancel)"
    r"|(?-i:(?<=[a-z])(Log[Oo]ut|Sign[Oo]ut|Delete|Remove|Unsubscribe|Destroy|Cancel))",
    re.I,
)
#: Addresses that frameworks add for developers: of a toolbar or a debugger.
TOOLS = re.compile(r"/_debug_toolbar/|/__debug__/|[?&]__debugger__=yes")
#: Pages that frameworks show to developers.
DEBUG = {
    "Django": rb"because you have <code>DEBUG = True</code>|>DEBUG=True</a> is in|<div id=\"djDebug\"",
    "Werkzeug": rb"Werkzeug Debugger</title>|\?__debugger__=yes",
    "Pyramid": rb"[\"'/]_debug_toolbar/",
    "Bottle": rb"<h2>Traceback:</h2>",
    "Starlette": rb"<title>Starlette Debugger</title>",
}
#: The text of an exception, which an error page of any framework may hold.
TRACEBACK = rb"Traceback \(most recent call last\)"
#: Content types by kind; the first match counts.
TYPES = {
    "html": r"text/html|application/xhtml\+xml",
    "image": r"image/.*",
    "json": r"application/json|.*\+json",
    "xml": r"(text|application)/xml|.*\+xml",
    "css": r"text/css",
    "js": r"(text|application)/(x-)?(java|ecma)script",
    "font": r"font/.*|application/(x-)?font-.*",
    "text": r"text/.*",
}
#: The first bytes of files, by kind.
MAGIC = {
    "image": (b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"\0\0\1\0", b"RIFF"),
    "font": (b"wOFF", b"wOF2", b"OTTO", b"\0\1\0\0"),
}
HTML = re.compile(rb"\s*(<!--[^>]{0,500}-->\s*)?<(!doctype\s+html|html|head|body)[\s>]", re.I)
MARKER = re.compile(rb"bake-visitor-[0-9a-f]{12}-\d+")


@dataclass
class Answer:
    """The answer to one request of a visitor. `Answer` of bake/verify/record.py describes the fields."""

    path: str
    method: str = "GET"
    visitor: int = 0
    status: int = 0
    type: str = ""
    charset: str = ""
    location: dict[str, str] | None = None
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


class Link(NamedTuple):
    """A link of a page: its address as in the page, and whether a browser loads it along with the page."""

    address: str
    asset: bool


class Find(NamedTuple):
    """An address to request. Tuples sort in the order of requests: postponed last, then by level, then by discovery."""

    postponed: bool
    level: int
    number: int
    path: str
    via: str
    source: str


@dataclass(frozen=True)
class Site:
    """The server that is crawled."""

    url: str
    connect: tuple[str, int] | None = None
    host: str = ""

    @property
    def base(self) -> SplitResult:
        """Return the parts of the URL."""
        return urlsplit(self.url)

    @property
    def name(self) -> str:
        """Return the name in the Host header, with its port if it has one."""
        return self.host or self.base.netloc

    def resolve(self, link: str, page: str) -> dict[str, str]:
        """Return the target of a link of a page: `path` with its query, `origin` and `host`.

        The origin is "same", "http" or "https" for the other scheme of the same host, or "other". Raises ValueError
        if the link is not an HTTP URL.
        """
        parts = urlsplit(urljoin(f"{self.base.scheme}://{self.name}{page}", link.strip()))
        if parts.scheme not in PORTS or not parts.hostname:
            raise ValueError(f"{link!r} is not an HTTP URL")
        path = quote(parts.path or "/", "/%:@!$&'()*+,;=~", errors="replace")
        if parts.query:
            path += "?" + quote(parts.query, "/?%:@!$&'()*+,;=~", errors="replace")
        own = [urlsplit(f"//{name}") for name in (self.base.netloc, self.name)]
        if parts.scheme == self.base.scheme and any(_port(parts) == _port(other, parts.scheme) for other in own):
            origin = "same"
        elif parts.scheme != self.base.scheme and any(
            # An app may change only the scheme, and keep the port of a development server.
            parts.hostname == other.hostname and parts.port in (None, PORTS[parts.scheme], other.port)
            for other in own
        ):
            origin = parts.scheme
        else:
            origin = "other"
        return {"path": path, "origin": origin, "host": parts.hostname}

    def path(self, link: str, page: str = "/") -> str | None:
        """Return the path of a link to the same origin; None for other links and for paths that are too long."""
        try:
            target = self.resolve(link, page)
        except ValueError:
            return None
        return target["path"] if target["origin"] == "same" and len(target["path"]) <= LONGEST else None


def _port(parts: SplitResult, scheme: str = "") -> tuple[str | None, int]:
    return parts.hostname, parts.port or PORTS[scheme or parts.scheme]


#: The attributes of tags that contain addresses: of pages, and of files that a browser loads along with a page.
PAGES = {"a": "href", "area": "href", "form": "action", "iframe": "src"}
ASSETS = {
    "link": ("href",), "script": ("src",), "img": ("src",), "source": ("src",), "audio": ("src",),
    "video": ("src", "poster"),
}  # fmt: skip
LOADED = {"icon", "stylesheet", "preload", "modulepreload", "apple-touch-icon", "manifest"}


class Page(html.parser.HTMLParser):
    """The title and the links of an HTML page."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.base = path, ""
        self.title = self._style = self._within = ""
        self._links: list[tuple[Link, list[str]]] = []
        self._open: dict[str, list[str]] = {}

    @classmethod
    def read(cls, text: str, path: str, deadline: float) -> Page:
        """Parse a text until the parser fails or the deadline passes.

        It does not call `close`, because the parser then retries every unclosed tag, which takes minutes for 256 KiB
        of them.
        """
        page = cls(path)
        try:
            for begin in range(0, len(text), 64 << 10):
                if time.monotonic() > deadline:
                    break
                page.feed(text[begin : begin + (64 << 10)])
        except (AssertionError, ValueError):
            pass  # Python 3.11's parser raises these for some broken declarations.
        return page

    def links(self) -> list[Link]:
        """Return the links, except those to actions."""
        actions = {link.address for link, words in self._links if ACTION.search(" ".join(" ".join(words).split()))}
        links = [link for link, _ in self._links if link.address not in actions]
        links += [Link(address, True) for address in style_links(self._style)]
        return [Link(self._joined(link.address), link.asset) for link in links]

    def _joined(self, address: str) -> str:
        try:
            return urljoin(urljoin(self.path, self.base), address.strip())
        except ValueError:
            return ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the links of a tag."""
        attributes = {name: value or "" for name, value in reversed(attrs)}
        rel = set(attributes.get("rel", "").lower().split())
        if tag in PAGES:
            words = [attributes.get("aria-label", ""), attributes.get("title", "")]
            if tag in ("a", "form"):
                self._open[tag] = words
            if "nofollow" not in rel and PAGES[tag] in attributes:
                self._links.append((Link(attributes[PAGES[tag]], False), words))
        elif tag in ASSETS and (tag != "link" or rel & LOADED):
            addresses = [attributes.get(name, "") for name in ASSETS[tag]]
            addresses += [part.split()[0] for part in attributes.get("srcset", "").split(",") if part.strip()]
            self._links += [(Link(address, True), []) for address in addresses if address]
        elif tag == "base":
            self.base = self.base or attributes.get("href", "").strip()
        elif tag == "style" or (tag == "title" and not self.title):
            self._within = tag
        elif tag == "input":
            self.handle_data(attributes.get("value", ""))
        if "url(" in attributes.get("style", ""):
            self._style += attributes["style"][:LONGEST] + ";"

    def handle_endtag(self, tag: str) -> None:
        """End the text of a link, the title or a style sheet."""
        self._open.pop(tag, None)
        if tag == self._within:
            self._within = ""

    def handle_data(self, data: str) -> None:
        """Collect the text of the title, of a style sheet or of the links around it."""
        if self._within == "title":
            self.title = (self.title + data)[:1000]
        elif self._within == "style":
            self._style += data
        for words in self._open.values():
            if len(words) < 50:
                words.append(data[:200])


def style_links(text: str) -> list[str]:
    """Return the addresses that a style sheet loads."""
    addresses = re.findall(r"url\(\s*['\"]?([^'\"()\s]{1,2000})|@import\s+['\"]([^'\"]{1,2000})", text)
    return [first or second for first, second in addresses]


def api_links(body: bytes) -> list[str]:
    """Return the addresses in an API's description (OpenAPI) that answer GET, and need no value from a visitor."""
    try:
        described = json.loads(body)
        servers = [server["url"] for server in described.get("servers", []) if server["url"].startswith("/")]
        prefix = servers[0].rstrip("/") if servers else ""
        return [
            prefix + path
            for path, operations in described["paths"].items()
            if "get" in operations and "{" not in path
            if not any(value.get("required") for value in operations["get"].get("parameters", []))
        ]
    # Other JSON.
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return []


class Wire:
    """A socket for http.client, with one deadline (time.monotonic()) for all its operations."""

    class Reader(io.RawIOBase):
        """A raw stream of the received bytes."""

        def __init__(self, wire: Wire) -> None:
            self.wire = wire

        def readable(self) -> bool:
            """Return True."""
            return True

        def readinto(self, buffer: Any) -> int:
            """Read into a buffer. Raises TimeoutError after the deadline."""
            return self.wire.armed().recv_into(buffer)

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.socket: socket.socket | None = None

    def left(self) -> float:
        """Return the seconds until the deadline. Raises TimeoutError after it."""
        if (left := self.deadline - time.monotonic()) <= 0:
            raise TimeoutError
        return left

    def armed(self) -> socket.socket:
        """Return the socket with the time until the deadline as its timeout. Raises TimeoutError after the deadline."""
        assert self.socket
        self.socket.settimeout(self.left())
        return self.socket

    def sendall(self, data: Any) -> None:
        """Send bytes."""
        self.armed().sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a buffered file of the received bytes."""
        return io.BufferedReader(self.Reader(self))

    def close(self) -> None:
        """Do nothing, because http.client calls this before it reads the body. `Connection.end` closes the socket."""


class Connection(http.client.HTTPConnection):
    """A connection for one request. It ends at its deadline, even if the server sends slowly."""

    def __init__(self, site: Site, deadline: float) -> None:
        super().__init__(site.base.hostname or "", site.base.port or PORTS[site.base.scheme])
        self.site, self.wire = site, Wire(deadline)

    def connect(self) -> None:
        """Connect, over TLS if the scheme is https. Any certificate is accepted."""
        plain = self.wire.socket = socket.create_connection(
            self.site.connect or (self.host, self.port), self.wire.left()
        )
        if self.site.base.scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            name = urlsplit(f"//{self.site.name}").hostname
            tls = self.wire.socket = context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)
            tls.settimeout(self.wire.left())
            tls.do_handshake()
        # A Wire has all methods of a socket that http.client uses.
        self.sock = self.wire  # type: ignore[assignment,unused-ignore]

    def end(self) -> None:
        """Close the socket."""
        if self.wire.socket:
            self.wire.socket.close()


@dataclass
class Visitor:
    """A client with cookies. A marker in its requests distinguishes it from other visitors."""

    site: Site
    number: int
    crawl: str
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def marker(self) -> str:
        """Return a text that is unique to this visitor and crawl."""
        return f"bake-visitor-{self.crawl}-{self.number}"

    def ask(self, path: str, deadline: float, method: str = "GET") -> tuple[Answer, list[Link]]:
        """Send a request, and return the answer and the links in it."""
        begin = time.monotonic()
        answer, links = Answer(path, method, self.number), []
        connection = Connection(self.site, deadline)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in self._headers().items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            links = self._take(answer, response, connection)
        except (OSError, http.client.HTTPException, ValueError) as error:
            answer.error = error_name(error)
        finally:
            connection.end()
        answer.seconds = round(time.monotonic() - begin, 3)
        return answer, links

    def _headers(self) -> dict[str, str]:
        cookies = {"bake_visitor": self.marker, **self.cookies}
        return {
            "Host": self.site.name,
            "User-Agent": f"Mozilla/5.0 (compatible; {self.marker})",
            "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
            "Accept-Language": "en",
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "Connection": "close",
        }

    def _take(self, answer: Answer, response: http.client.HTTPResponse, connection: Connection) -> list[Link]:
        """Fill `answer` from a response, and return the links in its body."""
        content = response.getheader("Content-Type") or ""
        charset = re.search(r"charset=[\"']?([\w.:-]+)", content, re.I)
        answer.status, answer.type = response.status, content.partition(";")[0].strip().lower()[:100]
        answer.charset = charset[1].lower()[:100] if charset else ""
        answer.validator = bool(response.getheader("ETag") or response.getheader("Last-Modified"))
        self._keep(response.headers.get_all("Set-Cookie") or [])
        target = response.getheader("Location")
        if target is not None and 300 <= answer.status < 400:
            try:
                answer.location = self.site.resolve(target.encode("latin-1").decode(errors="replace"), answer.path)
            except ValueError:
                answer.location = {"path": target, "origin": "other", "host": ""}
            if len(answer.location["path"]) > LONGEST:
                answer.location["path"] = answer.location["path"].partition("?")[0][:LONGEST]
            answer.location["host"] = answer.location["host"][:255]
        if answer.type in STREAMS:
            connection.wire.deadline = min(connection.wire.deadline, time.monotonic() + STREAM)
        body, answer.end = read(response, connection.wire.deadline)
        declared = response.getheader("Content-Length") or ""
        answer.length = len(body)
        if declared.isdecimal() and (answer.end == "large" or answer.method == "HEAD"):
            answer.length = int(declared[:18])
        answer.sha256 = hashlib.sha256(body).hexdigest() if answer.end in ("whole", "large") else ""
        answer.kind = kind(answer.type, body)
        answer.debug = debug_page(body, answer.status)
        markers = set(MARKER.findall(body + b"\n" + "\n".join(response.headers.values()).encode("latin-1")))
        answer.own = self.marker.encode() in markers
        answer.foreign = bool(markers - {self.marker.encode()})
        if answer.kind == "json":
            return [Link(address, False) for address in api_links(body)]
        if answer.kind not in ("html", "css"):
            return []
        text = decode(body[:PARSED], answer.charset)
        if answer.kind == "css":
            return [Link(address, True) for address in style_links(text)]
        page = Page.read(text, answer.path, min(time.monotonic() + STREAM, connection.wire.deadline + 1))
        answer.title = " ".join(page.title.split())[:100]
        links = page.links()
        kinds = Counter(shape(link.address, "asset" if link.asset else "link") for link in links)
        answer.links = hashlib.sha256(repr(sorted(kinds.items())).encode(errors="replace")).hexdigest()[:16]
        return links

    def _keep(self, headers: list[str]) -> None:
        """Keep the cookies of an answer as a browser does, but send all of them to every path."""
        for header in headers:
            pair, *rest = header.split(";")
            name, _, value = (part.strip() for part in pair.partition("="))
            attributes = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in rest)}
            if _expired(attributes):
                self.cookies.pop(name, None)
            elif name and len(header) <= 8192 and len(self.cookies) < 50 and pair.isascii() and pair.isprintable():
                self.cookies[name] = value


def _expired(attributes: dict[str, str]) -> bool:
    if re.fullmatch(r"-?\d+", attributes.get("max-age", "")):
        return attributes["max-age"].startswith("-") or not attributes["max-age"].strip("0")
    try:
        return parsedate_to_datetime(attributes.get("expires", "")).timestamp() < time.time()
    except (ValueError, TypeError, OverflowError):
        return False


def read(response: http.client.HTTPResponse, deadline: float) -> tuple[bytes, str]:
    """Return at most BODY bytes of a body, and the way it ended.

    "whole"; "large" if there are more bytes; "stream" if the deadline passed first; "broken" if the server closed the
    connection before the end.
    """
    body = bytearray()
    try:
        while len(body) <= BODY:
            if time.monotonic() > deadline:
                return bytes(body), "stream"
            if not (chunk := response.read1(64 << 10)):
                return bytes(body), "broken" if response.length else "whole"
            body += chunk
    except TimeoutError:
        return bytes(body), "stream"
    except (OSError, http.client.HTTPException, ValueError):
        return bytes(body), "broken"
    return bytes(body[:BODY]), "large"


def error_name(error: Exception) -> str:
    """Return the kind of a failed request."""
    kinds: dict[type[Exception], str] = {
        TimeoutError: "timeout", ConnectionRefusedError: "refused", ConnectionError: "reset", ssl.SSLError: "tls",
        socket.gaierror: "name", OSError: "unreachable",
    }  # fmt: skip
    return next((name for kind, name in kinds.items() if isinstance(error, kind)), "protocol")


def kind(content_type: str, body: bytes) -> str:
    """Return the kind of a body by its type and first bytes.

    It is html, json, xml, css, js, image, font, text, binary or empty.
    """
    if not body:
        return "empty"
    named = next((name for name, pattern in TYPES.items() if re.fullmatch(pattern, content_type)), "")
    if HTML.match(body) and named not in ("xml", "text"):
        return "html"
    if named or content_type not in ("", "application/octet-stream"):
        return named or "binary"
    magic = next((name for name, beginnings in MAGIC.items() if body.startswith(beginnings)), "")
    if magic:
        return magic
    sample = body[:1024]
    # The sample may end within a character.
    if b"\0" in sample or sample.decode(errors="replace").count("\ufffd") > 3:
        return "binary"
    return "json" if re.match(rb"\s*[\[{]", body) else "xml" if body.lstrip().startswith(b"<?xml") else "text"


def debug_page(body: bytes, status: int) -> str:
    """Return the framework that made a debug page, "traceback" for an exception's text, or ""."""
    for name, pattern in DEBUG.items():
        if re.search(pattern, body[:PARSED]):
            return name
    return "traceback" if status >= 400 and re.search(TRACEBACK, body) else ""


def decode(body: bytes, charset: str) -> str:
    """Return the text of a body, decoded by `charset`, by the one in its <meta>, or as UTF-8."""
    named = re.search(rb"<meta[^>]{0,200}charset=[\"']?([\w.:-]{1,40})", body[:2048], re.I)
    try:
        codec = codecs.lookup(charset or (named[1].decode() if named else "utf-8")).name
        # These codecs take quadratic time, and are for host names.
        return body.decode("utf-8" if codec in ("punycode", "idna") else codec, "replace")
    except (LookupError, ValueError):
        return body.decode(errors="replace")


class Crawl:
    """All requests of one run, with a common deadline."""

    def __init__(self, site: Site, seconds: float, first: str) -> None:
        self.site, self.identity = site, secrets.token_hex(6)
        self.deadline = time.monotonic() + seconds
        self.first, self.patience = first, min(PATIENCE, seconds / 4)
        self.complete = True

    def visitor(self, number: int) -> Visitor:
        """Return a new visitor."""
        return Visitor(self.site, number, self.identity)

    def ask(self, visitor: Visitor, path: str, method: str = "GET") -> tuple[Answer, list[Link]] | None:
        """Return the answer to a request and its links; None if the deadline of the crawl passed."""
        # An app whose first page is slow has answers to compare, too.
        own = time.monotonic() + (PATIENCE if path == self.first else self.patience)
        if time.monotonic() < self.deadline:
            answer, links = visitor.ask(path, min(own, self.deadline), method)
            if time.monotonic() < self.deadline or answer.end == "whole" or own <= self.deadline:
                return answer, links
        self.complete = False
        return None

    def front(self, visitor: Visitor, answer: Answer) -> list[Answer]:
        """Return the answers to GET (`answer`) and HEAD for the first page. Follow its redirects to detect a loop."""
        target, hops = answer.location, 0
        while target and target["origin"] == "same" and hops < HOPS and not ACTION.search(unquote(target["path"])):
            hops += 1
            asked = self.ask(visitor, target["path"])
            target = asked[0].location if asked else None
        answer.loop = hops == HOPS and bool(target)
        head = self.ask(visitor, answer.path, "HEAD")
        return [answer, head[0]] if head else [answer]

    def discover(self, seeds: list[str]) -> list[Answer]:
        """Return the answers to the pages that a visitor discovers, breadth first, from `seeds`.

        At most MOST addresses are requested. After the first ALIKE addresses of one shape, such as /item/1 and /item/2,
        other shapes have priority. If the first page is not HTML, the app may be an API whose description has links.
        """
        visitor = self.visitor(0)
        answers: list[Answer] = []
        pending: list[Find] = []
        seen: set[str] = set()
        shapes: Counter[str] = Counter()

        def add(path: str | None, level: int, via: str, source: str) -> None:
            if path is None or path in seen or (via != "seed" and (ACTION.search(unquote(path)) or TOOLS.search(path))):
                return
            seen.add(path)
            form = shape(path, via)
            shapes[form] += 1
            postponed = shapes[form] > ALIKE and via != "seed"
            heapq.heappush(pending, Find(postponed, level, len(seen), path, via, source))

        def visit(find: Find) -> bool:
            asked = self.ask(visitor, find.path)
            if not asked:
                return False
            answer, links = asked
            if find.via == "guess" and not links:
                return True
            answer.via, answer.source = find.via, find.source
            if answer.location and answer.location["origin"] == "same":
                add(answer.location["path"], find.level, "redirect", find.path)
            for link in links if find.level < DEPTH else []:
                add(
                    self.site.path(link.address, find.path),
                    find.level + 1,
                    "asset" if link.asset else "link",
                    find.path,
                )
            if not answers and answer.kind != "html":
                for path in DESCRIPTIONS:
                    add(path, find.level, "guess", "")
            answers.extend([answer] if answers else self.front(visitor, answer))
            return True

        for seed in seeds:
            add(self.site.path(seed), 0, "seed", "")
        asked = 0
        while pending and (asked < MOST or pending[0].via == "seed"):
            if not visit(heapq.heappop(pending)):
                return answers
            asked += 1
        suffixes = {suffix(answer.path) for answer in answers}
        for find in self._one_of_each(sorted(pending), suffixes):
            visit(find)
        if NO_SUCH_PAGE not in seen:
            visit(Find(False, DEPTH, 0, NO_SUCH_PAGE, "missing", ""))
        return answers

    @staticmethod
    def _one_of_each(pending: list[Find], suffixes: set[str]) -> list[Find]:
        """Return the first pending file of each suffix that no request had."""
        first: dict[str, Find] = {}
        for find in pending:
            if find.via == "asset" and suffix(find.path) not in suffixes:
                first.setdefault(suffix(find.path), find)
        return list(first.values())[:EXTRAS]

    def ask_all(self, paths: list[str], visitors: int) -> list[Answer]:
        """Return the answers to each path for each visitor. Visitors run concurrently, each from another first path."""

        def tour(number: int) -> list[Answer]:
            visitor, answers = self.visitor(number), []
            begin = number * len(paths) // visitors
            for path in [*paths[begin:], *paths[:begin]]:
                asked = self.ask(visitor, path)
                if asked:
                    first = path == paths[0] and visitors == 1
                    answers += self.front(visitor, asked[0]) if first else [asked[0]]
            return answers

        with ThreadPoolExecutor(visitors) as pool:
            answers = [answer for tour_answers in pool.map(tour, range(visitors)) for answer in tour_answers]
        order = {path: number for number, path in enumerate(paths)}
        return sorted(answers, key=lambda answer: (order[answer.path], answer.method, answer.visitor))


def suffix(path: str) -> str:
    """Return the suffix of a path's file in lower case."""
    return PurePosixPath(re.split(r"[?#]", path, maxsplit=1)[0]).suffix.lower()


def shape(path: str, via: str) -> str:
    """Return the common form of similar addresses: the suffix of a file, or a path with its numbers replaced by 0."""
    if via == "asset":
        return f"file {suffix(path)}"
    place, _, query = path.partition("#")[0].partition("?")
    names = re.sub(r"=[^&]*", "", query)
    return re.sub(r"\d+", "0", f"{place}?{names}")


@dataclass
class Task:
    """A crawl as the program's argument describes it."""

    url: str
    connect: list[Any] | None = None
    host: str = ""
    seeds: list[str] | None = None
    paths: list[str] | None = None
    visitors: int = 1
    seconds: float = 60


def main(task: Task) -> dict[str, Any]:
    """Run a crawl, and return its record in types of JSON."""
    begin = time.monotonic()
    site = Site(task.url, (task.connect[0], task.connect[1]) if task.connect else None, task.host or "")
    seeds, paths, visitors = task.seeds or [FRONT], task.paths, task.visitors
    crawl = Crawl(site, task.seconds, (paths or seeds)[0])
    answers: list[Answer] = []
    if paths is None:
        answers = crawl.discover(seeds)
        paths = [answer.path for answer in answers if answer.method == "GET"] if visitors > 1 else []
    known = dict.fromkeys(path for path in map(site.path, paths) if path is not None)
    if known:
        answers = crawl.ask_all(list(known), visitors)
    return {
        "version": VERSION, "url": task.url, "host": site.name, "visitors": visitors, "complete": crawl.complete,
        "seconds": round(time.monotonic() - begin, 3),
        # Omit default values. The reader has the same defaults.
        "answers": [{key: value for key, value in asdict(answer).items() if value} for answer in answers],
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps([main(Task(**crawl)) for crawl in json.loads(sys.argv[1])]))
