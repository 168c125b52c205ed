"""Certificates of a baked machine: real certbot, and Pebble, in a network namespace with nobody else in it."""

import base64
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import acme
import pytest
import servers
from conftest import AWAIT_BOOT
from cryptography import x509
from launched import NAME, Site, looked

from bake.host.programs import run, which
from bake.vm import qemu

#: This file runs itself again in a namespace, with this in its environment.
INSIDE = "BAKE_TEST_NAMESPACE"
CASES = (
    "late_dns", "authority_is_down", "authority_is_moody", "one_never_resolves", "cut_in_an_order",
    "cut_before_it_is_served", "renewed", "clock_is_wrong", "clock_is_ahead", "by_the_book", "few_orders",
    "replaced", "wildcard",
)  # fmt: skip
#: What a case needs on this computer besides, and how it comes there.
NEEDED = {
    "by_the_book": ("sslyze", "`nox -s system` installs it"),
    # Installed, it would also serve on whatever computer this is; so nobody is made to.
    "wildcard": ("named", "apt-get install bind9"),
}
#: The value of a zone's key, and one that is not.
KEY, WRONG_KEY = (base64.b64encode(letter * 64).decode() for letter in (b"k", b"w"))
#: What the app's bake.yaml says besides, for the cases that have an image of their own.
SAID = {
    "replaced": "certificate: {keep: LABEL=keep}\n",
    "wildcard": f'domains: [{NAME}, "*.{NAME}"]\ncertificate:\n'
    f"  dns: {{server: {acme.NAME_SERVER}, key: bake-key, algorithm: HMAC-SHA512, wait: 5s}}\n",
}


@pytest.fixture
def there(case):
    """What the case needs."""
    if case in NEEDED and not which(NEEDED[case][0]):
        pytest.skip(NEEDED[case][1])


@pytest.fixture
def image(case, example, bake, tmp_path, request):
    """The app's folder, and its image."""
    if case not in SAID:
        return request.getfixturevalue("baked")[:2]
    folder = tmp_path / "shop"
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "bake.yaml").open("a") as stream:
        stream.write(SAID[case])
    called = bake("image", folder)
    assert called.code == 0, called.stderr
    return folder, Path(called.stdout.strip())


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
@pytest.mark.skipif(INSIDE in os.environ, reason="this is the outside")
@pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="no wire can be laid without /dev/net/tun")
def test_certificate(case, there, image, bake, tmp_path):
    folder, disk = image
    values = {"SECRET_KEY": "a", "SPARE_KEY": "b", "DNS_KEY": WRONG_KEY}
    if case == "replaced":
        values["CERTIFICATE_KEY"] = run(["age-keygen"]).stdout.splitlines()[-1]
    called = bake("render", folder, "--launch", *NAMED.get(case, ("--domain", NAME)), "--with-secrets", **values)
    assert called.code == 0, called.stderr
    (tmp_path / "user-data").write_text(called.stdout)
    namespaces = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    given = {"case": case, "image": str(disk), "place": str(tmp_path), "accelerator": qemu.accelerator()}
    done = run(
        [*namespaces, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"{__file__}::test_inside"],
        env={INSIDE: json.dumps(given)}, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.status == 0 and "1 passed" in done.stdout, done.stdout[-8000:]


@pytest.mark.skipif(INSIDE not in os.environ, reason="test_certificate runs it in a namespace")
def test_inside():
    given = json.loads(os.environ[INSIDE])
    acme.lay_wire()
    site = Site(Path(given["image"]), Path(given["place"]), given["accelerator"])
    try:
        with acme.dns(site.work):
            globals()[given["case"]](site)
    finally:
        if site.booted:
            site.booted.stop()


def late_dns(site):
    """The name fails to resolve, then leads elsewhere, then here: no login, one order."""
    acme.say("set-servfail", NAME)
    authority = acme.Authority(site.work)
    with authority.running():
        site.switch_on(authority)
        site.await_(lambda: site.serves("placeholder"))
        site.machine.await_ssh()
        assert site.machine.ssh(AWAIT_BOOT, check=False, timeout=900).status == 0
        site.await_(lambda: f"waiting: {NAME}: resolve call failed" in site.said())
        acme.say("clear-servfail", NAME)
        acme.say("add-a", NAME, "10.9.0.77")
        site.await_(lambda: f"waiting: {NAME} resolves to 10.9.0.77, not to this machine" in site.said())
        assert authority.orders() == 0
        status, headers = site.ask("http")
        assert status == 200 and "strict-transport-security" not in headers
        acme.say("clear-a", NAME)
        acme.say("add-a", NAME, acme.THERE)
        print("trusted after", site.await_(lambda: site.serves("Pebble")), "s")
        site.await_(lambda: site.ask("http")[0] == 301, 10)
        assert site.ask("http")[1]["location"] == f"https://{NAME}/"
        assert "strict-transport-security" not in site.ask("http")[1]
        assert site.ask("https")[1]["strict-transport-security"] == "max-age=3600"
        assert authority.orders() == 1
        assert looked(site) == []


def authority_is_down(site):
    """Nobody answers for the first tries; nothing is counted as an order."""
    acme.say("add-a", NAME, acme.THERE)
    authority = acme.Authority(site.work)
    site.switch_on(authority)
    site.machine.await_ssh()
    site.await_(lambda: site.said().count("app-certificate failed") >= 2, 600)
    assert site.serves("placeholder") and site.ask("http")[0] == 200
    with authority.running():
        site.await_(lambda: site.serves("Pebble"), 600)
    assert authority.orders() == 1


def authority_is_moody(site):
    """Half of the nonces are refused, which hardly an order survives; then a tenth, and validation takes its time.

    certbot asks once more, and there are some fifteen requests in an order: 0.75 to the power of 15 is 1 in 75.
    """
    acme.say("add-a", NAME, acme.THERE)
    authority = acme.Authority(site.work)
    with authority.running(PEBBLE_WFE_NONCEREJECT="50"):
        site.switch_on(authority)
        site.machine.await_ssh()
        site.await_(lambda: "app-certificate failed" in site.said() or site.serves("Pebble"), 1800)
    assert authority.orders() <= 4
    with authority.running(PEBBLE_WFE_NONCEREJECT="10", PEBBLE_VA_NOSLEEP="0", PEBBLE_VA_SLEEPTIME="20"):
        # What half an order cost is over.
        site.sudo("date -s '+16 minutes'")
        site.await_(lambda: site.serves("Pebble"), 1800)
    assert authority.orders() <= 4 * 2


THREE = (NAME, "www.shop.example", "never.example")


def one_never_resolves(site):
    """Two names get a certificate, the third keeps its placeholder's manners, and joins when it comes after all."""
    for name in THREE[:2]:
        acme.say("add-a", name, acme.THERE)
    authority = acme.Authority(site.work)
    with authority.running():
        site.switch_on(authority)
        site.await_(lambda: site.serves("Pebble"), 600)
        assert acme.names(acme.served(NAME)) == set(THREE[:2])
        site.await_(lambda: site.ask("http", THREE[1])[0] == 301, 10)
        assert site.ask("http", THREE[2])[0] == 200
        assert "strict-transport-security" not in site.ask("https", THREE[2])[1]
        seen = site.said().count("waiting: never.example")
        site.await_(lambda: site.said().count("waiting: never.example") > seen + 1)
        assert authority.orders() == 1
        acme.say("add-a", THREE[2], acme.THERE)
        site.await_(lambda: acme.names(acme.served(NAME)) == set(THREE))
        site.await_(lambda: site.ask("http", THREE[2])[0] == 301, 10)
        site.await_(lambda: "every name has its certificate" in site.said())
        assert site.machine.ssh("systemctl is-active app-look.timer", check=False).stdout == "inactive\n"
        assert authority.orders() == 2


def cut_in_an_order(site):
    """The plug is pulled while the authority validates: the next order comes, and not at once."""
    acme.say("add-a", NAME, acme.THERE)
    authority = acme.Authority(site.work)
    with authority.running(PEBBLE_VA_NOSLEEP="0", PEBBLE_VA_SLEEPTIME="60"):
        # What no program asks to be written stays in memory, as in the seconds before a cut.
        site.switch_on(authority, "mount -o remount,commit=300 /\n")
        site.await_(lambda: authority.orders() == 1, 600)
        time.sleep(3)
        site.pull_the_plug()
    with authority.running():
        site.switch_on(authority)
        site.machine.await_ssh()
        site.await_(lambda: "the next order is possible in" in site.said(), 600)
        assert authority.orders() == 1 and site.serves("placeholder")
        # A quarter of an hour later.
        site.sudo("date -s '+16 minutes'")
        site.await_(lambda: site.serves("Pebble"))
        assert authority.orders() == 2


def cut_before_it_is_served(site):
    """The plug is pulled when the certificate is on the disk, and nginx has not read it."""
    acme.say("add-a", NAME, acme.THERE)
    authority = acme.Authority(site.work)
    hook = "/etc/letsencrypt/renewal-hooks/deploy/app"
    with authority.running():
        site.switch_on(authority, f"cp {hook} /var/tmp/hook; printf '#!/bin/sh\nsleep 600\n' > {hook}\n")
        site.await_(lambda: site.sudo("[ ! -e /etc/letsencrypt/live/app/fullchain.pem ] || echo there") != "", 600)
        assert site.serves("placeholder")
        site.pull_the_plug()
        site.switch_on(authority)
        site.await_(lambda: site.serves("Pebble"))
        assert site.ask("http")[0] == 301
        assert authority.orders() == 1


def renewed(site):
    """A life of an hour: certbot's own service renews it, and nginx serves the new one; then nobody can."""
    acme.say("add-a", NAME, acme.THERE)
    authority = acme.Authority(site.work, seconds=3600)
    with authority.running():
        site.switch_on(authority)
        site.await_(lambda: site.serves("Pebble"), 600)
        first = acme.served(NAME).serial_number
        site.sudo("systemctl start certbot")
        assert authority.orders() == 1, "it was renewed too early"
        # Two thirds and a little more of its life are over.
        site.sudo("date -s '+42 minutes'; systemctl start certbot")
        assert site.await_(lambda: acme.served(NAME).serial_number != first, 20) < 20
        assert authority.orders() == 2
    site.sudo("date -s '+12 minutes'; systemctl start certbot")
    assert "failed" in site.sudo("systemctl is-failed certbot")
    assert "test_the_certificate_is_renewed_in_time" in " ".join(looked(site))


#: For a boot: the machine asks the time server of its namespace.
ASK_THE_TIME = f"""
mkdir -p /etc/systemd/timesyncd.conf.d
printf '[Time]\\nNTP={acme.HERE}\\n' > /etc/systemd/timesyncd.conf.d/test.conf
systemctl try-restart --no-block systemd-timesyncd
"""


def clock_is_wrong(site):
    """The machine believes it is 2038: no order can be made; once a time server answers, one is."""
    acme.say("add-a", NAME, acme.THERE)
    authority = acme.Authority(site.work)
    with authority.running():
        # systemd never lets the clock be before its own making, nor 15 years after it.
        site.switch_on(authority, ASK_THE_TIME, words=("-rtc", "base=2038-01-10T00:00:00"))
        site.machine.await_ssh()
        site.await_(lambda: "app-certificate failed" in site.said(), 600)
        assert site.serves("placeholder") and authority.orders() == 0
        with servers.clock(acme.HERE):
            site.await_(lambda: site.serves("Pebble"), 900)
        assert authority.orders() == 1


def clock_is_ahead(site):
    """By some months: a certificate is over when it comes. It is not ordered again and again, and serves in the end."""
    acme.say("add-a", NAME, acme.THERE)
    authority = acme.Authority(site.work)
    with authority.running():
        ahead = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 120 * 86400))
        site.switch_on(authority, ASK_THE_TIME, words=("-rtc", f"base={ahead}"))
        site.machine.await_ssh()
        site.await_(lambda: "the next order is possible in" in site.said(), 600)
        with servers.clock(acme.HERE):
            site.await_(lambda: "every name has its certificate" in site.said(), 900)
        assert site.serves("Pebble") and site.ask("http")[0] == 301
        assert authority.orders() == 1


def by_the_book(site):
    """sslyze has Mozilla's intermediate set in it, guidelines 5.7: the machine offers nothing else, and is trusted."""
    acme.say("add-a", NAME, acme.THERE)
    authority = acme.Authority(site.work)
    with authority.running():
        site.switch_on(authority)
        site.await_(lambda: site.serves("Pebble"), 600)
        found, trust = site.work / "sslyze.json", authority.trust()
        done = run(
            [
                "sslyze", "--mozilla_config", "intermediate", "--certinfo_ca_file", trust, "--slow_connection",
                "--json_out", found, f"{NAME}:443{{{acme.THERE}}}",
            ],
            check=False,
        )  # fmt: skip
    print(done.stdout[-6000:])
    assert done.status == 0
    (seen,) = json.loads(found.read_text())["server_scan_results"]
    offered = {
        accepted["cipher_suite"]["name"]
        for accepted in seen["scan_result"]["tls_1_2_cipher_suites"]["result"]["accepted_cipher_suites"]
    }
    # 6.0, which the machine keeps to, has no others.
    assert offered == {f"TLS_ECDHE_ECDSA_WITH_{name}" for name in GUIDELINES_6}


#: Ciphers of TLS 1.2 in Mozilla's guidelines 6.0, intermediate; for certbot's certificates, whose keys are ECDSA.
GUIDELINES_6 = ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")


#: The machines that follow the first one, each in the place of the one before.
REPLACEMENTS = 6


def replaced(site):
    """A machine is destroyed, and the next one, and the next: one order, and no visitor sees another certificate."""
    acme.say("add-a", NAME, acme.THERE)
    volume, new = site.work / "volume", site.disk
    run(["mke2fs", "-q", "-t", "ext4", "-L", "keep", volume, "16M"])
    words = ("-drive", f"file={volume},format=raw,if=virtio")
    authority = acme.Authority(site.work)
    with authority.running():
        site.switch_on(authority, words=words)
        site.await_(lambda: site.serves("Pebble"), 600)
        first = acme.served(NAME).serial_number
        site.machine.await_ssh()
        site.await_(lambda: "kept in LABEL=keep" in site.said("app-keep"))
        for number in range(REPLACEMENTS):
            site.pull_the_plug()
            site.disk, site.instance = new, f"i-{number + 2}"
            site.switch_on(authority, words=words)
            seen: list[x509.Certificate] = []
            site.await_(lambda seen=seen: seen.extend(filter(None, [acme.served(NAME)])) or seen)
            assert seen[0].serial_number == first
            assert site.ask("http")[0] == 301
            assert site.ask("https")[1]["strict-transport-security"] == "max-age=3600"
            site.await_(lambda: site.ask("https")[0] == 200)
            site.machine.await_ssh()
            site.await_(lambda: "every name has its certificate" in site.said())
            assert acme.served(NAME).serial_number == first
            assert authority.orders() == 1
        # Nothing of it is seen on the machine.
        assert site.sudo("findmnt -n /run/app/keep; ls -A /run/app/keep") == ""
        assert looked(site) == []
        # On a machine that runs, app-configure has it back by itself.
        lost = "cd /etc/letsencrypt && rm -r live archive renewal"
        site.sudo(f"{lost}; systemctl reload app-configure nginx")
        assert acme.served(NAME).serial_number == first
        # And a look has, where the key comes late: before anything is ordered, from a sandbox; nginx is told.
        acme.say("clear-a", NAME)
        site.sudo(f"mv /etc/app/certificate.key /root; {lost}; systemctl reload app-configure nginx")
        site.await_(lambda: site.serves("placeholder"), 60)
        site.sudo("mv /root/certificate.key /etc/app")
        acme.say("add-a", NAME, acme.THERE)
        site.await_(lambda: acme.served(NAME).serial_number == first)
        # Another key's backup is left alone, and that shows.
        site.sudo("age-keygen 2> /dev/null | tail -n 1 > /etc/app/certificate.key; systemctl start app-keep")
        assert "cannot decrypt the kept certificates" in site.said("app-keep")
        assert site.sudo("systemctl is-failed app-keep") == "failed\n"
        assert authority.orders() == 1


def wildcard(site):
    """Names that lead nowhere are proved by their zone, at renewals too; a key that is wrong costs no order."""
    authority = acme.Authority(site.work, seconds=360)
    some = f"any.{NAME}"
    zone = acme.name_server(site.work / "named", NAME, KEY)
    # A renewal is validated anew.
    with zone, authority.running(dns=acme.NAME_SERVER, PEBBLE_AUTHZREUSE="0"):
        site.switch_on(authority)
        problem = f"waiting: *.{NAME}: the name server {acme.NAME_SERVER}: The peer didn't like the signature we sent"
        site.await_(lambda: site.said().count(problem) >= 2, 600)
        assert site.ask("http", some)[0] == 200 and "strict-transport-security" not in site.ask("https", some)[1]
        assert authority.orders() == 0
        # The key as a person gives it, on the machine.
        site.sudo(f"echo {KEY} | install -m 600 /dev/stdin /etc/app/dns.key; systemctl start app-setup")
        site.await_(lambda: site.serves("Pebble", some), 600)
        first = acme.served(some)
        assert acme.names(first) == {NAME, f"*.{NAME}"}
        for name in (NAME, some):
            site.await_(lambda name=name: site.ask("http", name)[0] == 301, 10)
            assert site.ask("http", name)[1]["location"] == f"https://{name}/"
            assert site.ask("https", name)[1]["strict-transport-security"] == "max-age=3600"
        # Two levels below there is no name of ours, and no certificate.
        assert acme.served(f"a.b.{NAME}") is None
        assert authority.orders() == 1
        # Nothing asks the machine, and nothing could; nobody but root has the key, and no journal or log shows it.
        assert site.sudo("find /etc/app/dns.key /etc/letsencrypt/dns.ini -not -perm 600 -or -not -user root") == ""
        told = "{ journalctl --namespace=* -b; cat /var/log/letsencrypt/* /run/app/certbot/*; }"
        assert site.sudo(f"{told} | grep -c -e {KEY[:20]} -e {WRONG_KEY[:20]}") == "0\n"
        assert looked(site) == []
        # Two thirds of its life; a name server hears nobody whose clock is more than five minutes from its own.
        site.sudo("date -s '+270 seconds'; systemctl start certbot")
        assert site.await_(lambda: acme.served(some).serial_number != first.serial_number, 20) < 20
        assert authority.orders() == 2
    log = (site.work / "named/named.log").read_text()
    assert len(re.findall(f"adding an RR at '?_acme-challenge.{NAME}", log)) == 4


#: On the machine: Pebble issues a certificate of a life, and certbot's service runs twice a day in the week around the
#: time when it is due. Prints how many orders there were, before and after each run.
WEEK = """set -eu
cd /opt/pebble
systemctl stop pebble 2> /dev/null || true
rm -rf /etc/letsencrypt/accounts /etc/letsencrypt/archive /etc/letsencrypt/live /etc/letsencrypt/renewal
sed -i 's/Period": [0-9]*/Period": {seconds}/' pebble.json
systemd-run -q --collect --unit pebble -p WorkingDirectory=/opt/pebble {calm} \\
    -p StandardOutput=truncate:/opt/pebble/log -p StandardError=inherit /opt/pebble/{command}
until curl -sfk {directory}; do sleep 1; done > /dev/null
date -s '+1 day' > /dev/null
systemctl start app-certificate
grep -c 'POST /order-plz' log
date -s '+{lead} hours' > /dev/null
for half in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do
    date -s '+12 hours' > /dev/null
    systemctl start certbot
    grep -c 'POST /order-plz' log
done
"""
#: Lives of certificates, in hours: Let's Encrypt's of today, those that it has announced, and its short ones.
LIVES = (160, 45 * 24, 64 * 24, 90 * 24)


def few_orders(site):
    """In the week around a renewal there are few orders, whatever the life, where five are allowed.

    Pebble runs on the machine: both go by the one clock that is put forward.
    """
    acme.say("add-a", NAME, acme.THERE)
    authority = acme.Authority(site.work, at=acme.THERE)
    site.switch_on(authority)
    site.await_(lambda: site.serves("placeholder"), 600)
    site.sudo("systemctl stop certbot.timer apt-daily.timer apt-daily-upgrade.timer")
    site.sudo(
        f"mkdir /opt/pebble; base64 -d <<'E' | tar -C /opt/pebble -xzf - --no-same-owner\n{authority.packed()}E\n"
    )
    place = {
        "directory": authority.directory, "command": " ".join([*acme.PEBBLE, f"{acme.HERE}:53"]),
        "calm": " ".join(f"-E {name}={value}" for name, value in acme.CALM.items()),
    }  # fmt: skip
    counts = {}
    for hours in LIVES:
        week = WEEK.format(seconds=hours * 3600, lead=max(0, hours * 2 // 3 - 84), **place)
        counts[hours] = [int(line) for line in site.sudo(week, patience=1500).split()]
    print("orders by the certificate's hours:", counts)
    # Of a life of less than ten days certbot 4 takes the half, whatever it is told: twice in such a week.
    assert all(len(found) == 15 and found[1] == 1 and 2 <= found[-1] <= 3 for found in counts.values()), counts


#: Options of a launch, where they are not one name.
NAMED = {
    "one_never_resolves": tuple(word for name in THREE for word in ("--domain", name)),
    "wildcard": (),
}  # fmt: skip
