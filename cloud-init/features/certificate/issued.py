"""Read the certificates that were issued to this machine from certbot's folders."""

import re
import ssl
from pathlib import Path
from typing import NamedTuple

from step import StepError, command

#: Paths below the root: of the certificate that browsers trust, and of one from an authority's staging environment.
TRUSTED, STAGING = Path("etc/letsencrypt/live/app"), Path("etc/letsencrypt/live/staging")


class Issued(NamedTuple):
    """The names of a certificate, and the begin and end of its validity (Unix time)."""

    names: frozenset = frozenset()
    begin: float = 0
    end: float = 0


def read(folder: Path) -> Issued:
    """Return the certificate in one of certbot's folders; one without names if nginx could not load it."""
    try:
        said = command(
            "openssl", "x509", "-noout", "-pubkey", "-dates", "-ext", "subjectAltName", "-in", folder / "fullchain.pem"
        )
        if command("openssl", "pkey", "-pubout", "-in", folder / "privkey.pem") not in said:
            return Issued()
    except StepError:
        return Issued()
    times = [ssl.cert_time_to_seconds(text) for text in re.findall("=(.* GMT)", said)]
    return Issued(frozenset(re.findall("DNS:([^,\\s]+)", said)), *times)
