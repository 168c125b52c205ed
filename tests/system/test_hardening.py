"""The hardening of a machine, as the programs of others measure it: ssh-audit, gixy, Lynis, and 2,000 slow visitors."""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import STAND_INS, settled

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
BASE = os.environ.get("BAKE_TEST_BASE", "debian-13")
#: ssh-audit's policy: a name of its own, or a file.
POLICY = {"debian-13": "Hardened Debian 13 (version 1)", "debian-12": str(HERE / "ssh-audit.debian-12")}
#: gixy's findings that a machine has, and why.
ACCEPTED = {
    "http2_misdirected_request": "another name gets 444, which ends the connection, so a browser asks anew",
    "if_is_evil": "nginx documents `gzip` in `if` in location",
    "ssl_ecdh_curve": "only Debian 13's settings name X25519MLKEM768, which its OpenSSL 3.5 has",
    "try_files_is_evil_too": "the file does not exist: try_files only names the location",
    "weak_ssl_tls": "gixy cannot resolve names of groups; sslyze judges the ciphers (test_certificate.py)",
}
#: What Lynis suggests, and why a machine does not do it. docs/explanation/sandbox.md explains the larger ones.
ANSWERED: dict[str, str] = {}


@pytest.fixture(scope="module")
def machine(baked, tmp_path_factory):
    """One machine for all cases."""
    with settled(baked[1], tmp_path_factory.mktemp("run"), STAND_INS) as booted:
        yield booted


def judge(program, *words, **options):
    """Run a program that `nox -s system` installs, and return its result."""
    if not shutil.which(program):
        pytest.skip(f"`nox -s system` installs {program}")
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False, **options)


def test_sshd_keeps_to_the_policy_of_ssh_audit(machine):
    audit = judge("ssh-audit", "--policy", POLICY[BASE], "--port", machine.port, "127.0.0.1")
    assert audit.returncode == 0, audit.stdout


def test_gixy_has_no_finding_in_the_settings_of_nginx(machine):
    settings = machine.ssh("sudo nginx -T -c /usr/lib/app/nginx/nginx.conf 2> /dev/null").stdout
    assert "location @app" in settings
    findings = judge("gixy", "-f", "json", "-", input=settings)
    names = {finding["plugin"] for finding in json.loads(findings.stdout)}
    assert names <= set(ACCEPTED), findings.stdout


def test_lynis_has_no_warning_and_each_suggestion_is_answered(machine):
    if not Path("/usr/share/lynis").is_dir():
        pytest.skip("Lynis is missing: apt-get install lynis")
    folders = ("/usr/sbin/lynis", "/usr/share/lynis", "/etc/lynis")
    archive = subprocess.run(["tar", "--create", "--gzip", *folders], capture_output=True, check=True).stdout
    machine.ssh("base64 -d | sudo tar --extract --gzip --directory /", stdin=base64.b64encode(archive).decode())
    machine.ssh("sudo lynis audit system --quick --quiet --report-file /run/lynis", timeout=2400, check=False)
    report = machine.ssh("sudo cat /run/lynis").stdout
    index = re.search(r"^hardening_index=(\d+)", report, re.MULTILINE)
    assert re.findall(r"^warning\[\]=(.*)", report, re.MULTILINE) == []
    suggested = dict(re.findall(r"^suggestion\[\]=([\w-]+)\|(.*)", report, re.MULTILINE))
    assert {name: text for name, text in suggested.items() if name not in ANSWERED} == {}
    assert index and int(index[1]) >= 75, report


def test_2000_slow_visitors_leave_the_others_their_pages(machine):
    seen = json.loads(machine.ssh("python3 -", stdin=(HERE / "slow_visitors.py").read_text(), timeout=300).stdout)
    answers = seen["answers"]
    assert seen["slow"] >= 1900, seen
    assert sum(answers.values()) >= 50 and answers["200"] >= 0.99 * sum(answers.values()), seen
