"""The package index: its credentials stay out of commands, and an unreachable index is named."""

from __future__ import annotations

import base64
import http.server
import threading
from pathlib import Path
from typing import ClassVar

import pytest
from app_locks import fails

from bake.bundle import lock, package_index, uv_resolver, wheel_cache
from bake.bundle.lock import Lock
from bake.bundle.uv_resolver import CompileOptions
from bake.config.debian import DEBIAN_13
from bake.config.recipe import Recipe
from bake.errors import BakeError, NetworkError
from bake.host.cache import Age

pytestmark = pytest.mark.usefixtures("cache_folder")


def test_no_network(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    error = fails(NetworkError, app, "flask\n", index="https://127.0.0.1:9/simple")
    assert "https://127.0.0.1:9" in error.message
    monkeypatch.setenv("PIP_RETRIES", "1")
    locked = Lock(f"nowhere==1.0 \\\n    --hash=sha256:{'0' * 64}\n", "key")
    with pytest.raises(NetworkError):
        wheel_cache.wheels(locked, DEBIAN_13, "https://127.0.0.1:9/simple")


class Index(http.server.BaseHTTPRequestHandler):
    """A package index that wants a password, and remembers who asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Nothing, to anybody."""
        self.asked.append(self.headers.get("Authorization", ""))
        self.send_response(401 if not self.asked[-1] else 404)
        self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the test's own output."""


def test_an_index_is_told_who_asks(app: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("BAKE_INDEX_USERNAME", "me@work")
    monkeypatch.setenv("BAKE_INDEX_PASSWORD", "s/ecret")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (app / "requirements.txt").write_text("flask\n")
        monkeypatch.setenv("BAKE_INDEX_HOST", f"127.0.0.1:{server.server_port}")
        # A recipe takes https alone; a server for tests has no certificate.
        recipe = Recipe.model_construct(**{**dict(Recipe()), "index": f"http://127.0.0.1:{server.server_port}/simple"})
        with pytest.raises(BakeError) as caught:
            lock.resolve(lock.Requirements.read(app, recipe, DEBIAN_13), Age())
        server.shutdown()
    assert base64.b64encode(b"me@work:s/ecret").decode() in Index.asked[-1]
    assert "ecret" not in f"{caught.value} {caught.value.hint} {caught.value.details}"
    words = [*uv_resolver.compile_argv(DEBIAN_13, CompileOptions()), *wheel_cache.download_argv(DEBIAN_13)]
    assert not [word for word in words if "http" in word]
    assert package_index.index_env(None) == {}


def test_a_source_is_requested_with_the_credentials_of_its_own_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    index = "https://index.example/simple/"
    anonymous = package_index.index_request("https://index.example/a.tar.gz", index)
    assert not anonymous.has_header("Authorization")
    monkeypatch.setenv("BAKE_INDEX_HOST", "index.example")
    monkeypatch.setenv("BAKE_INDEX_USERNAME", "me@work")
    monkeypatch.setenv("BAKE_INDEX_PASSWORD", "s/ecret")
    request = package_index.index_request("https://me:****@index.example/a.tar.gz", index)
    assert request.full_url == "https://index.example/a.tar.gz"
    assert request.get_header("Authorization") == f"Basic {base64.b64encode(b'me@work:s/ecret').decode()}"
    for url in ("https://files.example/a.tar.gz", "http://index.example/a.tar.gz"):
        assert not package_index.index_request(url, index).has_header("Authorization")


@pytest.mark.parametrize("host", ["packages.example", "index.example:8443", "example", "evil.index.example"])
def test_the_index_of_a_stranger_gets_no_credentials(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("USERNAME", "me@work"), ("PASSWORD", "s/ecret"), ("HOST", "index.example")):
        monkeypatch.setenv(f"BAKE_INDEX_{name}", value)
    index = f"https://{host}/simple/"
    assert set(package_index.index_env(index).values()) == {index}
    assert not package_index.index_request(f"https://{host}/a.tar.gz", index).has_header("Authorization")
    assert "me%40work:s%2Fecret@index.example" in str(package_index.index_env("https://index.example/simple/"))


def test_credentials_without_a_host_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKE_INDEX_USERNAME", "me")
    with pytest.raises(NetworkError, match="not the host that may get it") as caught:
        package_index.index_env("https://index.example:8443/simple/")
    assert "set BAKE_INDEX_HOST=index.example:8443" in caught.value.hint
    assert package_index.index_env(None) == {}
