"""Certificates of a baked machine: real certbot, and Pebble, in a network namespace with nobody else in it."""

import http.client
import json
import os
import ssl
import sys
import time
from pathlib import Path

import acme
import pytest

from bake import proof, userdata, vm
from bake.run import run

#: This file runs itself again in a namespace, with this in its environment.
INSIDE = "BAKE_TEST_NAMESPACE"
NAME = "shop.example"
#: Seconds for what happens within two looks of an emulated machine.
SOON = 240


@pytest.mark.parametrize("case", ["late_dns"])
@pytest.mark.skipif(INSIDE in os.environ, reason="this is the outside")
def test_certificate(case, baked, bake, tmp_path):
    values = {"SECRET_KEY": "a", "SPARE_KEY": "b"}
    called = bake("render", baked[0], "--launch", "--domain", NAME, "--with-secrets", **values)
    assert called.code == 0, called.stderr
    (tmp_path / "user-data").write_text(called.stdout)
    namespaces = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    given = {"case": case, "image": str(baked[1]), "place": str(tmp_path), "accelerator": vm.accelerator()}
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
            CASES[given["case"]](site)
    finally:
        site.machine.stop()


class Site:
    """A launched machine at the other end of the wire, as its visitors see it."""

    def __init__(self, image, work, accelerator):
        self.image, self.work, self.accelerator, self.machine = image, work, accelerator, None

    def launch(self, authority):
        """Switch it on, trusting an authority."""
        vm.make_key(self.work / "key", "certificate")
        files = {
            "meta-data": userdata.meta_data("i-1", "shop", [vm.public_key(self.work / "key")]),
            "user-data": (self.work / "user-data").read_text(),
            "vendor-data": f"#cloud-boothook\n#!/bin/sh\n{authority.hook}",
            "network-config": acme.NETWORK,
        }
        seed = vm.make_seed(self.work / "seed.iso", files)
        self.machine = vm.boot(
            self.image, seed, self.work / "vm", self.work / "key", accel=self.accelerator, more=acme.WIRE
        )

    def await_(self, there, patience=SOON):
        """Wait until something is so; how many seconds it took."""
        begun = time.monotonic()
        while not there():
            assert time.monotonic() - begun < patience, f"{self.said()}\n{self.machine.tail()}"
            assert self.machine.process.poll() is None, self.machine.tail()
            time.sleep(1)
        return round(time.monotonic() - begun)

    def serves(self, whose, name=NAME):
        """Whether visitors of a name see a certificate of somebody's."""
        return whose in acme.issuer(acme.served(name))

    def said(self):
        """What app-certificate has said since the boot."""
        return self.machine.ssh("sudo journalctl -q -b -o cat -u app-certificate", check=False).stdout

    def ask(self, scheme, name=NAME):
        """Status and headers of the front page."""
        connection = http.client.HTTPConnection(acme.THERE, 80, timeout=30)
        if scheme == "https":
            connection = http.client.HTTPSConnection(
                acme.THERE, 443, timeout=30, context=ssl._create_unverified_context()
            )
        connection.request("GET", "/", headers={"Host": name})
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}


def late_dns(site):
    """The name fails to resolve, then leads elsewhere, then here: no login, one order."""
    acme.say("set-servfail", NAME)
    with acme.authority(site.work) as authority:
        site.launch(authority)
        site.await_(lambda: site.serves("placeholder"))
        site.machine.await_ssh()
        assert site.machine.ssh("cloud-init status --wait >/dev/null", check=False, timeout=300).status == 0
        site.await_(lambda: f"waiting: {NAME}: resolve call failed" in site.said())
        acme.say("clear-servfail", NAME)
        acme.say("add-a", NAME, "10.9.0.77")
        site.await_(lambda: f"waiting: {NAME} leads to 10.9.0.77, which is not this machine" in site.said())
        assert authority.orders() == 0
        status, headers = site.ask("http")
        assert status == 200 and "strict-transport-security" not in headers
        acme.say("clear-a", NAME)
        acme.say("add-a", NAME, acme.THERE)
        print("trusted after", site.await_(lambda: site.serves("Pebble")), "s")
        site.await_(lambda: site.ask("http")[0] == 301, 10)
        assert site.ask("http")[1]["location"] == f"https://{NAME}/"
        assert "strict-transport-security" not in site.ask("http")[1]
        assert site.ask("https")[1]["strict-transport-security"] == "max-age=63072000"
        assert authority.orders() == 1
        failures = proof.look(site.machine, ["machine"], site.work / "vm").failures
        assert [name for name, _ in failures] == []
        serial = acme.served(NAME).serial_number
        site.machine.reboot()
        site.await_(lambda: acme.served(NAME) is not None)
        assert acme.served(NAME).serial_number == serial
        site.await_(lambda: "every name has its certificate" in site.said())
        assert site.machine.ssh("systemctl is-active app-certificate.timer", check=False).stdout == "inactive\n"
        assert authority.orders() == 1


CASES = {"late_dns": late_dns}
