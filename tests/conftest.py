"""Provide the checks of a machine with fixtures: a root shell on it, its recipe and names, HTTP requests, a crawler.

They need a user with sudo, and curl on the machine.
"""

import base64
import json
import re
import shlex
import subprocess
from dataclasses import dataclass, replace
from urllib.parse import quote

import pytest
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from bake.config import contract
from bake.host import remote_scripts
from bake.host.programs import MOST_OUTPUT
from bake.verify import pages

#: Runs on the machine. It reads a command a line as JSON, and answers with its exit status, stdout and stderr (base64).
#: A command may take 300 s.
SERVER = """
import base64, json, subprocess, sys
for line in sys.stdin:
    result = subprocess.run(json.loads(line), shell=True, stdin=-3, capture_output=True, timeout=300)
    outputs = [base64.b64encode(text).decode() for text in (result.stdout, result.stderr)]
    print(json.dumps([result.returncode, *outputs]), flush=True)
"""


class RootShell(SshBackend):  # type: ignore[misc]  # testinfra carries no types
    """Run the commands of all checks in one root process over one ssh connection.

    On a small or emulated machine, an ssh and a sudo for each command would take longer than most checks.
    """

    NAME = "root-shell"

    def __init__(self, plain):
        """Use the host and the options of `plain`, testinfra's ssh backend."""
        alive = "-o ServerAliveInterval=15 -o ServerAliveCountMax=4"
        super().__init__(
            plain.hostname, plain.ssh_config, plain.ssh_identity_file, controlpersist=0, ssh_extra_args=alive
        )
        self.host = plain.host
        self._server: subprocess.Popen[bytes] | None = None

    def run(self, command, *args, **kwargs):
        """Run a command as root. Raises RuntimeError if the connection breaks."""
        words = self.quote(command, *args)
        try:
            server = self._server = self._server or self._start()
            assert server.stdin and server.stdout
            server.stdin.write(json.dumps(words).encode() + b"\n")
            server.stdin.flush()
            rc, out, err = json.loads(server.stdout.readline(MOST_OUTPUT))
        except (OSError, ValueError) as error:
            self.close()
            raise RuntimeError(f"the machine went away during `{words}`: {error}") from error
        return self.result(rc, words, base64.b64decode(out), base64.b64decode(err))

    def decode(self, data):
        """Return an output as text. An app may print bytes into it that are not UTF-8."""
        return data.decode(errors="backslashreplace")

    def _start(self):
        elevate = [] if self.host.user == "root" else ["sudo", "-n"]
        command, arguments = self._build_ssh_command(shlex.join([*elevate, "python3", "-c", SERVER]))
        # The last element is the host and the command.
        argv = shlex.split(self.quote(" ".join([*command[:-1], "--", command[-1]]), *arguments))
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self):
        """End the process. The next command starts a new one."""
        if self._server:
            self._server.kill()
            self._server.communicate()
        self._server = None


@pytest.fixture(scope="session")
def shells():
    """Yield the shells by host, so that the modules of a run share one."""
    open_shells: dict[str, RootShell] = {}
    yield open_shells
    for shell in open_shells.values():
        shell.close()


@pytest.fixture(scope="module")
def host(_testinfra_host, shells):
    """Return testinfra's host, which runs every command in one root shell."""
    plain = _testinfra_host.backend
    if plain.hostname not in shells:
        shells[plain.hostname] = RootShell(plain)
        # SSH answers before the boot is complete, but the checks need a complete boot.
        shells[plain.hostname].run("systemctl is-system-running --wait")
    return Host(shells[plain.hostname])


@dataclass(frozen=True)
class Answer:
    """An HTTP response: status, headers (lower-case names, the last of each), and the body if it was requested.

    If there was no response, the status is 0, and the header `curl` has curl's exit status.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""


def parse(output):
    """Parse curl's output, which has interim responses (1xx), the head of the final response, and its body."""
    status, rest = 100, output
    while 100 <= status < 200:
        head, rest = [*re.split(rb"\r?\n\r?\n", rest, maxsplit=1), b""][:2]
        # Header values are bytes; Latin-1 decodes any.
        first, *lines = re.split(r"\r?\n", head.decode("latin-1"))
        status = int(first.split()[1])
    pairs = (line.partition(":") for line in lines)
    return Answer(status, {key.strip().lower(): value.strip() for key, _, value in pairs}, rest)


def ask(host, url, port, options="", *, body=False):
    """Request a URL of the server at a loopback port. Discard the body, or keep at most 1 MiB of it with `body`."""
    output_options = "-i --max-filesize 1M" if body else "-D - -o /dev/null"
    # Without globoff, curl reads [1-3] as three URLs. nginx waits 65 s for the app.
    words = f"curl -sk {output_options} --globoff --path-as-is --max-time 75 {options}"
    result = host.run(f"{words} --connect-to '::127.0.0.1:{port}' %s", quote(url, bytes(range(33, 127))))
    # Accept a response without an end, for example a video. curl stops after --max-time.
    if not result.stdout_bytes.startswith(b"HTTP/"):
        return Answer(0, {"curl": str(result.rc)}, result.stderr_bytes)
    answer = parse(result.stdout_bytes)
    return answer if body else replace(answer, body=b"")


@pytest.fixture(scope="module")
def recipe(host):
    """Return the recipe of the current release, with default values for missing keys."""
    content = json.loads(host.file(f"{contract.CURRENT}/{contract.RECIPE}").content_string)
    defaults: dict[str, object] = {
        "domains": [],
        "static": {},
        "writable": [],
        "setup": [],
        "timers": {},
        "processes": {},
    }
    check = {"health": None, **content.get("check", {})}
    return {**defaults, **content, "check": check, "limits": {"body": contract.BODY, **content.get("limits", {})}}


@pytest.fixture(scope="module")
def name(host):
    """Return the first name that the machine answers to; for a wildcard, a name that it matches."""
    return (host.run(f"cat {contract.NAMES}").stdout.split() or ["localhost"])[0].replace("*", "www")


@pytest.fixture(scope="module")
def trusted(host, name, covers):
    """Return whether the machine has an issued certificate for its name, and therefore redirects HTTP."""
    path = "/etc/letsencrypt/live/app/fullchain.pem"
    return covers(host.run("openssl x509 -noout -ext subjectAltName -in %s", path).stdout, name)


@pytest.fixture(scope="session")
def covers():
    """Return a function: whether openssl's text of a subjectAltName covers a name, by itself or by a wildcard."""

    def covers_name(alternative_names, name):
        return bool({f"DNS:{name}", f"DNS:*.{name.partition('.')[2]}"} & set(re.split(r"[,\s]+", alternative_names)))

    return covers_name


@pytest.fixture(scope="module")
def fetch(host, name):
    """Return a function that requests a path from the machine's nginx, at its loopback address and under its name."""

    def get(path="/", scheme="http", as_name=name, options="", body=False):
        return ask(host, f"{scheme}://{as_name}{path}", {"http": 80, "https": 443}[scheme], options, body=body)

    return get


@pytest.fixture(scope="module")
def crawler(host):
    """Return a function that has the app's pages judged by a function of bake.verify.pages."""
    program = pages.crawler()
    host.run(remote_scripts.text("await-workers.sh"))
    result = host.run(remote_scripts.text("site.sh"))
    if result.rc:
        pytest.skip("the release is of an older bake, without a crawler")
    site, author = pages.read_site(result.stdout)

    def ask(crawls):
        # Run on the machine itself, so that the answers do not depend on the network.
        result = host.run(f"{pages.AS_NOBODY} python3 -c %s %s", program, json.dumps(crawls))
        assert result.rc == 0, result.stderr
        return result.stdout

    journal = "journalctl --namespace='*' -b -o cat -n 2000 -u app"
    return lambda judge: judge(ask, site, author, lambda: host.run(journal).stdout)


@pytest.fixture(scope="module")
def healthy(fetch, recipe):
    """Return a function that requests the health path, and returns whether the app is healthy."""

    def answers():
        path = recipe["check"]["health"]
        return contract.is_healthy(fetch(path or "/", "https").status, path is not None)

    return answers
