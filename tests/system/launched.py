"""A launched machine at the other end of a wire, as its visitors see it: acme.py lays the wire."""

import contextlib
import http.client
import socket
import time

import acme

from bake.document import cloud_config
from bake.verify import proof
from bake.vm import qemu

NAME = "shop.example"
#: Seconds for what happens within two looks of an emulated machine.
SOON = 240


class Site:
    """A machine of an image, and its disk over its boots."""

    def __init__(self, image, work, accelerator):
        self.disk, self.work, self.accelerator, self.boots = image, work, accelerator, 0
        self.booted: qemu.Machine | None = None
        #: The machine's name at its provider; cloud-init takes another one for a new machine.
        self.instance = "i-1"
        qemu.make_key(work / "key", "certificate")

    @property
    def machine(self) -> qemu.Machine:
        """The machine as it was booted last."""
        assert self.booted, "it was never switched on"
        return self.booted

    def switch_on(self, authority, more="", words=()):
        """Boot it, trusting an authority; `more` runs early, `words` are for QEMU."""
        self.boots += 1
        place = self.work / f"boot-{self.boots}"
        place.mkdir()
        files = {
            "meta-data": cloud_config.meta_data(self.instance, "shop", [qemu.public_key(self.work / "key")]),
            "user-data": (self.work / "user-data").read_text(),
            "vendor-data": f"#cloud-boothook\n#!/bin/sh\n{authority.hook}{more}",
            "network-config": acme.NETWORK,
        }
        seed = qemu.make_seed(place / "seed.iso", files)
        self.booted = qemu.boot(
            self.disk, seed, place, self.work / "key", qemu.VmOptions(self.accelerator, arguments=(*acme.WIRE, *words))
        )
        self.disk = place / "overlay.qcow2"

    def pull_the_plug(self):
        """The disk stays as it is."""
        self.machine.process.kill()
        self.machine.process.wait()

    def sudo(self, script, patience=300):
        """Run a script as root; what it printed."""
        self.machine.await_ssh()
        return self.machine.ssh("sudo sh", stdin=script, check=False, timeout=patience).stdout

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

    def said(self, who="app-certificate"):
        """What app-certificate, or another, has said since the boot."""
        return self.machine.ssh(f"sudo journalctl -q -b -o cat -t {who}", check=False).stdout

    def ask(self, scheme, name=NAME):
        """Status and headers of the front page."""
        connection = http.client.HTTPConnection(acme.THERE)
        connection.sock = acme.connect(name) if scheme == "https" else socket.create_connection((acme.THERE, 80), 30)
        with contextlib.closing(connection):
            connection.request("GET", "/", headers={"Host": name})
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}


def looked(site):
    """The checks of the machine that failed."""
    place = site.work / f"look-{time.monotonic_ns()}"
    place.mkdir()
    return [name for name, _ in proof.run_checks(site.machine, ["machine"], place).failures]
