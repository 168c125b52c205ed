"""Certificates that were issued to this machine, as certbot keeps them."""

import re
import ssl
from pathlib import Path
from typing import NamedTuple

from step import StepError, command

#: Below the root: the certificate that browsers trust, and one of an authority's staging environment.
TRUSTED, STAGING = Path("etc/letsencrypt/live/app"), Path("etc/letsencrypt/live/staging")


class Issued(NamedTuple):
    """A certificate's names, and its first and last second (Unix time)."""

    names: frozenset = frozenset()
    begin: float = 0
    end: float = 0


def read(folder: Path) -> Issued:
    """The certificate in a folder of certbot's; one without names where there is none that nginx would read."""
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
