"""The time limit of a connection, with the two ends of a real one."""

from __future__ import annotations

import http.client
import socket
import threading
import time

import pytest
from conftest import soon

from bake.host.sockets import time_limit


def status(stream: socket.socket) -> int:
    response = http.client.HTTPResponse(stream)
    response.begin()
    return response.status


def test_bytes_that_arrive_do_not_extend_the_limit() -> None:
    ours, theirs = socket.socketpair()

    def send() -> None:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        with pytest.raises(OSError):
            while theirs.send(b"x"):
                time.sleep(0.05)

    sender = threading.Thread(target=send)
    sender.start()
    begin = time.monotonic()
    # The status is there, but not the end of the headers.
    with ours, pytest.raises(TimeoutError, match="timed out"), time_limit(ours, 0.4):
        status(ours)
    assert 0.3 < time.monotonic() - begin < 5
    sender.join()
    theirs.close()


def test_an_answer_in_time_and_a_lost_connection_are_what_they_are() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")
        with time_limit(ours, 30):
            assert status(ours) == 404
        theirs.shutdown(socket.SHUT_RDWR)
        with pytest.raises(http.client.RemoteDisconnected), time_limit(ours, 30):
            status(ours)
    assert soon(lambda: not any(isinstance(thread, threading.Timer) for thread in threading.enumerate()))
