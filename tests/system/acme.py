"""An ACME authority, its DNS and a wire to a machine, all in a network namespace of the test's own.

Pebble is Let's Encrypt's own test authority; pebble-challtestsrv answers for all of the DNS.
"""

import base64
import contextlib
import io
import json
import re
import socket
import ssl
import tarfile
import time
import urllib.request
from datetime import UTC, datetime, timedelta

import trustme
from cryptography import x509

from bake.host import programs

#: This side of the wire, and the machine's.
HERE, THERE = "10.9.0.1", "10.9.0.10"
#: Where Pebble tells about itself.
MANAGEMENT = "127.0.0.1:15000"
#: Where challtestsrv is told what to answer.
ORDERS_TO_DNS = "http://127.0.0.1:8055"
#: Pebble by itself refuses each twentieth nonce.
CALM = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
#: Where it looks names up is said last.
PEBBLE = ("pebble", "-config", "pebble.json", "-dnsserver")
MAC = "52:54:00:0a:09:0a"
#: Words for QEMU: a second network card, at the other end of the wire.
WIRE = ("-nic", f"tap,ifname=wire,script=no,downscript=no,model=virtio-net-pci,mac={MAC}")
#: cloud-init's network settings: the first card is SSH's alone.
NETWORK = f"""
version: 2
ethernets:
  ssh:
    match: {{macaddress: "52:54:00:12:34:56"}}
    dhcp4: true
    dhcp4-overrides: {{use-dns: false, use-routes: false}}
  web:
    match: {{macaddress: "{MAC}"}}
    addresses: [{THERE}/24]
    nameservers: {{addresses: [{HERE}]}}
"""


def lay_wire():
    """Loopback, and a wire of which QEMU takes the other end."""
    for words in (
        "link set lo up", "tuntap add wire mode tap", f"addr add {HERE}/24 dev wire", "link set wire up",
    ):  # fmt: skip
        programs.run(["ip", *words.split()])


class Authority:
    """Pebble, and the certificate that vouches for its own address; `seconds` is the life of what it issues.

    It runs here, or `at` the machine itself, where it goes by the machine's clock.
    """

    def __init__(self, work, seconds=90 * 86400, at=HERE):
        work.mkdir(exist_ok=True)
        self.work, self.log, own = work, work / "pebble.log", trustme.CA()
        # As everybody's, it is over some day: a machine whose clock is years ahead does not believe it.
        over = datetime.now(UTC) + timedelta(days=400)
        self.root, certificate = own.cert_pem.bytes().decode(), own.issue_cert(at, not_after=over)
        self.directory = f"https://{at}:14000/dir"
        certificate.cert_chain_pems[0].write_to_path(work / "cert.pem")
        certificate.private_key_pem.write_to_path(work / "key.pem")
        settings = {
            "listenAddress": f"{at}:14000", "managementListenAddress": MANAGEMENT,
            "certificate": "cert.pem", "privateKey": "key.pem",
            "httpPort": 80, "tlsPort": 443, "certificateValidityPeriod": seconds,
        }  # fmt: skip
        (work / "pebble.json").write_text(json.dumps({"pebble": settings}))
        self.log.touch()

    @contextlib.contextmanager
    def running(self, dns=HERE, **faults):
        """Run it, with faults of its own (PEBBLE_…); it looks names up at `dns`.

        It refuses no nonce, which would count as another order.
        """
        with self.log.open("ab") as log:
            process = programs.start(
                [*PEBBLE, f"{dns}:53"], cwd=self.work, stdout=log, stderr=log, env={**CALM, **faults}
            )
        try:
            yield
        finally:
            programs.stop(process, grace=2)

    def orders(self):
        """How many orders were asked for."""
        return len(re.findall(r"POST /order-plz", self.log.read_text(errors="replace")))

    def trust(self):
        """A file with the root of what it issues, which it makes anew each time that it runs."""
        path = self.work / "issuer.pem"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"https://{MANAGEMENT}/roots/0", context=context, timeout=30) as answer:
            path.write_bytes(answer.read())
        return path

    def packed(self):
        """Pebble and its files for a machine: a .tar.gz, in base64."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for path in (
                programs.which("pebble"),
                *(self.work / name for name in ("cert.pem", "key.pem", "pebble.json")),
            ):
                archive.add(path, path.name)
        return base64.encodebytes(packed.getvalue()).decode()

    @property
    def hook(self):
        """A shell script for a machine's boot: trust this authority, and order there."""
        return (
            "[ -e /etc/app/authority ] || {\n"
            f"cat >> /etc/ssl/certs/ca-certificates.crt <<'E'\n{self.root}E\n"
            f"echo {self.directory} > /etc/app/authority; }}\n"
        )


#: A zone of the name server's own, with nothing in it that leads anywhere; who has the key may write challenges.
ZONE = """
$TTL 60
@ IN SOA ns me 1 3600 600 86400 60
@ IN NS ns
ns IN A {server}
"""
NAMED = """
options {{
    directory "{work}"; pid-file none; session-keyfile none; recursion no; dnssec-validation no;
    listen-on {{ {server}; }}; listen-on-v6 {{ none; }};
}};
controls {{ }};
key bake-key {{ algorithm hmac-sha512; secret "{secret}"; }};
zone "{zone}" {{
    type primary; file "zone"; notify no;
    update-policy {{ grant bake-key name _acme-challenge.{zone} TXT; }};
}};
"""
#: Where it listens: beside challtestsrv, which answers whatever a machine asks.
NAME_SERVER = "10.9.0.2"


@contextlib.contextmanager
def name_server(work, zone, secret):
    """BIND, for one zone; the key's value is `secret`. Its log is in `work`."""
    programs.run(["ip", "addr", "replace", f"{NAME_SERVER}/24", "dev", "wire"])
    work.mkdir(exist_ok=True)
    (work / "zone").write_text(ZONE.format(server=NAME_SERVER))
    (work / "named.conf").write_text(NAMED.format(work=work, server=NAME_SERVER, zone=zone, secret=secret))
    with (work / "named.log").open("ab") as log:
        process = programs.start(["named", "-g", "-c", work / "named.conf"], stdout=log, stderr=log)
    try:
        yield
    finally:
        programs.stop(process, grace=5)


@contextlib.contextmanager
def dns(work):
    """Answer all of the DNS: nothing at first, then what `say` was told."""
    work.mkdir(exist_ok=True)
    argv = [
        "pebble-challtestsrv", "-dns01", f"{HERE}:53", "-http01", "", "-https01", "", "-tlsalpn01", "",
        "-management", ORDERS_TO_DNS.removeprefix("http://"), "-defaultIPv4", "", "-defaultIPv6", "",
    ]  # fmt: skip
    with (work / "dns.log").open("ab") as log:
        process = programs.start(argv, stdout=log, stderr=log)
    try:
        yield
    finally:
        programs.stop(process, grace=2)


def say(order, name, *addresses):
    """Tell the DNS: say("add-a", "shop.example", "10.9.0.10"), "clear-a", "set-servfail", "clear-servfail"."""
    told = {"host": f"{name}.", **({"addresses": addresses} if addresses else {})}
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(f"{ORDERS_TO_DNS}/{order}", json.dumps(told).encode(), timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def connect(name):
    """A TLS connection to the machine, as a visitor of a name who trusts anybody. Raises OSError."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection((THERE, 443), timeout=30), server_hostname=name)


def served(name):
    """The certificate that the machine shows for a name, whoever signed it; None where it shows none."""
    try:
        with connect(name) as client:
            return x509.load_der_x509_certificate(client.getpeercert(binary_form=True))
    except OSError:
        return None


def issuer(certificate):
    """Who signed it, in a word or two."""
    return certificate.issuer.rfc4514_string() if certificate else ""


def names(certificate):
    """Whom it is for."""
    if certificate is None:
        return set()
    return set(
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    )
