"""Check nginx's answers to visitors: health, headers, static files, limits and host names."""

import json
import re
from functools import cache
from pathlib import Path

import pytest

SCHEMES = ["http", "https"]
#: The program that compares static files with nginx's answers on the machine.
STATIC_FILES = Path(__file__).with_name("static_files.py")


@pytest.fixture(scope="module")
def page(fetch):
    """Return a function that requests a page of the app, once for each scheme, because a page may be slow."""
    return cache(fetch)


@pytest.fixture(scope="module")
def nginx_answer(fetch):
    """Return an answer of nginx itself, without the app: to a challenge that does not exist."""
    return fetch("/.well-known/acme-challenge/none", "https")


#: Runs the machine's settings in a separate nginx, at a free port of 127.0.0.1, for one HTTPS request, and prints the
#: CGI parameters that a WSGI app gets, or the headers of an ASGI app by their CGI names. The first argument is the
#: machine's name, the others are headers.
ASK_NGINX = r"""
import glob, json, pathlib, re, socket, ssl, struct, subprocess, sys, tempfile, time

def read(path):
    return re.sub(r"(?m)^\s*include ([^;]+);", included, pathlib.Path(path).read_text())

def included(line):
    return "".join(map(read, sorted(glob.glob(line[1]))))

name, *headers = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as app, socket.socket() as reserved:
    app.bind(f"{folder}/app.sock")
    app.listen()
    app.settimeout(20)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    text = read("/usr/lib/app/nginx/nginx.conf").replace("/run/app/uwsgi.sock", f"{folder}/app.sock")
    text = re.sub(r"listen 443\b", f"listen 127.0.0.1:{port}", re.sub(r"(?m)^listen (\[|80).*", "", text))
    text = re.sub("access_log .*;", "access_log off;", text.replace("/run/nginx.pid", f"{folder}/pid"))
    settings = pathlib.Path(folder, "nginx.conf")
    settings.write_text(text)
    words = ["nginx", "-c", settings, "-e", "stderr", "-g", "daemon off; master_process off;"]
    nginx = subprocess.Popen(words, stdout=sys.stderr)
    try:
        deadline = time.monotonic() + 20
        while not (settings.parent / "pid").exists() and nginx.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        plain = socket.create_connection(("127.0.0.1", port), 20)
        visitor = ssl._create_unverified_context().wrap_socket(plain, server_hostname=name)
        visitor.sendall("\r\n".join(["GET / HTTP/1.1", f"Host: {name}:8080", *headers, "", ""]).encode())
        client = app.accept()[0]
        packet, strings = client.recv(4, socket.MSG_WAITALL), []
        if packet == b"GET ":
            while not packet.endswith(b"\r\n\r\n"):
                packet += client.recv(1)
            for line in packet.decode().split("\r\n")[1:-2]:
                header, _, value = line.partition(": ")
                strings += ["HTTP_" + header.upper().replace("-", "_"), value]
            packet = b""
        else:
            packet = client.recv(struct.unpack("<xHx", packet)[0], socket.MSG_WAITALL)
        while packet:
            (length,) = struct.unpack("<H", packet[:2])
            strings.append(packet[2 : 2 + length].decode())
            packet = packet[2 + length :]
        print(json.dumps(dict(zip(strings[::2], strings[1::2]))))
    finally:
        nginx.kill()
"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_app_answers_at_its_health_path(page, recipe, scheme, trusted):
    health_path = recipe["check"]["health"]
    answer = page(health_path or "/", scheme)
    if scheme == "http" and trusted:
        assert answer.status == 301 and answer.headers["location"].startswith("https://")
    elif health_path:
        assert 200 <= answer.status < 400, answer
    else:
        assert 0 < answer.status < 500, answer


@pytest.mark.parametrize("header", ["x-content-type-options", "x-frame-options", "referrer-policy"])
def test_security_headers(page, nginx_answer, recipe, header):
    assert header in page(recipe["check"]["health"] or "/", "https").headers
    assert nginx_answer.status == 404 and header in nginx_answer.headers


def test_the_server_header_has_no_version(page, nginx_answer, recipe):
    assert page(recipe["check"]["health"] or "/", "https").headers["server"] == "nginx"
    assert nginx_answer.headers["server"] == "nginx"


def test_hsts_only_with_a_trusted_certificate(nginx_answer, trusted):
    # An app may send the header itself, and browsers ignore it without a trusted certificate.
    assert ("strict-transport-security" in nginx_answer.headers) == trusted


def test_static_files_come_from_nginx(host, name, recipe):
    folders = {prefix: f"/srv/app/current/source/{folder}" for prefix, folder in recipe["static"].items()}
    collected = host.run("cat /srv/app/current/settings/nginx/collected.conf").stdout
    folders |= dict.fromkeys(re.findall(r"location \^~ (\S+)/ ", collected), "/var/cache/app/static")
    argument = json.dumps(
        {"name": name, "port": 443, "data": ["/var/lib/app", "/var/cache/app/fresh"], "folders": folders}
    )
    result = host.run("python3 -c %s %s", STATIC_FILES.read_text(), argument)
    assert result.rc == 0, result.stderr
    assert json.loads(result.stdout) == []


def test_a_body_over_the_limit_is_refused(fetch, recipe):
    limit = recipe["limits"]["body"]
    answer = fetch("/", "https", options=f"--http1.1 -X POST -H 'Content-Length: {limit + 1}' -H 'Expect:'")
    assert answer.status == 413


def test_unknown_hosts_get_no_answer(fetch, recipe, name):
    if name == "localhost":
        pytest.skip("the machine has no domains, and answers to any name")
    # 52 and 56: the server closed without an answer; 35: the TLS handshake was refused.
    assert fetch("/", "http", as_name="stranger.example").headers["curl"] in ("52", "56")
    assert fetch("/", "https", as_name="stranger.example").headers == {"curl": "35"}


def test_a_visitor_cannot_forge_where_they_come_from(host, name):
    forged = ("X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Client-IP", "Remote-User")
    words = " ".join(f"'{header}: forged'" for header in forged)
    result = host.run(f"python3 -c %s %s {words}", ASK_NGINX, name)
    assert result.rc == 0, result.stderr
    params = json.loads(result.stdout)
    assert "forged" not in params.values()
    assert params["HTTP_X_REAL_IP"] == params["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert params.get("REMOTE_ADDR", "127.0.0.1") == "127.0.0.1"
    assert params["HTTP_HOST"] == params["HTTP_X_FORWARDED_HOST"] == f"{name}:8080"


def test_nginx_accepts_its_configuration(host):
    assert host.run("nginx -t -q -c /usr/lib/app/nginx/nginx.conf -e stderr").rc == 0
