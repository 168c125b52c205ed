"""The machine's nginx, running: which parts of a visitor's request reach the app."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from wsgiref.util import application_uri

import flask
import pytest
from conftest import soon
from machine_nginx import NO_ANSWER, MachineNginx, Params, certificate_files
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Request

from bake.bundle import release_nginx
from bake.config.recipe import Recipe
from bake.host import paths

#: Stands in each header that a visitor forges.
FORGED = "203.0.113.66"


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MachineNginx]:
    """A machine with names, a wildcard first."""
    with MachineNginx(tmp_path_factory.mktemp("named"), ["*.wild.example", "shop.example"]) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MachineNginx]:
    """A machine without names, as `bake run` starts it."""
    with MachineNginx(tmp_path_factory.mktemp("nameless")) as nginx:
        yield nginx


def site(params: Params) -> dict[str, str]:
    """Return all parameters that tell the site's name and port."""
    return {name: value for name, value in params.items() if "HOST" in name or name.startswith("SERVER_")} | {
        "HTTP_X_FORWARDED_PORT": params["HTTP_X_FORWARDED_PORT"]
    }


def expected(host: str, port: int | str, protocol: str = "HTTP/1.1") -> dict[str, str]:
    """Return what these parameters should be for a host as a URL has it, and a port."""
    name = urlsplit(f"//{host}").hostname or ""
    return {
        "HTTP_HOST": host, "HTTP_X_FORWARDED_HOST": host, "HTTP_X_FORWARDED_PORT": str(port),
        "SERVER_NAME": f"[{name}]" if ":" in name else name, "SERVER_PORT": str(port), "SERVER_PROTOCOL": protocol,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/proxy/https://site.example//a/b.png", "/proxy/https://site.example//a/b.png"),
        ("//a//b/", "//a//b/"),
        ("/a%2Fb", "/a/b"),
        ("/a/./b/../c", "/a/c"),
        ("/static//x.css", "/static//x.css"),
    ],
)
def test_the_app_sees_the_path_that_was_asked_for(nameless: MachineNginx, target: str, seen: str) -> None:
    params = nameless.get(target, "127.0.0.1").params
    assert (params["PATH_INFO"], params["REQUEST_URI"]) == (seen, target)


def test_static_files_have_the_types_that_browsers_need(tmp_path: Path) -> None:
    names = (
        "a.css", "a.js", "a.mjs", "a.webmanifest", "a.wasm", "a.avif", "a.ttf", "a.unknown", "a.vtt", "a.wav", "a.opus",
        "a.webp", "a.csv",
    )  # fmt: skip
    served = "srv/app/current/source/static"
    location = release_nginx.static(Recipe(static={"/static": "static"}))
    files = {"srv/app/current/settings/nginx/static.conf": location, **{f"{served}/{name}": "x" for name in names}}
    with MachineNginx(tmp_path / "root", files=files) as nginx:
        types = {name: nginx.get(f"/static/{name}", "x").headers["content-type"].partition(";")[0] for name in names}
    assert types == {
        "a.css": "text/css", "a.js": "application/javascript", "a.mjs": "text/javascript",
        "a.webmanifest": "application/manifest+json", "a.wasm": "application/wasm", "a.avif": "image/avif",
        "a.ttf": "font/ttf", "a.unknown": "application/octet-stream", "a.vtt": "text/vtt", "a.wav": "audio/wav",
        "a.opus": "audio/ogg", "a.webp": "image/webp", "a.csv": "text/csv",
    }  # fmt: skip


def test_the_address_of_a_static_folder_keeps_the_visitor_s_scheme(tmp_path: Path) -> None:
    """Behind a proxy, nginx itself is visited by HTTP."""
    location = release_nginx.static(Recipe(static={"/static": "static"}))
    files = {"srv/app/current/settings/nginx/static.conf": location, "srv/app/current/source/static/a/b.css": "x"}
    with MachineNginx(tmp_path / "root", files=files) as nginx:
        answer = nginx.get("/static/a", "x")
    assert (answer.status, answer.headers["location"]) == (301, "/static/a/")


# Names.

ACCEPTED = {
    "shop.example": "shop.example",
    "SHOP.example": "shop.example",
    "shop.example.": "shop.example",
    "shop.example:8080": "shop.example:8080",
    "Shop.Example.:8080": "shop.example:8080",
    "a.wild.example:8080": "a.wild.example:8080",
    "a_b-c.wild.example": "a_b-c.wild.example",
    # A port that is none is left out.
    "shop.example:": "shop.example",
    "shop.example:http": "shop.example",
    "shop.example:80a": "shop.example",
    "shop.example:-1": "shop.example",
    # Any number is a port; nobody but this visitor gets to see it.
    "shop.example:99999": "shop.example:99999",
    "shop.example:evil.example:81": "shop.example:81",
}


@pytest.mark.parametrize("tls", [None, "shop.example"])
@pytest.mark.parametrize(("host", "seen"), ACCEPTED.items())
def test_the_app_gets_the_name_that_nginx_accepted_and_the_visitor_s_port(
    named: MachineNginx, host: str, seen: str, tls: str | None
) -> None:
    usual = named.http if tls is None else named.https
    assert site(named.get("/", host, tls=tls).params) == expected(seen, seen.partition(":")[2] or usual)


#: Hosts that this machine does not have.
REFUSED = [
    "evil.example", "evil.example:443", "shop.example.evil.example", "evilshop.example", "www.shop.example",
    ".shop.example", "wild.example", "a.b.wild.example", "evil:80@shop.example", "shop.example@evil.example",
    "127.0.0.1", "[::1]:8080", "localhost", "_", "*", "*.wild.example", "shop%2eexample", "shop.example,evil.example",
    # A wildcard is for a name: links to each of these would lead elsewhere.
    "2130706433#.wild.example", "2130706433?.wild.example", "2130706433\\.wild.example", "evil@a.wild.example",
    "<b>.wild.example", '".wild.example', "\xe9.wild.example",
]  # fmt: skip
#: nginx calls these faulty by itself.
FAULTY = ["", "::1", "shop example", "shop.example/", "shop..example", "..", "a/b", "shop.example\x7f"]


@pytest.mark.parametrize("host", [*REFUSED, *FAULTY])
def test_a_name_that_nginx_does_not_accept_never_reaches_the_app(named: MachineNginx, host: str) -> None:
    before = len(named.app.requests)
    for tls in (None, "shop.example"):
        assert named.get("/", host, tls=tls).status == (400 if host in FAULTY else 0)
    assert len(named.app.requests) == before


@pytest.mark.parametrize("name", ["evil.example", "www.shop.example", "a.b.wild.example", ""])
def test_a_tls_handshake_for_an_unknown_name_is_refused(named: MachineNginx, name: str) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        named.connect(name)


@pytest.mark.parametrize(
    ("target", "host", "seen"),
    [
        ("http://shop.example/", "evil.example", "shop.example"),
        ("http://shop.example:8080/", "evil.example", "shop.example"),
        ("http://shop.example/", "evil.example.shop.example", "shop.example"),
        ("http://shop.example/", "shop.example:8080", "shop.example:8080"),
        ("http://SHOP.example./", "evil.example", "shop.example"),
        ("http://a.wild.example/", "shop.example", "a.wild.example"),
    ],
)
def test_the_name_of_an_absolute_request_target_counts(named: MachineNginx, target: str, host: str, seen: str) -> None:
    answer = named.send(f"GET {target} HTTP/1.1\nHost: {host}\nConnection: close")
    assert site(answer.params) == expected(seen, urlsplit(f"//{seen}").port or named.http)
    assert "evil" not in str(answer.params)


def test_an_absolute_request_target_of_an_unknown_name_gets_no_answer(named: MachineNginx) -> None:
    assert named.send("GET http://evil.example/ HTTP/1.1\nHost: shop.example\nConnection: close") == NO_ANSWER


@pytest.mark.parametrize(
    "hosts", ["", "Host: shop.example\nHost: evil.example\n", "Host: shop.example\nHost: shop.example\n"]
)
def test_http_1_1_has_one_host(named: MachineNginx, nameless: MachineNginx, hosts: str) -> None:
    for nginx in (named, nameless):
        assert nginx.send(f"GET / HTTP/1.1\n{hosts}Connection: close").status == 400


def test_a_visitor_who_names_no_host_gets_no_answer_from_a_machine_with_names(named: MachineNginx) -> None:
    assert named.send("GET / HTTP/1.0") == NO_ANSWER


def test_a_visitor_who_names_no_host_asks_localhost_elsewhere(nameless: MachineNginx) -> None:
    answer = nameless.send("GET / HTTP/1.0")
    assert site(answer.params) == expected("localhost", nameless.http, "HTTP/1.0")


@pytest.mark.parametrize("header", [":authority", "host"])
def test_http_2_names_the_host_either_way(named: MachineNginx, header: str) -> None:
    request = {":method": "GET", ":scheme": "https", ":path": "/"}
    for host, port in (("shop.example", named.https), ("shop.example:8443", 8443)):
        answer = named.get_http2("shop.example", {**request, header: host})
        assert site(answer.params) == expected(host, port, "HTTP/2.0")
    assert named.get_http2("shop.example", {**request, header: "evil.example"}).status == 0
    assert (
        named.get_http2("shop.example", {**request, ":authority": "shop.example", "host": "evil.example"}).status == 400
    )


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080", "[2001:db8::8080]", "localhost:8080", "any.example:81"],
)
def test_a_machine_without_names_answers_to_any(nameless: MachineNginx, host: str) -> None:
    for tls, usual in ((None, nameless.http), ("", nameless.https)):
        answer = nameless.get("/", host, tls=tls)
        assert site(answer.params) == expected(host, urlsplit(f"//{host}").port or usual)


#: As Debian's file was before November 2026, as it is since, and as it may be one day.
PACKAGED = [
    "",
    "uwsgi_param HTTP_HOST $host;\n",
    "uwsgi_param HTTP_HOST $http_host;\nuwsgi_param HTTP_X_REAL_IP $http_x;\n",
]


@pytest.mark.parametrize("packaged", PACKAGED)
def test_the_app_s_parameters_do_not_depend_on_nginx_s_package(tmp_path: Path, packaged: str) -> None:
    with MachineNginx(tmp_path / "root", ["shop.example"], {"etc/nginx/uwsgi_params": packaged}) as nginx:
        absolute = nginx.send("GET http://shop.example/ HTTP/1.1\nHost: evil.example\nConnection: close")
        assert absolute.params["HTTP_HOST"] == "shop.example"
        assert nginx.get("/", "shop.example:8080").params["HTTP_HOST"] == "shop.example:8080"


# Headers.

#: Headers that the machine sets, and their values where a visitor comes by HTTP to port 8080.
SET = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "shop.example:8080",
    "X-Forwarded-Port": "8080",
    "X-Forwarded-Proto": "http",
    "X-Real-IP": "127.0.0.1",
}
#: Headers that the app does not get, with a program that believes them.
EMPTIED = {
    "CF-Connecting-IP": "python-ipware",
    "Client-IP": "django-ipware, before X-Real-IP",
    "Forwarded": "Falcon, aiohttp, Pyramid's waitress; RFC 7239",
    "Proxy": "HTTP clients of CGI programs (httpoxy)",
    "Remote-User": "NetBox and paperless-ngx, as HTTP_REMOTE_USER; Authelia sends it",
    "Script-Name": "gunicorn's SCRIPT_NAME, spelled as a header",
    "True-Client-IP": "python-ipware; apps behind Cloudflare or Akamai",
    "X-Client-IP": "mod_wsgi, apps behind Azure",
    "X-Forwarded-Email": "apps behind oauth2-proxy",
    "X-Forwarded-Prefix": "Werkzeug's ProxyFix",
    "X-Forwarded-Scheme": "PasteDeploy's PrefixMiddleware",
    "X-Forwarded-Server": "PasteDeploy's PrefixMiddleware, as the site's name",
    "X-Forwarded-Ssl": "uWSGI and gunicorn",
    "X-Forwarded-User": "apps behind oauth2-proxy; pgAdmin's suggestion",
    "X-Original-URL": "apps that were behind IIS",
    "X-Remote-User": "Radicale",
    "X-Scheme": "Tornado, before X-Forwarded-Proto; Flask's snippet for proxies",
    "X-Script-Name": "Radicale, Tandoor; Flask's snippet for proxies",
}


def parameter(header: str) -> str:
    """Return the name of the parameter for a header."""
    return f"HTTP_{header.upper().replace('-', '_')}"


@pytest.mark.parametrize("header", [*SET, *EMPTIED])
def test_a_visitor_cannot_forge_a_header(named: MachineNginx, header: str) -> None:
    for spelled in (header, header.upper(), header.lower(), header.replace("-", "_"), f"{header}: {FORGED}\n{header}"):
        params = named.get("/", "shop.example:8080", {spelled: FORGED}).params
        assert params.get(parameter(header)) == SET.get(header)
        assert FORGED not in str(params)
    pseudo = {":method": "GET", ":scheme": "https", ":path": "/", ":authority": "shop.example"}
    assert FORGED not in str(named.get_http2("shop.example", {**pseudo, header.lower(): FORGED}).params)


def test_the_app_gets_these_parameters_and_no_others(named: MachineNginx) -> None:
    plain = named.get("/", "shop.example").params
    assert set(plain) == {parameter(header) for header in (*SET, "Host", "Connection")} | {
        "QUERY_STRING", "REQUEST_METHOD", "REQUEST_URI", "PATH_INFO", "CONTENT_TYPE", "CONTENT_LENGTH", "REMOTE_ADDR",
        "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "HTTPS",
    }  # fmt: skip
    assert set(named.get("/", "shop.example", tls="shop.example").params) == set(plain)


#: Headers that are the visitor's to send.
OWN = {
    "Accept-Language": "de", "Authorization": "Bearer t", "Cookie": "a=b", "HX-Request": "true", "If-None-Match": '"e"',
    "Origin": "http://shop.example:8080", "Referer": "http://shop.example:8080/form", "User-Agent": "test",
    "X-API-Key": "k", "X-Auth-Token": "t", "X-CSRFToken": "c", "X-Client-Version": "1", "X-HTTP-Method-Override": "PUT",
    "X-Hub-Signature-256": "sha256=0", "X-Request-ID": "r", "X-Requested-With": "XMLHttpRequest",
}  # fmt: skip


def test_a_visitor_s_own_headers_reach_the_app(named: MachineNginx) -> None:
    params = named.get("/", "shop.example", OWN).params
    assert {header: params.get(parameter(header)) for header in OWN} == OWN


def test_the_app_is_told_of_the_request(named: MachineNginx) -> None:
    head = (
        "POST /a%20b%2Fc/../%C3%A9?q=1&r=%20 HTTP/1.1\nHost: shop.example\nConnection: close\nContent-Type: text/plain"
    )
    told = {
        "REQUEST_METHOD": "POST", "REQUEST_URI": "/a%20b%2Fc/../%C3%A9?q=1&r=%20", "PATH_INFO": "/a b/\xc3\xa9",
        "QUERY_STRING": "q=1&r=%20", "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "5", "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }  # fmt: skip
    chunks = b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    for framing, body in (("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", chunks)):
        answer = named.send(f"{head}\n{framing}", body=body)
        assert {name: answer.params[name] for name in told} == told
        assert answer.body.endswith(b'"body": "hello"}')
        assert 0 < int(answer.params["REMOTE_PORT"]) < 65536


def test_a_framework_reads_a_body_of_chunks(named: MachineNginx) -> None:
    """nginx has joined the chunks. Werkzeug reads nothing from a request that still has the header about them."""
    head = "POST / HTTP/1.1\nHost: shop.example\nConnection: close\nTransfer-Encoding: chunked"
    params = named.send(head, body=b"5\r\nhello\r\n0\r\n\r\n").params
    assert Request({**environ(params), "wsgi.input": io.BytesIO(b"hello")}).get_data() == b"hello"


@pytest.mark.parametrize(("tls", "scheme", "https"), [(None, "http", ""), ("shop.example", "https", "on")])
def test_the_app_is_told_the_scheme(named: MachineNginx, tls: str | None, scheme: str, https: str) -> None:
    params = named.get("/", "shop.example", {"X-Forwarded-Proto": "forged", "X-Forwarded-Ssl": "on"}, tls).params
    assert (params["HTTP_X_FORWARDED_PROTO"], params["HTTPS"]) == (scheme, https)


# Frameworks.


def environ(params: Params) -> dict[str, object]:
    """Return the WSGI environment as uWSGI makes it: the scheme is X-Forwarded-Proto's."""
    return {**params, "SCRIPT_NAME": "", "wsgi.url_scheme": params["HTTP_X_FORWARDED_PROTO"]}


def as_behind_a_proxy(given: dict[str, object]) -> dict[str, object]:
    """Return the environment after Werkzeug's ProxyFix, told to trust each header of one proxy."""
    changed: dict[str, object] = {}

    def app(environ: dict[str, object], start: object) -> list[bytes]:
        changed.update(environ)
        return []

    ProxyFix(app, 1, 1, 1, 1, 1)(dict(given), lambda *words: lambda body: None)
    return changed


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "[::1]:8080", "localhost:8080"])
def test_a_form_posts_to_the_address_that_bake_run_prints(nameless: MachineNginx, address: str) -> None:
    given = environ(nameless.get("/", address, {"Origin": f"http://{address}"}).params)
    for seen in (given, as_behind_a_proxy(given)):
        request = Request(seen)
        assert request.host_url == application_uri(seen) == f"http://{address}/"
        # Django's CsrfViewMiddleware compares the Origin header with this; its get_host() is HTTP_HOST.
        assert request.origin == f"{request.scheme}://{seen['HTTP_HOST']}"
        assert seen["SERVER_PORT"] == "8080"
        with flask.Flask(__name__).request_context(seen):
            assert flask.url_for("static", filename="a", _external=True) == f"http://{address}/static/a"


def test_links_of_a_site_at_its_usual_port_name_no_port(named: MachineNginx) -> None:
    params = named.get("/", "shop.example", tls="shop.example").params
    # As on a machine, where nginx listens at 443.
    usual = {name: "443" if value == str(named.https) else value for name, value in params.items()}
    for seen in (environ(usual), as_behind_a_proxy(environ(usual))):
        assert Request(seen).host_url == "https://shop.example/"


# Redirects, and the page for an app that is away.


def test_names_with_a_certificate_are_led_to_https_and_told_to_stay(tmp_path: Path) -> None:
    files = certificate_files("shop.example")
    with MachineNginx(tmp_path / "root", ["shop.example", "new.example"], files) as nginx:
        for request in (
            "GET /a?b=c HTTP/1.1\nHost: SHOP.example:80",
            "GET http://shop.example/a?b=c HTTP/1.1\nHost: evil",
        ):
            answer = nginx.send(f"{request}\nConnection: close")
            assert (answer.status, answer.headers["location"]) == (301, "https://shop.example/a?b=c")
        assert nginx.get("/", "shop.example", tls="shop.example").headers["strict-transport-security"] == "max-age=3600"
        for tls in (None, "new.example"):
            answer = nginx.get("/", "new.example", tls=tls)
            assert answer.status == 200 and "strict-transport-security" not in answer.headers
        nginx.app.answer = lambda params, body: b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=5\r\n\r\n"
        assert nginx.get("/", "shop.example", tls="shop.example").headers["strict-transport-security"] == "max-age=5"


def test_while_the_app_does_not_answer_visitors_are_told_how_far_the_machine_is(tmp_path: Path) -> None:
    with MachineNginx(tmp_path / "root", files={"run/app/state": "is being set up: step 2 of 6"}) as nginx:
        nginx.app.close()
        answer = nginx.get("/", "any.example")
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        assert b"This site is being set up: step 2 of 6. " in answer.body


@pytest.mark.parametrize("tickets", [True, False])
def test_a_site_with_certificates_gives_out_no_tickets(tmp_path: Path, tickets: bool) -> None:
    settings = paths.features() / "certificate/nginx/tickets.conf"
    files = {} if tickets else {"srv/app/current/settings/nginx/tickets.conf": settings.read_text()}
    with MachineNginx(tmp_path / "root", ["shop.example"], files) as nginx:
        context = ssl._create_unverified_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        def visit(session: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession | None, bool | None]:
            plain = socket.create_connection(("127.0.0.1", nginx.https), 10)
            with context.wrap_socket(plain, server_hostname="shop.example", session=session) as client:
                return client.session, client.session_reused

        session, _ = visit()
        assert session and session.has_ticket == tickets
        # Visitors resume their session, by nginx's cache.
        assert visit(session)[1]


def test_headers_that_nginx_accepts_fit_into_uwsgi_s_buffer(named: MachineNginx) -> None:
    (size,) = re.findall(r"buffer-size = (\d+)", (paths.rootfs() / "usr/lib/app/uwsgi.ini").read_text())
    # nginx has four buffers of 14 KiB.
    headers = {f"X-{number}": "a" * (14 * 1024 - 80) for number in range(4)}
    params = named.get("/", "shop.example", headers).params
    assert 14 * 4 * 1000 < sum(len(name) + len(value) + 4 for name, value in params.items()) < int(size)
    headers["X-4"] = "a" * (14 * 1024 - 80)
    # Too many large headers, and one that is too large, by HTTP and HTTPS.
    for too_large in (headers, {"X-0": "a" * 14 * 1024}):
        for tls in (None, "shop.example"):
            answer = named.get("/", "shop.example", too_large, tls)
            assert (answer.status, answer.headers["connection"]) == (431, "close")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_links_of_the_app_show_no_file_of_others(tmp_path: Path) -> None:
    location = release_nginx.collected_static(Recipe()).replace("STATIC_URL", "/static")
    served, private = "var/cache/app/static", "run/cloud-init/data.txt"
    files = {"srv/app/current/settings/nginx/collected.conf": location, f"{served}/own.txt": "own", private: "private"}
    with MachineNginx(tmp_path / "root", files=files) as nginx:
        (nginx.root / served / "link.txt").symlink_to("own.txt")
        (nginx.root / served / "stolen.txt").symlink_to(nginx.root / private)
        for path in (nginx.root / served).iterdir():
            os.chown(path, 800, 800, follow_symlinks=False)
        (nginx.root / private).chmod(0o644)
        nginx.app.answer = lambda params, body: b"HTTP/1.1 200 OK\r\n\r\nthe app"
        bodies = {name: nginx.get(f"/static/{name}.txt", "x").body for name in ("own", "link", "stolen")}
        assert bodies == {"own": b"own", "link": b"own", "stolen": b"the app"}
        # The app owns the folder above, too.
        (nginx.root / served).rename(nginx.root / "var/cache/app/moved")
        (nginx.root / served).symlink_to(nginx.root / "run/cloud-init")
        os.chown(nginx.root / served, 800, 800, follow_symlinks=False)
        assert nginx.get("/static/data.txt", "x").body == b"the app"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize(("static", "fresh"), [("static", "static"), ("static", "static/made"), ("web/static", "web")])
def test_links_in_a_static_folder_that_the_app_writes_show_no_file_of_others(
    tmp_path: Path, static: str, fresh: str
) -> None:
    """Such a folder is a link to the app's own copy, below /var/cache/app/fresh (steps.keep)."""
    location = release_nginx.static(Recipe(static={"/static": static}))
    made = "made" if fresh == "static/made" else "."
    served, private = f"var/cache/app/fresh/x/{static}/{made}", "run/cloud-init/data.txt"
    files = {"srv/app/current/settings/nginx/static.conf": location, f"{served}/own.txt": "own", private: "private"}
    with MachineNginx(tmp_path / "root", files=files) as nginx:
        link, own = nginx.root / "srv/app/current/source" / fresh, nginx.root / "var/cache/app/fresh/x" / fresh
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(own)
        (nginx.root / served / "link.txt").symlink_to("own.txt")
        (nginx.root / served / "stolen.txt").symlink_to(nginx.root / private)
        (nginx.root / served / "folder").symlink_to(nginx.root / "run/cloud-init")
        for path in (link, own, *own.rglob("*")):
            os.chown(path, 800, 800, follow_symlinks=False)
        (nginx.root / private).chmod(0o644)
        nginx.app.answer = lambda params, body: b"HTTP/1.1 200 OK\r\n\r\nthe app"
        names = ("own.txt", "link.txt", "stolen.txt", "folder/data.txt")
        bodies = [nginx.get(f"/static/{made}/{name}", "x").body for name in names]
    assert bodies == [b"own", b"own", b"the app", b"the app"]


# Limits of an address, and compression.


@pytest.mark.parametrize(
    ("site", "compressed"),
    [("", True), ("none", True), ("same-origin", True), ("same-site", False), ("cross-site", False)],
)
def test_a_request_from_another_site_gets_no_compressed_page(
    nameless: MachineNginx, site: str, compressed: bool
) -> None:
    headers = {"Accept-Encoding": "gzip", "Cookie": "session=secret", "X-Padding": "a" * 1000}
    answer = nameless.get("/", "x", {**headers, **({"Sec-Fetch-Site": site} if site else {})})
    assert (answer.headers.get("content-encoding") == "gzip") == compressed
    if not compressed:
        assert answer.params["HTTP_COOKIE"] == "session=secret"


def test_an_address_has_256_requests_at_a_time(tmp_path: Path) -> None:
    with MachineNginx(tmp_path / "root") as nginx, contextlib.ExitStack() as stack:
        upload = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
        clients = [stack.enter_context(nginx.connect()) for _ in range(256)]
        for client in clients:
            client.sendall(upload)
        assert soon(lambda: nginx.get("/", "a").status == 503)
        clients[0].sendall(b"0123456789")
        assert soon(lambda: nginx.get("/", "a").status == 200)


@pytest.mark.parametrize(("limit", "is_answered"), [("", True), ("uwsgi_max_temp_file_size 1m;", False)])
def test_a_visitor_who_reads_nothing_holds_no_thread_of_the_app(tmp_path: Path, limit: str, is_answered: bool) -> None:
    """The answer waits in nginx's file. With a smaller limit, it would wait in the app, which has one thread here."""
    files = {"srv/app/current/settings/nginx/spool.conf": limit}
    with MachineNginx(tmp_path / "root", files=files) as nginx:
        nginx.app.answer = lambda params, body: (
            b"HTTP/1.1 200 OK\r\n\r\n" + bytes(50_000_000 if params["PATH_INFO"] == "/large" else 1)
        )
        with nginx.connect() as slow, nginx.connect() as other:
            slow.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            assert soon(lambda: nginx.app.requests)
            other.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert bool(select.select([other], [], [], 8)[0]) is is_answered


def test_an_http_2_connection_has_32_requests_at_a_time(nameless: MachineNginx) -> None:
    settings = nameless.http2_settings()
    # SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, section 6.5.2).
    assert settings[3] == 32
