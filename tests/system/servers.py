"""Servers of a test's own, on the loopback address; a guest of QEMU's user network finds them at 10.0.2.2."""

import contextlib
import http.server
import shutil
import socketserver
import ssl
import struct
import threading
import time
import urllib.error
import urllib.request

#: The host, as a guest sees it.
HOST = "10.0.2.2"
#: Seconds from NTP's epoch (1900) to Unix's.
NTP_EPOCH = 2208988800


@contextlib.contextmanager
def serve(server):
    """Run a server in a thread; its port."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files(folder, certificate=None):
    """A folder's files over HTTP; over HTTPS with a certificate (trustme's)."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words):
            super().__init__(*words, directory=folder)

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    return serve(server)


def moody_proxy(refusals):
    """A proxy for apt that refuses the first requests, `refusals` of them, and hands the others on."""
    left = [refusals]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if left[0] > 0:
                left[0] -= 1
                self.send_error(503, "not yet")
                return
            wanted = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            try:
                answer = urllib.request.urlopen(urllib.request.Request(self.path, headers=wanted), timeout=60)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                self.send_response(answer.status)
                for name in ("Content-Length", "Last-Modified", "Content-Type"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.end_headers()
                shutil.copyfileobj(answer, self.wfile)

        def log_message(self, *words):
            pass

    return serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)), left


def clock(address="127.0.0.1"):
    """A time server at NTP's own port, which only root can have."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            asked, server = self.request
            now = int((time.time() + NTP_EPOCH) * 2**32)
            # RFC 5905, figure 8: no leap, version 4, server; stratum 1; the client's own time comes back.
            head = struct.pack("!BBbbIIIQ", 0x24, 1, 6, -20, 0, 0, 0x4C4F434C, now)
            server.sendto(head + asked[40:48] + struct.pack("!QQ", now, now), self.client_address)

    return serve(socketserver.ThreadingUDPServer((address, 123), Handler))
