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
#: What Lynis suggests, and why a machine does not do it.
ANSWERED = {
    # Tools that another part of the machine, or the provider, stands for.
    "LYNIS": "the age of Lynis itself",
    "DEB-0280": "libpam-tmpdir: each service has a private /tmp, and people who log in are administrators",
    "DEB-0810": "apt-listbugs asks an administrator; upgrades here are unattended",
    "DEB-0811": "apt-listchanges writes to an administrator; upgrades here are unattended",
    "DEB-0831": "decision 127: `updates` restarts services, and exchanges the app's workers",
    "DEB-0880": "fail2ban: keys only; nginx has bounds for each address",
    "PKGS-7346": "configuration files of replaced kernels remain until an administrator purges them",
    "PKGS-7370": "debsums: the proof compares each conffile, and a machine is replaced by a new image",
    "PKGS-7392": "the updates of the day come at night, and at the first boot",
    "PKGS-7394": "apt-show-versions: `bake audit` lists the versions",
    "FINT-4350": "a machine is replaced by a new image; a database of digests on its own disk proves little",
    "HRDN-7230": "a malware scanner would read the uploads of an app that nobody runs as a program",
    "ACCT-9622": "process accounting: the journal has logins, services and sudo",
    "ACCT-9626": "sysstat: providers measure CPU, disk and network",
    "ACCT-9628": "auditd: the journal has logins, services and sudo; a document has no room for rules",
    "LOGG-2154": "logs on another host need an account there; the journal is readable by any collector",
    "TOOL-5002": "bake is the automation; nothing of it is installed on the machine",
    # Settings for computers with people or with hardware.
    "BOOT-5122": "a password of GRUB is for people at a console, who own the disk of a virtual machine anyway",
    "USB-1000": "a virtual machine has no USB",
    "STRG-1846": "a virtual machine has no firewire",
    "AUTH-9229": "no account has a password (test_no_account_has_a_password)",
    "AUTH-9230": "no account has a password",
    "AUTH-9262": "no account has a password",
    "AUTH-9282": "no account has a password",
    "AUTH-9284": "the locked accounts are those of services, from Debian's packages",
    "AUTH-9286": "no account has a password",
    "AUTH-9328": "the app has umask 077; those who log in are administrators",
    "BANN-7126": "a legal banner depends on the law of its owner",
    "BANN-7130": "a legal banner depends on the law of its owner",
    # Settings whose effect other settings have.
    "BOOT-5180": "systemd has targets in place of the runlevels that Lynis looks for",
    "BOOT-5264": "test_units.py bounds the units that meet visitors; Debian's own units keep Debian's settings",
    "KRNL-5820": "core dumps: systemd gives services the limit 0, and systemd-coredump is not installed",
    "KRNL-5830": "a reboot is due in the night",
    "KRNL-6000": "the rest fills the journal (log_martians), slows system calls (bpf_jit_harden), or changes nothing",
    "NETW-2705": "the provider names the name servers, often one",
    "NAME-4028": "the name comes from the provider",
    "NAME-4404": "the name comes from the provider",
    "FILE-6310": "one partition grows with the disk; `bake push` asks for room before it copies",
    "FILE-6410": "nobody runs `locate`",
    "FILE-7524": "Debian's own permissions; people who log in are administrators",
    "FIRE-4513": "the counters of rules that no packet met yet",
    "LOGG-2190": "files that a service deleted and holds open, such as those of nginx's shared memory",
    "TIME-3185": "the clock of a machine that has just booted is not synchronised yet",
    "CRYP-7902": "the placeholder certificate",
    "SSH-7408": "forwarding, sessions and tries serve administrators with keys; X11 is off",
    "HTTP-6712": "Lynis reads Debian's nginx.conf, which the machine does not use",
    "HTTP-6714": "Lynis reads Debian's nginx.conf, which the machine does not use",
    "HTTP-6710": "Lynis reads Debian's nginx.conf, which the machine does not use",
    "HTTP-6716": "Lynis reads Debian's nginx.conf, which the machine does not use",
}

#: Lynis' index of hardening, as it was measured. The suggestions above cost the rest of the 100 points.
INDEX = 64


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
    assert index and int(index[1]) >= INDEX, report


def test_2000_slow_visitors_leave_the_others_their_pages(machine):
    seen = json.loads(machine.ssh("python3 -", stdin=(HERE / "slow_visitors.py").read_text(), timeout=300).stdout)
    answers = seen["answers"]
    assert seen["slow"] >= 1900, seen
    assert sum(answers.values()) >= 50 and answers["200"] >= 0.99 * sum(answers.values()), seen
