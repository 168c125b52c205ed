"""Read the certificates that were issued to this machine from certbot's folders."""

import re
import ssl
import time
from pathlib import Path
from typing import NamedTuple

from step import StepError, command

#: Paths below the root: of the certificate that browsers trust, and of one from an authority's staging environment.
TRUSTED, STAGING = Path("etc/letsencrypt/live/app"), Path("etc/letsencrypt/live/staging")


class Issued(NamedTuple):
    """The names of a certificate, the begin and end of its validity, and the begin of its first version (Unix time)."""

    names: frozenset = frozenset()
    begin: float = 0
    end: float = 0
    first: float = 0

    @property
    def hsts(self) -> int:
        """Return the seconds for which browsers may insist on HTTPS: an hour, and two years after a renewal.

        So a wrong name or a forgotten machine binds visitors for an hour only. An expired certificate ends it.
        """
        if time.time() > self.end:
            return 0
        return 3600 if self.begin < self.first + 86400 else 63072000


def read(folder: Path) -> Issued:
    """Return the certificate in one of certbot's folders; one without names if nginx could not load it."""
    try:
        certificate = command(
            "openssl", "x509", "-noout", "-pubkey", "-dates", "-ext", "subjectAltName", "-in", folder / "fullchain.pem"
        )
        if command("openssl", "pkey", "-pubout", "-in", folder / "privkey.pem") not in certificate:
            return Issued()
    except StepError:
        return Issued()
    # certbot keeps each version in its archive, and links to the last.
    path = (folder / "fullchain.pem").resolve().with_name("fullchain1.pem")
    first = command("openssl", "x509", "-noout", "-startdate", "-in", path) if path.exists() else certificate
    times = [ssl.cert_time_to_seconds(text) for text in re.findall("=(.* GMT)", certificate + first)]
    return Issued(frozenset(re.findall("DNS:([^,\\s]+)", certificate)), *times[:3])
