"""What a visitor gets."""

import pytest

SCHEMES = ["http", "https"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_app_answers_at_its_health_path(fetch, recipe, scheme, trusted):
    named = recipe["check"]["health"]
    answer = fetch(named or "/", scheme)
    if scheme == "http" and trusted:
        assert answer.status == 301 and answer.headers["location"].startswith("https://")
    elif named:
        assert 200 <= answer.status < 400, answer
    else:
        assert 0 < answer.status < 500, answer


@pytest.mark.parametrize("header", ["x-content-type-options", "x-frame-options", "referrer-policy"])
def test_security_headers(fetch, header):
    assert header in fetch("/", "https").headers
    assert header in fetch("/no-such-page-here", "https").headers


def test_nothing_tells_versions(fetch):
    assert fetch("/", "https").headers["server"] == "nginx"


def test_hsts_only_with_a_trusted_certificate(fetch, trusted):
    assert ("strict-transport-security" in fetch("/", "https").headers) == trusted


def test_static_files_come_from_nginx(host, fetch, recipe):
    for prefix, folder in recipe["static"].items():
        listed = host.run("find /srv/app/current/source/%s -type f -printf '%%P\\n' -quit", folder).stdout.split()
        for path in listed:
            answer = fetch(f"{prefix}/{path}", "https")
            assert answer.status == 200
            # The app's own server sends no Expires of an hour.
            assert answer.headers["cache-control"] == "max-age=3600"


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
