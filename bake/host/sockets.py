"""Limit the time that a server may take for an answer."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def time_limit(stream: socket.socket, seconds: float) -> Iterator[None]:
    """Shut a connection down after `seconds`, and raise TimeoutError in the block that reads from it.

    The timeout of a socket begins again with each byte, so a server that sends one now and then would never end.
    """
    expired = threading.Event()

    def end() -> None:
        expired.set()
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not expired.is_set():
            raise
    finally:
        timer.cancel()
    # http.client takes the end of a connection for the end of the headers.
    if expired.is_set():
        raise TimeoutError("timed out")
