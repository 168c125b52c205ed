"""The checks' own parts: how they read answers, and how they compare static files; on servers of the test's own."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shlex
import socket
import ssl
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
import testinfra
import trustme
from conftest import REPOSITORY, Fake

CHECKS = REPOSITORY / "tests"
STATIC_FILES = CHECKS / "machine/static_files.py"
#: Names that URLs, shells or nginx's configuration read in a way of their own.
AWKWARD = (
    "with space", "grüße", "日本.png", "latin-\udce9", "100%.txt", "%41", "what?.css", "a#b", "it's", 'say "hi"',
    "-dash", ".hidden", "a&b=c;d+e", "back\\slash", "new\nline", "[1-3]{a,b}.js", "~", "x" * 255,
)  # fmt: skip


@pytest.fixture(scope="module")
def checks() -> types.ModuleType:
    """tests/conftest.py, what the suites share."""
    module = types.ModuleType("checks")
    SourceFileLoader("checks", str(CHECKS / "conftest.py")).exec_module(module)
    return module


class Here:
    """A host for `ask`: this computer."""

    @staticmethod
    def run(command: str, *words: str) -> types.SimpleNamespace:
        done = subprocess.run(command % tuple(map(shlex.quote, words)), shell=True, capture_output=True, timeout=30)
        return types.SimpleNamespace(rc=done.returncode, stdout_bytes=done.stdout, stderr_bytes=done.stderr)


@contextlib.contextmanager
def answering(answer: bytes, *, closing: bool = True) -> Iterator[int]:
    """Listen on a port, and answer the first request with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                kept.append(client)
                client.recv(65536)
                client.sendall(answer)
                if closing:
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        for client in kept:
            client.close()


@pytest.mark.parametrize(
    ("output", "status", "headers", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\nhello", 200, {"server": "nginx"}, b"hello"),
        # A body of bytes, which looks like more heads.
        (b"HTTP/1.1 200 OK\r\n\r\n\x89PNG\r\n\r\n\xff\x00", 200, {}, b"\x89PNG\r\n\r\n\xff\x00"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 500 No\r\n\r\n", 200, {}, b"HTTP/1.1 500 No\r\n\r\n"),
        (b"HTTP/2 204 \r\nx-one: 1\r\n\r\n", 204, {"x-one": "1"}, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/2 103\r\nlink: </a>\r\n\r\nHTTP/2 403 \r\na: b\r\n\r\nc",
         403, {"a": "b"}, b"c"),
        (b"HTTP/1.0 302 Found\nLocation:  /caf\xe9:8 \nSet-Cookie: a\nset-cookie: b\n\n", 302,
         {"location": "/café:8", "set-cookie": "b"}, b""),
        # A connection that was cut behind the head.
        (b"HTTP/1.1 200\r\nServer: x", 200, {"server": "x"}, b""),
    ],
)  # fmt: skip
def test_what_curl_prints_is_read_as_bytes(
    checks: types.ModuleType, output: bytes, status: int, headers: dict[str, str], body: bytes
) -> None:
    assert checks.parse(output) == checks.Answer(status, headers, body)


def test_a_body_that_is_no_text_is_an_answer(checks: types.ModuleType) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00\r") as port:
        assert checks.ask(Here, "http://shop.example/", port, body=True).body == b"\xff\xfe\x00\r"


def test_a_large_body_stays_on_the_machine(checks: types.ModuleType) -> None:
    size, outputs = 5 << 20, []

    class Counting(Here):
        @staticmethod
        def run(command: str, *words: str) -> types.SimpleNamespace:
            outputs.append(Here.run(command, *words))
            return outputs[-1]

    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)) as port:
        assert checks.ask(Counting, "http://shop.example/", port) == checks.Answer(200, {"content-length": str(size)})
    assert len(outputs[0].stdout_bytes) < 100


def test_no_answer_has_curl_s_status(checks: types.ModuleType) -> None:
    with answering(b"") as port:
        answer = checks.ask(Here, "http://shop.example/", port)
    assert (answer.status, answer.headers) == (0, {"curl": "52"})


def test_a_page_that_never_ends_has_answered(checks: types.ModuleType) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", closing=False) as port:
        assert checks.ask(Here, "http://shop.example/", port, "--max-time 1").status == 200


def test_urls_are_asked_for_as_they_are(checks: types.ModuleType) -> None:
    heard: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        for path in ("/santé?a=[1-3]", "/{a,b}/../c'd"):
            assert checks.ask(Here, f"http://shop.example{path}", server.server_port).status == 204
        server.shutdown()
    assert heard == ["/sant%C3%A9?a=[1-3]", "/{a,b}/../c'd"]


def test_outputs_that_are_no_text_break_no_check(checks: types.ModuleType, fake: Fake) -> None:
    # ssh runs its last argument, as over there.
    fake("ssh", 'for last; do :; done; exec sh -c "$last"')
    fake("sudo", 'shift; exec "$@"')
    shell = checks.RootShell(testinfra.get_host("ssh://debian@machine").backend)
    try:
        done = shell.run("printf 'caf\\303\\251 \\377'; exit 3")
    finally:
        shell.close()
    assert (done.rc, done.stdout, done.stdout_bytes) == (3, "café \\xff", b"caf\xc3\xa9 \xff")


class Nginx(http.server.ThreadingHTTPServer):
    """Serves files of a folder below /static over HTTPS as nginx does; what a test wants to be wrong is wrong."""

    daemon_threads = True

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, folder))
        self.status, self.header, self.wrong = 200, "max-age=3600", dict[str, Callable[[bytes], bytes]]()
        self.asked = list[str]()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("another.example").configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for an `Nginx`."""

    server: Nginx
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def __init__(self, folder: Path, *words: object) -> None:
        self.folder = folder
        super().__init__(*words)  # type: ignore[arg-type]

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = os.fsdecode(unquote_to_bytes(self.path.partition("?")[0])).removeprefix("/static/")
        self.server.asked.append(path)
        found = (self.folder / path).is_file()
        content = (self.folder / path).read_bytes() if found else b"none"
        content = self.server.wrong.get(path, lambda same: same)(content)
        self.send_response(self.server.status if found else 404)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", self.server.header)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of static files of all kinds."""
    static = tmp_path / "release/static"
    static.mkdir(parents=True)
    for name in AWKWARD:
        (static / name).write_bytes(b"of " + os.fsencode(name))
    (static / "favicon.ico").write_bytes(bytes(range(256)))
    (static / "empty.css").touch()
    deep = static / "a" / ("d" * 250) / ("e" * 250)
    deep.mkdir(parents=True)
    (deep / "deep.js").write_text("deep")
    (tmp_path / "release/shared").mkdir()
    (tmp_path / "release/shared/logo.svg").write_text("<svg/>")
    (static / "shared").symlink_to("../shared")
    (static / "around").symlink_to(".")
    (static / "nowhere").symlink_to("/does/not/exist")
    (static / "itself").symlink_to("itself")
    return static


@pytest.fixture
def nginx(folder: Path, authority: trustme.CA) -> Iterator[Nginx]:
    server = Nginx(folder, authority)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def differences(nginx: Nginx, folders: dict[str, Path], data: Path | str = "/var/lib/app") -> list[str]:
    """Run the program as the checks do."""
    given = {prefix: str(folder) for prefix, folder in folders.items()}
    argument = json.dumps({"name": "shop.example", "port": nginx.server_port, "data": [str(data)], "folders": given})
    done = subprocess.run(
        [sys.executable, "-c", STATIC_FILES.read_text(), argument], env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found: list[str] = json.loads(done.stdout)
    return found


def test_files_of_all_kinds_are_compared(nginx: Nginx, folder: Path) -> None:
    assert differences(nginx, {"/static": folder}) == []
    asked = set(nginx.asked)
    assert {*AWKWARD, "favicon.ico", "empty.css"} <= asked
    assert any(path.endswith("deep.js") for path in asked) and "shared/logo.svg" in asked
    # Each over one connection, once.
    assert len(nginx.asked) == len(asked) <= 60


@pytest.mark.parametrize(
    "name", ["favicon.ico", "with space", "latin-\udce9", "100%.txt", "what?.css", "shared/logo.svg"]
)
def test_another_byte_is_seen(nginx: Nginx, folder: Path, name: str) -> None:
    nginx.wrong[name] = lambda content: bytes([content[0] ^ 1]) + content[1:]
    # A link leads to it once more.
    found = differences(nginx, {"/static": folder})
    assert found and all("other bytes between 0 and" in text for text in found)


def test_another_length_is_seen(nginx: Nginx, folder: Path) -> None:
    nginx.wrong = {"empty.css": lambda content: b"more", "favicon.ico": lambda content: content[:-1]}
    assert set(differences(nginx, {"/static": folder})) >= {
        "/static/empty.css: Content-Length is 4, the file has 0 bytes",
        "/static/favicon.ico: Content-Length is 255, the file has 256 bytes",
    }


def test_a_file_that_is_not_served_is_seen(nginx: Nginx, folder: Path) -> None:
    nginx.status = 403
    found = differences(nginx, {"/static": folder})
    assert len(found) == len(nginx.asked) > 20 and all(text.endswith(": status 403") for text in found)
    assert "/static/gr%C3%BC%C3%9Fe: status 403" in found


def test_an_answer_of_the_app_s_is_seen(nginx: Nginx, folder: Path) -> None:
    nginx.header = "no-cache"
    found = differences(nginx, {"/static": folder})
    assert "/static/favicon.ico: not answered by nginx itself: Cache-Control is no-cache" in found


def test_no_server_is_seen(folder: Path, authority: trustme.CA) -> None:
    gone = Nginx(folder, authority)
    gone.server_close()
    assert all("no answer: ConnectionRefusedError" in text for text in differences(gone, {"/static": folder}))


def test_the_work_is_bounded(nginx: Nginx, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(3000):
        (many / f"1{number}.{number}").write_text("x")
    nginx.RequestHandlerClass = functools.partial(Handler, many)
    # The largest file is compared whole only as far as the bytes go, which two of this size are not.
    for name in ("0.bin", "0.iso"):
        with (many / name).open("wb") as stream:
            stream.truncate(70 << 20)
    nginx.wrong["0.iso"] = lambda content: content[:-1] + b"!"
    assert differences(nginx, {"/static": many}) == []
    assert len(nginx.asked) <= 60 and {"0.bin", "0.iso"} <= set(nginx.asked)
    nginx.wrong["0.bin"] = lambda content: content[:-1] + b"!"
    (found,) = differences(nginx, {"/static": many})
    assert found.startswith("/static/0.bin: other bytes")


def test_what_another_prefix_serves_and_the_app_s_data_are_left_to_others(
    nginx: Nginx, folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data/uploads"
    data.mkdir(parents=True)
    (data / "photo.jpg").write_text("of a visitor's")
    (folder / "uploads").symlink_to(data)
    (folder / "admin").mkdir()
    (folder / "admin/hidden.css").write_text("not served: its URL is of the other folder")
    other = tmp_path / "other"
    other.mkdir()
    (folder / "a" / "b.css").write_text("b")
    nginx.wrong = {"uploads/photo.jpg": lambda content: b"", "admin/hidden.css": lambda content: b""}
    assert (
        differences(nginx, {"/static": folder, "/static/admin": other, "/none": tmp_path / "none"}, tmp_path / "data")
        == []
    )
    assert "uploads/photo.jpg" not in nginx.asked and "a/b.css" in nginx.asked


def test_the_sealed_disk_s_reader_finds_files_with_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, disk = tmp_path / "source", tmp_path / "disk"
    expected = set()
    for name in AWKWARD:
        (source / "srv" / name).mkdir(parents=True)
        (source / "srv" / name / ".env").touch()
        expected |= {f"/srv/{name}", f"/srv/{name}/.env"}
    with disk.open("wb") as stream:
        stream.truncate(8 << 20)
    subprocess.run(["/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", source, disk], check=True)
    monkeypatch.setenv("BAKE_DISK", str(disk))
    sealed = types.ModuleType("sealed")
    SourceFileLoader("sealed", str(CHECKS / "proof/test_sealed.py")).exec_module(sealed)
    assert set(sealed.walk("/srv")) == expected
    assert sealed.names("/srv") == set(AWKWARD)
    assert sealed.names("/none") == set(sealed.walk("/none")) == set()
    with pytest.raises(AssertionError):
        sealed.test_12_credentials()
