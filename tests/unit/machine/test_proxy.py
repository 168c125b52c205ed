"""The machine's nginx behind a proxy that the recipe trusts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine_nginx import NO_ANSWER, Answer, MachineNginx, certificate_files

from bake.bundle import release_files
from bake.config import proxies
from bake.config.recipe import Recipe

VISITOR = "198.51.100.9"
#: The address of the trusted proxy in these tests, and what it sends.
PROXY = "127.0.0.2"
FORWARDED = {"X-Forwarded-For": f"203.0.113.66, {VISITOR}", "X-Forwarded-Proto": "https"}


def settings(folder: Path, **keys: Any) -> dict[str, str]:
    """Return nginx's settings of a release."""
    values = {"wsgi": "app:app", "proxy": {"trust": [PROXY]}, "check": {"health": "/up"}, **keys}
    release = release_files.files(folder, Recipe.model_validate(values), [])
    names = [name for name in release if name.endswith(".conf") and "/units/" not in name]
    return {f"srv/app/current/{name}": release[name].text for name in names}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MachineNginx]:
    """A machine whose name has a trusted certificate, so that visitors without TLS are redirected."""
    folder = tmp_path_factory.mktemp("proxy")
    files = {
        **certificate_files("shop.example"),
        "srv/app/current/source/static/a.css": "body {}",
        "var/lib/letsencrypt/http/.well-known/acme-challenge/token": "proof",
        **settings(folder, static={"/static": "static"}),
    }
    with MachineNginx(folder / "root", ["shop.example"], files) as nginx:
        yield nginx


def ask(
    machine: MachineNginx, source: str, headers: dict[str, str], path: str = "/", host: str = "shop.example"
) -> Answer:
    """Request a page by HTTP from an address."""
    machine.source = source
    return machine.get(path, host, headers)


def test_a_trusted_proxy_tells_the_visitor_and_the_scheme(machine: MachineNginx) -> None:
    params = ask(machine, PROXY, FORWARDED).params
    assert {name: params[name] for name in ("REMOTE_ADDR", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_FOR")} == dict.fromkeys(
        ("REMOTE_ADDR", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_FOR"), VISITOR
    )
    assert (params["HTTP_X_FORWARDED_PROTO"], params["HTTPS"], params["SERVER_PORT"]) == ("https", "on", "443")
    assert params["HTTP_X_FORWARDED_PORT"] == "443" and params["HTTP_HOST"] == "shop.example"
    assert ask(machine, PROXY, FORWARDED, host="shop.example:8443").params["SERVER_PORT"] == "8443"


def test_other_visitors_cannot_forge_them(machine: MachineNginx) -> None:
    answer = ask(machine, "127.0.0.1", FORWARDED)
    assert (answer.status, answer.headers["location"]) == (301, "https://shop.example/")
    machine.source = "127.0.0.1"
    params = machine.get("/", "shop.example", {**FORWARDED, "X-Forwarded-Proto": "http"}, tls="shop.example").params
    assert (params["REMOTE_ADDR"], params["HTTP_X_FORWARDED_PROTO"], params["HTTPS"]) == ("127.0.0.1", "https", "on")
    assert VISITOR not in str(params)


@pytest.mark.parametrize("path", ["/", "/static/a.css", "/static/missing.css"])
def test_redirects_follow_the_visitor_s_scheme(machine: MachineNginx, path: str) -> None:
    assert ask(machine, PROXY, FORWARDED, path).status == 200
    for scheme in ("http", "http, https", "HTTPS", ""):
        answer = ask(machine, PROXY, {**FORWARDED, "X-Forwarded-Proto": scheme}, path)
        assert (answer.status, answer.headers["location"]) == (301, f"https://shop.example{path}")
    assert ask(machine, PROXY, {**FORWARDED, "X-Forwarded-Proto": "http"}, "/ahttp%20a%20/").status == 301


def test_a_proxy_that_connects_by_tls_tells_that_the_visitor_did_not(machine: MachineNginx) -> None:
    machine.source = PROXY
    answer = machine.get("/", "shop.example", {**FORWARDED, "X-Forwarded-Proto": "http"}, tls="shop.example")
    assert answer.status == 301


def test_challenges_are_not_redirected(machine: MachineNginx) -> None:
    for source in (PROXY, "127.0.0.1"):
        answer = ask(machine, source, {}, "/.well-known/acme-challenge/token")
        assert (answer.status, answer.body) == (200, b"proof")


def test_the_health_page_answers_any_name_to_a_trusted_proxy(machine: MachineNginx) -> None:
    for host in ("10.0.0.7", "other.example"):
        params = ask(machine, PROXY, {}, "/up", host).params
        assert (params["HTTP_HOST"], params["HTTP_X_FORWARDED_PROTO"]) == ("shop.example", "https")
        assert ask(machine, PROXY, {}, "/", host) == NO_ANSWER
        assert ask(machine, "127.0.0.1", FORWARDED, "/up", host) == NO_ANSWER


@pytest.mark.parametrize("path", ["/up%22%20%7B%7D%0Alocation%20=%20%22/x", "/up%5C", "/up%22", "/$host%0a{;'"])
def test_a_health_path_has_any_characters_but_no_settings(path: str, tmp_path: Path) -> None:
    files = settings(tmp_path, check={"health": path})
    with MachineNginx(tmp_path / "root", ["shop.example"], files) as machine:
        assert ask(machine, PROXY, {}, path, "10.0.0.7").status == 200
        for other in ("/up", "/x"):
            assert ask(machine, PROXY, {}, other, "10.0.0.7") == NO_ANSWER


@pytest.mark.parametrize("header", ["CF-Connecting-IP", "X-Forwarded-Ssl", "Forwarded", "X-Client-IP"])
def test_a_trusted_proxy_passes_on_no_other_claims(machine: MachineNginx, header: str) -> None:
    assert "forged" not in str(ask(machine, PROXY, {**FORWARDED, header: "forged"}).params)


def test_a_machine_without_names_redirects_no_one(tmp_path: Path) -> None:
    with MachineNginx(tmp_path / "root", files=settings(tmp_path)) as nginx:
        for scheme in ("http", "https"):
            headers = {**FORWARDED, "X-Forwarded-Proto": scheme}
            assert ask(nginx, PROXY, headers, "/http%20a%20b", "10.0.0.7").params["HTTP_X_FORWARDED_PROTO"] == scheme


def test_cloudflare_is_trusted_by_name(tmp_path: Path) -> None:
    files = settings(tmp_path, proxy={"trust": "cloudflare"})
    text = files["srv/app/current/settings/nginx/proxy.conf"]
    assert all(f"set_real_ip_from {network};\n" in text for network in proxies.CLOUDFLARE)
    with MachineNginx(tmp_path / "root", files=files) as nginx:
        assert nginx.get("/", "a", {"CF-Connecting-IP": "forged"}).params["HTTP_CF_CONNECTING_IP"] == "127.0.0.1"


def test_a_redirect_between_names_keeps_the_visitor_s_scheme(tmp_path: Path) -> None:
    names = ["shop.example", "www.shop.example"]
    files = settings(tmp_path, domains=names, redirect="www")
    with MachineNginx(tmp_path / "root", names, files) as machine:
        for scheme in ("https", "http"):
            answer = ask(machine, PROXY, {**FORWARDED, "X-Forwarded-Proto": scheme}, "/a")
            assert (answer.status, answer.headers["location"]) == (301, f"{scheme}://www.shop.example/a")
