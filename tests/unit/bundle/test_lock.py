"""The lock and the wheels. The first tests ask the package index."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import shutil
import tarfile
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import Site, publish

from bake.bundle import lock, release_archive
from bake.bundle.lock import Lock
from bake.config.debian import DEBIAN_13
from bake.config.recipe import Recipe
from bake.errors import BakeError, ConflictError, NetworkError, RequirementError, WheelError
from bake.host.cache import Age

pytestmark = pytest.mark.usefixtures("cache_folder")


def resolve(folder: Path, requirements: str, refresh: bool = False, max_age_days: float = 7, **keys: object) -> Lock:
    (folder / "requirements.txt").write_text(requirements)
    recipe = Recipe.model_validate(keys)
    return lock.resolve(folder, recipe, DEBIAN_13, Age(max_age_days, refresh))


def fails(kind: type[BakeError], folder: Path, requirements: str, **keys: str) -> BakeError:
    with pytest.raises(kind) as caught:
        resolve(folder, requirements, False, 7, **keys)
    return caught.value


@pytest.mark.parametrize("file", [None, "no-such-thing-as-this==0\n"])
def test_no_requirements_are_an_empty_lock(app: Path, file: str | None) -> None:
    # Whatever lies there: an empty list is what bake.yaml says.
    if file:
        (app / "requirements.txt").write_text(file)
    recipe = Recipe.model_validate({"requirements": []})
    locked = lock.resolve(app, recipe, DEBIAN_13, Age())
    assert locked.text.strip() == ""
    assert lock.wheels(locked, DEBIAN_13, recipe) == []


def test_flask_is_locked_fetched_and_packed(app: Path, cache_folder: Path) -> None:
    recipe = Recipe()
    locked = resolve(app, "flask==3.1.*\n")
    assert "flask==3.1." in locked.text
    assert "#" not in locked.text
    wheels = lock.wheels(locked, DEBIAN_13, recipe)
    assert any(wheel.name.startswith("markupsafe-") and "cp313" in wheel.name for wheel in wheels)
    before = time.monotonic()
    assert resolve(app, "# said otherwise\nflask==3.1.*   # the same\n") == locked
    assert lock.wheels(locked, DEBIAN_13, recipe) == wheels
    assert time.monotonic() - before < 0.3
    packed = release_archive.pack(app, recipe, locked, wheels, app.parent / "a.tar")
    with tarfile.open(packed.path) as archive:
        inner = archive.extractfile("lock.txt")
        assert inner is not None
        pinned = inner.read().decode()
        assert [f"wheels/{wheel.name}" for wheel in wheels] == [
            n for n in archive.getnames() if n.startswith("wheels/")
        ]
    assert set(lock.HASH.findall(pinned)) == {hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}
    assert pinned.count("==") == len(wheels)

    wheels[0].write_bytes(b"something else")
    with pytest.raises(WheelError, match=wheels[0].name):
        release_archive.pack(app, recipe, locked, wheels, app.parent / "b.tar")
    assert not (app.parent / "b.tar").exists()
    assert lock.wheels(locked, DEBIAN_13, recipe) == wheels
    release_archive.pack(app, recipe, locked, wheels, app.parent / "b.tar")


def test_a_package_without_a_wheel_is_built_here(app: Path, cache_folder: Path) -> None:
    locked = resolve(app, "docopt==0.6.2\nsix\n")
    assert locked.built == ("docopt",)
    wheels = lock.wheels(locked, DEBIAN_13, Recipe())
    docopt, _ = wheels
    assert docopt.name == "docopt-0.6.2-py2.py3-none-any.whl"
    packed = release_archive.pack(app, Recipe(), locked, wheels, app.parent / "a.tar")
    # The same source, built anew: the same bytes, so that an app that did not change is known again.
    shutil.rmtree(cache_folder)
    again = resolve(app, "docopt==0.6.2\nsix\n")
    assert again.text == locked.text
    wheels = lock.wheels(again, DEBIAN_13, Recipe())
    assert release_archive.pack(app, Recipe(), again, wheels, app.parent / "b.tar").sha256 == packed.sha256
    assert resolve(app, "docopt==0.6.2\nsix\n").built == ()


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (
            "flask\nflask-of-no-such-name\n",
            RequirementError,
            "requirements.txt:2: the package index has no package flask-of-no-such-name",
        ),
        ("\nflask==99.1\n", RequirementError, "requirements.txt:2: the package index has no release of flask==99.1"),
        ("flask>=99\n", RequirementError, "requirements.txt:1: the package index has no release of flask>=99"),
        (
            "flask==3.0.0\nWerkzeug<2\n",
            ConflictError,
            "flask==3.0.0 (requirements.txt:1), Werkzeug<2 (requirements.txt:2)",
        ),
        # Only a source, for Python 2 alone; only a source, which has C code.
        ("flask\nwsgiref\n", WheelError, "requirements.txt:2: wsgiref has no wheel for Python 3.13 on debian-13"),
        ("psycopg2==2.9.10\n", WheelError, "requirements.txt:1: psycopg2==2.9.10 has no wheel for Python 3.13"),
        (
            f"flask --hash=sha256:{'0' * 64}\n",
            RequirementError,
            "requirements.txt:1: no file of flask on the package index has",
        ),
    ],
)
def test_what_cannot_be_resolved_names_its_place(app: Path, text: str, kind: type[BakeError], said: str) -> None:
    error = fails(kind, app, text)
    assert said in error.message
    assert error.hint
    assert "Traceback" not in error.details
    assert not list(app.parent.glob("cache/locks/*.txt"))


def test_all_pins_without_a_wheel_are_named_before_any_of_them_is_downloaded(app: Path, site: Site) -> None:
    publish(site, "a", "a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "a-1.0.tar.gz")
    publish(site, "b", "b-2.0-cp310-cp310-win_amd64.whl", "b-2.0.tar.gz")
    publish(site, "c", "c-3.0-cp313-cp313-manylinux_2_17_x86_64.whl", "c-3.0.tar.gz")
    requirements = "c==3.0\na==1.0\nB==2.0\n"
    error = fails(WheelError, app, requirements, index=f"{site.address}/simple/")
    assert error.message == (
        "2 requirements have no wheel for Python 3.13 on debian-13: a==1.0 (requirements.txt:2), "
        "b==2.0 (requirements.txt:3)"
    )
    assert not [path for path in site.asked if path.startswith(("/files/a-", "/files/b-"))]


def test_a_pin_that_others_limit_is_named_with_the_line_of_its_constraint(app: Path, site: Site) -> None:
    publish(site, "a", "a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "a-1.0.tar.gz")
    (app / "limits.txt").write_text("a==1.0\n")
    error = fails(WheelError, app, "a\n-c limits.txt\n", index=f"{site.address}/simple/")
    assert error.message == "requirements.txt:1: a==1.0 has no wheel for Python 3.13 on debian-13"


def test_a_range_without_a_wheel_is_refused_without_a_build(app: Path, site: Site) -> None:
    publish(site, "a", "a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "a-1.0.tar.gz")
    error = fails(WheelError, app, "a>=1\n", index=f"{site.address}/simple/")
    assert error.message == "requirements.txt:1: a==1.0 has no wheel for Python 3.13 on debian-13"
    assert not [path for path in site.asked if path.startswith("/files/")]


def test_apps_with_the_same_wheel_do_not_fetch_it_in_turn(app: Path, site: Site) -> None:
    index = f"{site.address}/simple/"
    for name in ("a", "b"):
        publish(site, name, f"{name}-1.0-py3-none-any.whl")
    recipe = Recipe(index=index)
    one, both = (resolve(app, text, index=index) for text in ("a==1.0\n", "a==1.0\nb==1.0\n"))
    for locked in (one, both):
        lock.wheels(locked, DEBIAN_13, recipe)
    asked = len(site.asked)
    assert [wheel.name for wheel in lock.wheels(one, DEBIAN_13, recipe)] == ["a-1.0-py3-none-any.whl"]
    assert len(site.asked) == asked


def test_no_network(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    error = fails(NetworkError, app, "flask\n", index="https://127.0.0.1:9/simple")
    assert "https://127.0.0.1:9" in error.message
    monkeypatch.setenv("PIP_RETRIES", "1")
    locked = Lock(f"nowhere==1.0 \\\n    --hash=sha256:{'0' * 64}\n", "key")
    with pytest.raises(NetworkError):
        lock.wheels(locked, DEBIAN_13, Recipe(index="https://127.0.0.1:9/simple"))


def test_a_lock_is_kept_for_its_age(app: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    nowhere = "https://127.0.0.1:9/simple"
    empty = resolve(app, "# nothing\n", index=nowhere)
    assert empty.text == ""
    kept = cache_folder / "locks" / f"{empty.key}.txt"
    kept.write_text("kept\n")
    assert resolve(app, "", index=nowhere).text == "kept\n"
    assert resolve(app, "", index=nowhere, refresh=True).text == ""
    kept.write_text("kept\n")
    os.utime(kept, (0, 0))
    assert resolve(app, "", index=nowhere).text == ""
    assert resolve(app, "").key != empty.key


def test_the_words_for_uv_and_pip() -> None:
    words = lock.compile_argv(DEBIAN_13, refresh=True, sources=["x"])
    assert {"--python-version=3.13", "--only-binary=:all:", "--no-binary=x", "--refresh"} <= set(words)
    words = lock.download_argv(DEBIAN_13)
    assert {"--abi=cp313", "--require-hashes", "--only-binary=:all:", "--platform=manylinux_2_41_x86_64"} <= set(words)
    assert "--platform=manylinux_2_42_x86_64" not in words


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
        # A recipe takes https alone; a server for tests has no certificate.
        recipe = Recipe.model_construct(**{**dict(Recipe()), "index": f"http://127.0.0.1:{server.server_port}/simple"})
        with pytest.raises(BakeError) as caught:
            lock.resolve(app, recipe, DEBIAN_13, Age())
        server.shutdown()
    assert base64.b64encode(b"me@work:s/ecret").decode() in Index.asked[-1]
    assert "ecret" not in f"{caught.value} {caught.value.hint} {caught.value.details}"
    words = [*lock.compile_argv(DEBIAN_13, False), *lock.download_argv(DEBIAN_13), *lock.build_argv("x")]
    assert not [word for word in words if "http" in word]
    assert lock.index_env(Recipe()) == {}
