"""What the checks of a machine share. All of them only read; they need sudo, and curl on the machine."""

import json
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Answer:
    """An HTTP response: status, headers (lower-case names, the last of each), body."""

    status: int
    headers: dict
    body: str


@pytest.fixture(scope="module")
def recipe(host):
    """The recipe of the release that the machine runs."""
    return json.loads(host.file("/srv/app/current/recipe.json").content_string)


@pytest.fixture(scope="module")
def name(host, recipe):
    """The first name the machine answers to."""
    listed = host.run("cat /etc/app/domains 2>/dev/null").stdout.split()
    return (listed or recipe["domains"] or ["localhost"])[0]


@pytest.fixture(scope="module")
def trusted(host):
    """Whether the machine has a certificate of its own, and so redirects HTTP."""
    return host.file("/etc/letsencrypt/live/app/fullchain.pem").exists


@pytest.fixture(scope="module")
def fetch(host, name):
    """Ask the machine's nginx, on its loopback address, by the right name."""

    def ask(path="/", scheme="http", as_name=name, options=""):
        port = {"http": 80, "https": 443}[scheme]
        done = host.run(
            f"curl -sk -i --max-time 60 {options} --connect-to '::127.0.0.1:{port}' %s", f"{scheme}://{as_name}{path}"
        )
        if done.rc:
            return Answer(0, {"curl": str(done.rc)}, done.stderr)
        head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
        lines = head.splitlines()
        headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
        return Answer(int(lines[0].split()[1]), headers, body)

    return ask


@pytest.fixture(scope="module")
def healthy(fetch, recipe):
    """Whether the app answers as it should, asked now."""

    def ask():
        named = recipe["check"]["health"]
        return 0 < fetch(named or "/", "https").status < (400 if named else 500)

    return ask
