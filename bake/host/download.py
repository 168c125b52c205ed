"""Download a file and compute its digest."""

from __future__ import annotations

import hashlib
import queue
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request

from bake.errors import NetworkError

#: The size of a chunk in bytes.
CHUNK = 1 << 20
#: Seconds to wait for data from the server.
TIMEOUT = 30
#: The largest file that `fetch` keeps in memory, in bytes.
LARGEST = 64 * 2**20


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from HTTPS to an address that others could answer for."""

    def redirect_request(self, req: Request, *words: Any) -> Request | None:
        """Return the request for the new address, which is the last one of the words."""
        address = str(words[-1])
        if not address.startswith(("https:",) if req.type == "https" else ("https:", "http:")):
            raise ConnectionError(f"it redirects to {address}, without HTTPS")
        return super().redirect_request(req, *words)


def _open(url: str | Request, timeout: float) -> Any:
    """Open an address of HTTP or HTTPS, and of no other scheme: an index could name a file of this computer."""
    request = Request(url) if isinstance(url, str) else url
    if request.type not in ("http", "https"):
        raise ValueError("it is not an address of HTTP")
    return urllib.request.build_opener(_Redirects).open(request, timeout=timeout)


def fetch(url: str, timeout: float) -> bytes:
    """Return the content of a small file. It has `timeout` seconds, however slowly it comes. Raises NetworkError."""
    answers: queue.Queue[bytes | Exception] = queue.Queue()
    threading.Thread(target=lambda: answers.put(_content(url, timeout)), daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        answer = TimeoutError(f"no complete answer within {timeout:.0f} s")
    if isinstance(answer, Exception):
        raise _fault(url, answer)
    return answer


def _content(url: str, timeout: float) -> bytes | Exception:
    """Return the content of a small file, or the error."""
    try:
        with _open(url, timeout) as stream:
            content: bytes = stream.read(LARGEST + 1)
            return content if len(content) <= LARGEST else ValueError(f"it has more than {LARGEST >> 20} MB")
    except (OSError, HTTPException, ValueError) as error:
        return error


def _fault(name: str, error: Exception) -> NetworkError:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
    return NetworkError(without_queries(f"{name} cannot be fetched: {error}"), "Check the address and the network.")


def without_queries(text: str) -> str:
    """Return a text without the queries of the addresses in it, because they may contain secrets."""
    return re.sub(r"(https?://[^\s?#]*)\?[^\s#'\"]*", r"\1", text)


def download(
    url: str | Request, out: Path, algorithm: str, progress: Callable[[float], None] = lambda share: None
) -> str:
    """Download a file to `out` and return its digest in hexadecimal. Raises NetworkError."""
    name = url if isinstance(url, str) else url.full_url
    digest = hashlib.new(algorithm)
    try:
        with _open(url, TIMEOUT) as stream, out.open("wb") as copy:
            size = int(stream.headers.get("Content-Length") or 0)
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                copy.write(chunk)
                progress(copy.tell() / max(size, copy.tell()))
            if copy.tell() < size:
                raise ConnectionError(f"the connection ended after {copy.tell()} of {size} bytes")
    except (OSError, HTTPException, ValueError) as error:
        raise _fault(name, error) from None
    return digest.hexdigest()
