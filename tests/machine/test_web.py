"""What a visitor gets."""

import json
from functools import cache
from pathlib import Path

import pytest

SCHEMES = ["http", "https"]
#: Compares static files with what nginx serves, on the machine.
STATIC_FILES = Path(__file__).with_name("static_files.py")


@pytest.fixture(scope="module")
def page(fetch):
    """Ask for a page of the app; by each scheme once, since a page may take its time."""
    return cache(fetch)


@pytest.fixture(scope="module")
def own(fetch):
    """An answer of nginx itself, whatever the app is: a challenge that it does not have."""
    return fetch("/.well-known/acme-challenge/none", "https")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_app_answers_at_its_health_path(page, recipe, scheme, trusted):
    named = recipe["check"]["health"]
    answer = page(named or "/", scheme)
    if scheme == "http" and trusted:
        assert answer.status == 301 and answer.headers["location"].startswith("https://")
    elif named:
        assert 200 <= answer.status < 400, answer
    else:
        assert 0 < answer.status < 500, answer


@pytest.mark.parametrize("header", ["x-content-type-options", "x-frame-options", "referrer-policy"])
def test_security_headers(page, own, recipe, header):
    assert header in page(recipe["check"]["health"] or "/", "https").headers
    assert own.status == 404 and header in own.headers


def test_nothing_tells_versions(page, own, recipe):
    assert page(recipe["check"]["health"] or "/", "https").headers["server"] == "nginx"
    assert own.headers["server"] == "nginx"


def test_hsts_only_with_a_trusted_certificate(own, trusted):
    # An app may send the header itself, and browsers ignore it from a certificate that they do not trust.
    assert ("strict-transport-security" in own.headers) == trusted


def test_static_files_come_from_nginx(host, name, recipe):
    folders = {prefix: f"/srv/app/current/source/{folder}" for prefix, folder in recipe["static"].items()}
    django = recipe.get("django")
    if isinstance(django, dict) and "static_url" in django:
        folders[django["static_url"]] = "/var/cache/app/static"
    argument = json.dumps({"name": name, "port": 443, "data": "/var/lib/app", "folders": folders})
    done = host.run("python3 -c %s %s", STATIC_FILES.read_text(), argument)
    assert done.rc == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_a_body_over_the_limit_is_refused(fetch, recipe):
    limit = recipe["limits"]["body"]
    answer = fetch("/", "https", options=f"--http1.1 -X POST -H 'Content-Length: {limit + 1}' -H 'Expect:'")
    assert answer.status == 413


def test_unknown_hosts_get_no_answer(fetch, recipe, name):
    if name == "localhost":
        pytest.skip("no domains are given: any name is answered")
    # 52 and 56: the server closed without an answer; 35: the TLS handshake was refused.
    assert fetch("/", "http", as_name="stranger.example").headers["curl"] in ("52", "56")
    assert fetch("/", "https", as_name="stranger.example").headers == {"curl": "35"}


def test_a_visitor_cannot_forge_where_they_come_from(host):
    params = host.file("/usr/lib/app/nginx/server.conf").content_string
    for header in ("FOR $remote_addr", "PROTO $scheme", "HOST $host", "PORT $server_port"):
        assert f"uwsgi_param HTTP_X_FORWARDED_{header};" in params


def test_nginx_accepts_its_configuration(host):
    assert host.run("nginx -t -q -c /usr/lib/app/nginx/nginx.conf -e stderr").rc == 0
