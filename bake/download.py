"""One file from a web server, digested on its way."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from bake.errors import NetworkError

#: Bytes at a time of what is fetched and digested.
CHUNK = 1 << 20
#: Seconds that a server may stay silent.
PATIENCE = 30


def download(url: str, out: Path, algorithm: str, progress: Callable[[float], None] = lambda share: None) -> str:
    """Put what a server has at `url` into `out`; its digest, in hexadecimal. Raises NetworkError."""
    digest = hashlib.new(algorithm)
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as stream, out.open("wb") as copy:
            size = int(stream.headers.get("Content-Length") or 0)
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                copy.write(chunk)
                progress(copy.tell() / max(size, copy.tell()))
            if copy.tell() < size:
                raise ConnectionError(f"it ended after {copy.tell()} of {size} bytes")
    except (OSError, HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise NetworkError(f"{url} cannot be fetched: {error}", "Check the address and the network.") from None
    return digest.hexdigest()
