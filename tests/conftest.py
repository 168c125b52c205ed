"""What the checks of a machine share: a shell on it, and what they ask it first.

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

from bake.verify import pages

#: What runs on the machine: a command a line as JSON, answered by its status and its two outputs.
#: No command of a check takes longer than its 300 s.
SERVER = """
import base64, json, subprocess, sys
for line in sys.stdin:
    done = subprocess.run(json.loads(line), shell=True, stdin=-3, capture_output=True, timeout=300)
    outputs = [base64.b64encode(text).decode() for text in (done.stdout, done.stderr)]
    print(json.dumps([done.returncode, *outputs]), flush=True)
"""


class RootShell(SshBackend):
    """One root process over one ssh connection runs the commands of all checks.

    An ssh and a sudo a command cost more than most checks on a small or emulated machine.
    """

    NAME = "root-shell"

    def __init__(self, plain):
        """Talk to the host that testinfra's own ssh backend `plain` was made for."""
        alive = "-o ServerAliveInterval=5 -o ServerAliveCountMax=2"
        super().__init__(
            plain.hostname, plain.ssh_config, plain.ssh_identity_file, controlpersist=0, ssh_extra_args=alive
        )
        self.host = plain.host
        self._server = None

    def run(self, command, *args, **kwargs):
        """Run a command as root; raises RuntimeError where the machine went away."""
        words = self.quote(command, *args)
        try:
            if self._server is None:
                self._start()
            self._server.stdin.write(json.dumps(words).encode() + b"\n")
            self._server.stdin.flush()
            rc, out, err = json.loads(self._server.stdout.readline())
        except (OSError, ValueError) as error:
            self.close()
            raise RuntimeError(f"the machine went away during `{words}`: {error}") from error
        return self.result(rc, words, base64.b64decode(out), base64.b64decode(err))

    def decode(self, data):
        """Return the text of an output; an app may print bytes that are no text into it."""
        return data.decode(errors="backslashreplace")

    def _start(self):
        elevate = [] if self.host.user == "root" else ["sudo", "-n"]
        command, arguments = self._build_ssh_command(shlex.join([*elevate, "python3", "-c", SERVER]))
        # The last one is the host and the command.
        argv = shlex.split(self.quote(" ".join([*command[:-1], "--", command[-1]]), *arguments))
        self._server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self):
        """End the process; the next command starts a new one."""
        if self._server:
            self._server.kill()
            self._server.communicate()
        self._server = None


@pytest.fixture(scope="session")
def shells():
    """Shells by host, so that the modules of a run share one."""
    open_shells = {}
    yield open_shells
    for shell in open_shells.values():
        shell.close()


@pytest.fixture(scope="module")
def host(_testinfra_host, shells):
    """testinfra's host, with every command in one root shell."""
    plain = _testinfra_host.backend
    if plain.hostname not in shells:
        shells[plain.hostname] = RootShell(plain)
        # SSH is there before the end of a boot, and what the checks look for may not be.
        shells[plain.hostname].run("systemctl is-system-running --wait")
    return Host(shells[plain.hostname])


@dataclass(frozen=True)
class Answer:
    """An HTTP response: status, headers (lower-case names, the last of each), body where it was asked for.

    Status 0: there was no response, and the header `curl` is curl's exit status.
    """

    status: int
    headers: dict
    body: bytes = b""


def parse(output):
    """Return the Answer that curl printed: interim responses (1xx), the head of the final one, its body."""
    status, rest = 100, output
    while 100 <= status < 200:
        head, rest = [*re.split(rb"\r?\n\r?\n", rest, maxsplit=1), b""][:2]
        # Header values are bytes; Latin-1 decodes any.
        first, *lines = re.split(r"\r?\n", head.decode("latin-1"))
        status = int(first.split()[1])
    pairs = (line.partition(":") for line in lines)
    return Answer(status, {key.strip().lower(): value.strip() for key, _, value in pairs}, rest)


def ask(host, url, port, options="", *, body=False):
    """Request a URL of the server at a loopback port; the body is discarded unless `body`, then at most 1 MiB."""
    kept = "-i --max-filesize 1M" if body else "-D - -o /dev/null"
    # Without globoff, curl reads [1-3] as three URLs. nginx waits 65 s for the app.
    words = f"curl -sk {kept} --globoff --path-as-is --max-time 75 {options} --connect-to '::127.0.0.1:{port}' %s"
    done = host.run(words, quote(url, bytes(range(33, 127))))
    # A response without an end (a video, say) is a response: curl gives it up after its time.
    if not done.stdout_bytes.startswith(b"HTTP/"):
        return Answer(0, {"curl": str(done.rc)}, done.stderr_bytes)
    answer = parse(done.stdout_bytes)
    return answer if body else replace(answer, body=b"")


@pytest.fixture(scope="module")
def recipe(host):
    """The recipe of the release that the machine runs, with the defaults of what it leaves out."""
    given = json.loads(host.file("/srv/app/current/recipe.json").content_string)
    missing = {"domains": [], "static": {}, "writable": [], "setup": [], "timers": {}}
    check = {"health": None, **given.get("check", {})}
    return {**missing, **given, "check": check, "limits": {"body": 10 << 20, **given.get("limits", {})}}


@pytest.fixture(scope="module")
def name(host):
    """The first name the machine answers to; one of those that a wildcard stands for."""
    return (host.run("cat /run/app/names").stdout.split() or ["localhost"])[0].replace("*", "www")


@pytest.fixture(scope="module")
def trusted(host, name, covers):
    """Whether the machine has a certificate of its own for its name, and so redirects HTTP."""
    path = "/etc/letsencrypt/live/app/fullchain.pem"
    return covers(host.run("openssl x509 -noout -ext subjectAltName -in %s", path).stdout, name)


@pytest.fixture(scope="session")
def covers():
    """Whether a certificate is for a name, by itself or by a wildcard; openssl has said whom it is for."""

    def ask(said, name):
        return bool({f"DNS:{name}", f"DNS:*.{name.partition('.')[2]}"} & set(re.split(r"[,\s]+", said)))

    return ask


@pytest.fixture(scope="module")
def fetch(host, name):
    """Ask the machine's nginx, on its loopback address, by the right name."""

    def get(path="/", scheme="http", as_name=name, options="", body=False):
        return ask(host, f"{scheme}://{as_name}{path}", {"http": 80, "https": 443}[scheme], options, body=body)

    return get


@pytest.fixture(scope="module")
def crawler(host, recipe):
    """Ask the machine for the app's pages by `judge` or `judge_front_page` of bake.verify.pages; return the result."""
    program = pages.crawler()
    host.run(pages.AWAIT_WORKERS)
    record = host.file(pages.AUTHOR)
    release = host.run("basename $(readlink -f /srv/app/current)").stdout.strip()
    author = pages.Author.read(record.content_string if record.exists else "", release, recipe["check"])
    site = pages.Site.of(host.run("cat /run/app/names").stdout, recipe["check"])

    def ask(argument):
        # On the machine, where the network is closed and certificates are nobody's.
        done = host.run(f"{pages.AS_NOBODY} python3 -c %s %s", program, json.dumps(argument))
        assert done.rc == 0, done.stderr
        return done.stdout

    return lambda judge: judge(ask, site, author, lambda: host.run("journalctl -b -o cat -n 2000 -u app").stdout)


@pytest.fixture(scope="module")
def healthy(fetch, recipe):
    """Whether the app answers as it should, asked now."""

    def answers():
        named = recipe["check"]["health"]
        return 0 < fetch(named or "/", "https").status < (400 if named else 500)

    return answers
