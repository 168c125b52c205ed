"""Run the machine's nginx on loopback: its own files below a temporary root, and behind it an app that reports.

    with MachineNginx(tmp_path / "root", ["shop.example"]) as nginx:
        answer = nginx.get("/", "shop.example:8080", {"X-Real-IP": "192.0.2.1"})
        assert answer.params["HTTP_HOST"] == "shop.example:8080"

The settings are the machine's, byte for byte, but for four things: paths lie below the root, ports are free ones of
127.0.0.1, logs are files, and there is one process.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import trustme

from bake.config.debian import DEBIAN_12, DEBIAN_13, Target
from bake.host import paths, programs

#: Seconds that nginx may take to start, and an answer to come.
PATIENCE = 10
#: The beginnings of absolute paths in the machine's files.
PATHS = re.compile(r"(?<![\w.-])/(?=(?:etc|run|srv|usr|var)/)")
#: nginx's package makes these folders, at places that are compiled in.
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
#: The file of the machine that all others are included from.
MAIN = "usr/lib/app/nginx/nginx.conf"

Params = dict[str, str]


def certificate_files(*names: str) -> dict[str, str]:
    """Return the files of a machine whose names have a trusted certificate."""
    made = trustme.CA().issue_cert(*names)
    live = "etc/letsencrypt/live/app"
    return {
        f"{live}/fullchain.pem": made.cert_chain_pems[0].bytes().decode(),
        f"{live}/privkey.pem": made.private_key_pem.bytes().decode(),
        "srv/app/current/settings/issued.py": (paths.features() / "certificate/issued.py").read_text(),
    }


def program() -> Path:
    """Return the path of nginx: the system's, or the one that `nox -s unit` unpacked beside this Python."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("nginx", path=os.pathsep.join([beside, programs.search_path()]))
    assert found, "nginx is not installed. `nox -s unit` unpacks Debian's; elsewhere, install it."
    return Path(found).resolve()


def target(nginx: Path) -> Target:
    """Return the Debian version whose settings this nginx takes: `http2` is a directive from 1.25.1 on."""
    version = programs.run([nginx, "-v"]).stderr.partition("nginx/")[2].split()[0]
    return DEBIAN_13 if tuple(map(int, version.split("."))) >= (1, 25, 1) else DEBIAN_12


def read_packet(client: socket.socket) -> list[tuple[str, str]]:
    """Read the parameters of a request in uwsgi's protocol, in order, repeated ones included."""
    kind, size, other = struct.unpack("<BHB", client.recv(4, socket.MSG_WAITALL))
    assert (kind, other) == (0, 0)
    packet = client.recv(size, socket.MSG_WAITALL)
    words = []
    while packet:
        (length,) = struct.unpack("<H", packet[:2])
        words.append(packet[2 : 2 + length].decode("latin-1"))
        packet = packet[2 + length :]
    return list(zip(words[::2], words[1::2], strict=True))


def report(params: Params, body: bytes) -> bytes:
    """Return a response that holds the parameters and the body of a request, as JSON."""
    text = json.dumps({"params": params, "body": body.decode("latin-1")}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


class ReportingApp:
    """An app behind nginx. `requests` are the parameters of each request; `answer` makes the responses."""

    def __init__(self, path: Path) -> None:
        """Listen on a socket at `path`."""
        self.requests: list[Params] = []
        self.answer: Callable[[Params, bytes], bytes] = report
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        # Ends with the listener.
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                with client, contextlib.suppress(ConnectionError):
                    pairs = read_packet(client)
                    params = dict(pairs)
                    # uWSGI takes the last value of a name; the machine's settings give each name once.
                    if len(params) != len(pairs):
                        params["REPEATED"] = str(pairs)
                    self.requests.append(params)
                    body = client.recv(int(params.get("CONTENT_LENGTH") or 0), socket.MSG_WAITALL)
                    client.sendall(self.answer(params, body))

    def close(self) -> None:
        """Stop listening; nginx finds nobody from then on."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@dataclass(frozen=True)
class Answer:
    """A response. Its status is 0 where the server closed the connection instead."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def params(self) -> Params:
        """The parameters that the app reports."""
        assert self.status == 200, self
        params: Params = json.loads(self.body)["params"]
        assert "REPEATED" not in params, params["REPEATED"]
        return params


NO_ANSWER = Answer(0, {}, b"")


class MachineNginx:
    """A running nginx with the machine's settings for `domains`, at the ports `http` and `https`; behind it is `app`.

    `files` are further files below the root by their paths: the release's settings, say, or a certificate. They are
    there before the machine's `configure` runs.
    """

    def __init__(self, root: Path, domains: Sequence[str] = (), files: Mapping[str, str] | None = None) -> None:
        """Configure the machine below `root` and start nginx. Raises AssertionError if it does not start."""
        self.root = root
        #: The address that the visitor's connections come from.
        self.source = "127.0.0.1"
        nginx = program()
        self._lay_files(nginx, domains, files or {})
        programs.run([sys.executable, "-B", root / "usr/lib/app/configure", root])
        with socket.socket() as plain, socket.socket() as encrypted:
            # A port that is bound and not listened on stays ours. nginx sets the same option, so it may have it.
            for reserved in (plain, encrypted):
                reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                reserved.bind(("127.0.0.1", 0))
            self.http, self.https = plain.getsockname()[1], encrypted.getsockname()[1]
            self._rewrite()
            self.app = ReportingApp(root / "run/app/uwsgi.sock")
            options = ("-e", root / "error.log", "-g", "daemon off; master_process off;")
            argv = programs.contained_argv([nginx, "-p", root, "-c", root / MAIN, *options])
            self.process = Popen(argv, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
            self._await_start()

    def _lay_files(self, nginx: Path, domains: Sequence[str], files: Mapping[str, str]) -> None:
        for folder in ("rootfs/usr/lib/app", f"rootfs.{target(nginx).name}/usr/lib/app"):
            shutil.copytree(paths.tree() / "cloud-init" / folder, self.root / "usr/lib/app", dirs_exist_ok=True)
        for place in ("etc/app", "etc/nginx", "run/app", "srv/app/current/settings/nginx", "temp", "var/empty"):
            (self.root / place).mkdir(parents=True)
        # All that the machine takes of nginx's package. It lies beside the program, also where that is only unpacked.
        shutil.copy(nginx.parents[2] / "etc/nginx/mime.types", self.root / "etc/nginx")
        given = {
            "etc/app/domains": "".join(f"{name}\n" for name in domains),
            # With certificate.dns, a machine has wildcards.
            "srv/app/current/recipe.json": '{"dns": {}}',
            "run/app/state": "is being set up",
        }
        for path, text in {**given, **files}.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)

    def _rewrite(self) -> None:
        for folder in (
            "usr/lib/app/nginx",
            "run/app/nginx",
            "srv/app/current/settings",
            "srv/app/current/settings/nginx",
        ):
            for path in (self.root / folder).glob("*.conf"):
                text = PATHS.sub(f"{self.root}/", path.read_text())
                text = re.sub(r"(?m)^listen \[.*\n", "", text)
                text = text.replace("127.0.0.1:443", f"127.0.0.1:{self.https}")
                for port, own in (("80", self.http), ("443", self.https)):
                    text = re.sub(rf"(?m)^listen {port}\b", f"listen 127.0.0.1:{own}", text)
                path.write_text(text)
        main = (self.root / MAIN).read_text().replace("user www-data;\n", "")
        main = re.sub(r"(error|access)_log syslog:\S+", rf"\1_log {self.root}/\1.log", main)
        folders = "".join(f"    {name}_temp_path temp/{name};\n" for name in TEMPORARY)
        (self.root / MAIN).write_text(main.replace("http {\n", f"http {{\n{folders}", 1))

    def _await_start(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not (self.root / "run/nginx.pid").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise AssertionError(f"nginx does not start: {self.errors()}")
            time.sleep(0.005)

    def socket_of_app(self) -> Path:
        """Stop the app, and return the path of the socket of app.service, to which nginx's link now leads."""
        self.app.close()
        door, path = (self.root / "run/app" / name for name in ("uwsgi.sock", "app.sock"))
        door.unlink()
        door.symlink_to(path)
        return path

    def errors(self) -> str:
        """Return what nginx has logged as an error."""
        log = self.root / "error.log"
        return log.read_text() if log.exists() else ""

    def close(self) -> None:
        """Stop nginx and the app."""
        self.process.kill()
        self.process.wait()
        self.app.close()

    def __enter__(self) -> MachineNginx:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def connect(self, tls: str | None = None, protocol: str = "http/1.1") -> socket.socket:
        """Connect to the HTTP port; where `tls` is given, to the HTTPS port by that name (by none if empty)."""
        port = self.http if tls is None else self.https
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE, (self.source, 0))
        if tls is None:
            return plain
        context = ssl._create_unverified_context()
        context.set_alpn_protocols([protocol])
        try:
            return context.wrap_socket(plain, server_hostname=tls or None)
        except OSError:
            plain.close()
            raise

    def send(self, request: str, tls: str | None = None, body: bytes = b"") -> Answer:
        """Send a request as it is written, but for its line ends: send("GET / HTTP/1.0")."""
        with self.connect(tls) as client:
            client.sendall(request.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
            answer = http.client.HTTPResponse(client, method=request.partition(" ")[0])
            try:
                answer.begin()
                with answer:
                    headers = {name.lower(): value for name, value in answer.getheaders()}
                    return Answer(answer.status, headers, answer.read())
            except (http.client.RemoteDisconnected, ConnectionResetError):
                return NO_ANSWER

    def get(self, path: str, host: str, headers: Mapping[str, str] | None = None, tls: str | None = None) -> Answer:
        """Send an ordinary GET request."""
        lines = [f"{name}: {value}" for name, value in {"Host": host, **(headers or {})}.items()]
        return self.send("\n".join([f"GET {path} HTTP/1.1", *lines, "Connection: close"]), tls)

    def get_http2(self, tls: str, headers: Mapping[str, str]) -> Answer:
        """Send an HTTP/2 request with `headers`, pseudo-headers first; return its status and body."""
        words = (word.encode("latin-1") for pair in headers.items() for word in pair)
        # RFC 7541: each header a literal without indexing, not compressed.
        pairs = (b"\x00" + _counted(word) + _counted(next(words)) for word in words)
        request = _frame(SETTINGS, 0, 0, b"") + _frame(HEADERS, END_HEADERS | END_STREAM, 1, b"".join(pairs))
        status, body, ended = 0, b"", False
        with self.connect(tls, "h2") as client, client.makefile("rb") as reader:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + request)
            while not ended and (head := reader.read(9)):
                payload, kind = reader.read(int.from_bytes(head[:3], "big")), head[3]
                if kind == HEADERS:
                    status = STATUSES.get(payload[0]) or int(payload[2:5])
                elif kind == DATA:
                    body += payload
                ended = kind in (RST_STREAM, GOAWAY) or (kind in (HEADERS, DATA) and bool(head[4] & END_STREAM))
        return Answer(status, {}, body)

    def http2_settings(self) -> dict[int, int]:
        """Return the settings that nginx sends first on an HTTP/2 connection."""
        with self.connect("", "h2") as client, client.makefile("rb") as reader:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, b""))
            head = reader.read(9)
            assert head[3] == SETTINGS
            return dict(struct.iter_unpack(">HI", reader.read(int.from_bytes(head[:3], "big"))))


#: HTTP/2's types of frames, and their flags (RFC 9113, section 6).
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
#: The statuses that are one byte (RFC 7541, appendix A).
STATUSES: dict[Any, int] = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _counted(word: bytes) -> bytes:
    assert len(word) < 127
    return bytes([len(word)]) + word
