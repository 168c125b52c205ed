"""The interpreter of `python`, which uv fetches from a list and a server of the tests."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from conftest import Site, names, publish, write
from interpreters import Mirror

from bake.bundle import interpreter, release_archive
from bake.bundle.app_source import AppSource
from bake.bundle.wheel_builder import LockOptions
from bake.config.debian import DEBIAN_12, DEBIAN_13
from bake.config.recipe import Recipe
from bake.errors import NetworkError, PythonError, RecipeError
from bake.host.cache import Age
from bake.host.progress import Reporter
from bake.host.terminal import Terminal

pytestmark = pytest.mark.usefixtures("cache_folder")

APP = "from flask import Flask\napp = Flask(__name__)\n"
TARGET = DEBIAN_13.with_python("3.12.8")


@pytest.fixture
def mirror(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    return Mirror(site, tmp_path / "executed", monkeypatch)


def printed() -> tuple[Reporter, io.StringIO]:
    stream = io.StringIO()
    return Reporter(Terminal(file=stream, width=1000)), stream


def test_an_archive_is_fetched_once_verified_and_never_run(mirror: Mirror) -> None:
    content, _ = mirror.publish("3.12.8", "3.14.2")
    report, stream = printed()
    first = interpreter.fetch(TARGET, report)
    assert first.archive.read_bytes() == content and first.sha256 == hashlib.sha256(content).hexdigest()
    assert json.loads(first.to_json()) == {"version": "3.12.8", "url": first.url, "sha256": first.sha256}
    assert "fetched Python 3.12.8 (0 MB)" in stream.getvalue()
    mirror.archive("3.12.8").unlink()
    assert interpreter.fetch(TARGET, report) == first
    assert not mirror.marker.exists()


def test_a_changed_archive_in_the_cache_is_fetched_again(mirror: Mirror) -> None:
    (content,) = mirror.publish("3.12.8")
    interpreter.fetch(TARGET, printed()[0]).archive.write_bytes(b"changed")
    assert interpreter.fetch(TARGET, printed()[0]).archive.read_bytes() == content


def test_an_archive_with_another_digest_is_refused(mirror: Mirror, cache_folder: Path) -> None:
    mirror.publish("3.12.8")
    mirror.archive("3.12.8").write_bytes(mirror.archive("3.12.8").read_bytes() + b"more")
    with pytest.raises(
        PythonError, match=r"The SHA-256 of https://.*tar\.gz differs from the one in uv's list"
    ) as error:
        interpreter.fetch(TARGET, printed()[0])
    assert error.value.code == 24 and "Do not use that archive" in error.value.hint
    assert not mirror.marker.exists() and not (cache_folder / "python").exists()


def test_an_archive_that_came_incomplete_is_a_fault_of_the_network(mirror: Mirror, cache_folder: Path) -> None:
    mirror.publish("3.12.8")
    mirror.site.cut.append(f"/{mirror.archive('3.12.8').name}")
    with pytest.raises(NetworkError, match=r"https://.*tar\.gz cannot be fetched") as error:
        interpreter.fetch(TARGET, printed()[0])
    assert error.value.code == 32 and "UV_PYTHON_INSTALL_MIRROR" in error.value.hint
    assert not (cache_folder / "python").exists()
    mirror.site.cut.clear()
    assert interpreter.fetch(TARGET, printed()[0]).archive.is_file()


def test_an_archive_that_the_server_does_not_have_is_a_fault_of_the_network(mirror: Mirror) -> None:
    mirror.publish("3.12.8")
    mirror.archive("3.12.8").unlink()
    with pytest.raises(NetworkError, match=r"https://.*tar\.gz cannot be fetched"):
        interpreter.fetch(TARGET, printed()[0])


def test_a_list_that_the_server_does_not_have_is_a_fault_of_the_network(mirror: Mirror) -> None:
    mirror.publish()
    mirror.list_path.unlink()
    with pytest.raises(NetworkError, match="uv's list of Python downloads cannot be read"):
        interpreter.find("3.12")


def test_a_corrected_list_is_read_at_once(mirror: Mirror) -> None:
    mirror.publish("3.12.8")
    assert interpreter.find("3.12").version == "3.12.8"
    mirror.publish("3.12.8", "3.12.10")
    assert interpreter.find("3.12").version == "3.12.10"


@pytest.mark.parametrize("version", ["3.12.99", "3.15"])
def test_a_version_that_uv_does_not_have_is_refused_with_those_that_it_has(mirror: Mirror, version: str) -> None:
    mirror.publish("3.12.8", "3.14.2", "3.10.1")
    with pytest.raises(PythonError, match=rf"python: uv has no download of Python {re.escape(version)} ") as error:
        interpreter.find(version)
    assert error.value.code == 24 and error.value.hint == "Write one of these in bake.yaml: 3.14.2, 3.12.8."


def test_uv_has_the_pythons_of_this_computer_in_no_list(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.publish("3.12.8", "3.12.10")
    for name, value in {"UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON_PREFERENCE": "only-system"}.items():
        monkeypatch.setenv(name, value)
    assert interpreter.find("3.12").version == "3.12.10"
    assert interpreter.fetch(TARGET, printed()[0]).version == "3.12.8"


def test_uvs_own_list_has_each_python_that_bake_admits() -> None:
    assert interpreter.find("3.12").url.endswith("-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz")
    assert interpreter.find("3.14.0").version == "3.14.0"


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("elsewhere/x", tarfile.REGTYPE, ""),
        ("python/../x", tarfile.REGTYPE, ""),
        ("python/lib/x", tarfile.SYMTYPE, "../../../x"),
        ("python/lib/x", tarfile.SYMTYPE, "/etc/passwd"),
        ("python/lib/x", tarfile.CHRTYPE, ""),
    ],
)
def test_an_archive_with_another_layout_is_refused(
    mirror: Mirror, tmp_path: Path, name: str, kind: bytes, target: str
) -> None:
    mirror.publish("3.12.8")
    path = tmp_path / "python.tar.gz"
    with tarfile.open(mirror.archive("3.12.8")) as tar, tarfile.open(path, "w:gz") as other:
        for member in tar:
            other.addfile(member, tar.extractfile(member) if member.isreg() else None)
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        other.addfile(entry)
    with pytest.raises(PythonError, match=f"layout install_only: {re.escape(name)}"):
        interpreter._require_layout(path, "https://example/python.tar.gz")


def test_a_target_has_its_own_python_or_one_of_the_release() -> None:
    assert DEBIAN_13.with_python("3.13") is DEBIAN_13 and DEBIAN_12.with_python("3.11.2") is DEBIAN_12
    assert (TARGET.python, TARGET.patch, TARGET.python_date) == ((3, 12), 8, "2023-10-02")
    assert DEBIAN_12.with_python("3.13").has_interpreter and DEBIAN_13.with_python("3.13.1").has_interpreter


def read(mirror: Mirror, app: Path, keys: str, **files: str) -> tuple[AppSource, str]:
    """Return an app whose requirement has a wheel for Python 3.12 alone, and what bake printed."""
    if not (mirror.site.folder / "simple").exists():
        publish(mirror.site, "for-312", "for_312-1.0-cp312-cp312-manylinux_2_17_x86_64.whl")
        publish(mirror.site, "gunicorn", "gunicorn-23.0-py3-none-any.whl")
        publish(mirror.site, "flask", "flask-3.0-py3-none-any.whl")
    yaml = f"index: {mirror.site.address}/simple/\ncheck: {{author: off}}\n{keys}"
    write(app, {"app.py": APP, "requirements.txt": "flask\nfor-312\n", "bake.yaml": yaml, **files})
    report, stream = printed()
    return AppSource.read(app, report, LockOptions(Age(), builds=False)), stream.getvalue()


def test_a_release_contains_the_interpreter_and_the_wheels_for_it(mirror: Mirror, app: Path, tmp_path: Path) -> None:
    content, _ = mirror.publish("3.12.8", "3.12.4")
    source, notes = read(mirror, app, 'python: "3.12"\n')
    assert (source.recipe.base, source.recipe.python, source.recipe.server) == ("debian-13", "3.12.8", "gunicorn")
    assert "base: debian-13 (the release contains Python 3.12.8)" in notes and "server: gunicorn (uWSGI is" in notes
    bundle = release_archive.collect(source, tmp_path / "bundle.tar", printed()[0])
    with tarfile.open(bundle.path) as tar:
        members = {member.name: member for member in tar}
        archive, record, recipe = (
            tar.extractfile(members[name]) for name in ("wheels/python.tar.gz", "python.json", "recipe.json")
        )
        assert archive and record and recipe
        assert archive.read() == content
        assert json.load(record)["sha256"] == hashlib.sha256(content).hexdigest()
        assert json.load(recipe)["server"] == "gunicorn"
    assert {"wheels/for_312-1.0-cp312-cp312-manylinux_2_17_x86_64.whl", "settings/wsgi_server.py"} <= {*members}
    again = release_archive.collect(source, tmp_path / "again.tar", printed()[0])
    assert again.sha256 == bundle.sha256 and not mirror.marker.exists()


def test_the_debian_release_with_that_python_needs_no_interpreter(mirror: Mirror, app: Path, tmp_path: Path) -> None:
    source, notes = read(mirror, app, "python: 3.11\n", **{"requirements.txt": "flask\n"})
    assert (source.recipe.base, source.recipe.server) == ("debian-12", "uwsgi") and "(it has Python 3.11)" in notes
    bundle = release_archive.collect(source, tmp_path / "bundle.tar", printed()[0])
    assert "python.json" not in {member.name for member in bundle.release.members}
    assert names(mirror.site.folder) == ["files", "simple"]


def test_uwsgi_by_name_is_refused_with_another_python_than_debians(mirror: Mirror, app: Path) -> None:
    mirror.publish("3.12.8")
    with pytest.raises(RecipeError, match="runs only Debian's own Python") as error:
        read(mirror, app, "python: 3.12\nserver: uwsgi\n")
    assert error.value.hint.startswith("Write `server: gunicorn`")


def test_asgi_apps_and_programs_keep_their_server(mirror: Mirror, app: Path) -> None:
    mirror.publish("3.12.8")
    source, _ = read(mirror, app, "python: 3.12\nrun: python3 app.py\n")
    assert source.recipe.server == "uwsgi" and source.recipe.run
    assert "gunicorn" not in (source.lock.text if source.lock else "")


def test_a_lock_for_another_python_has_another_key() -> None:
    recipe = Recipe(python="3.12.8", base="debian-13")
    assert recipe.target == TARGET and Recipe(python="3.13").target is DEBIAN_13
    assert Recipe(python="3.11").target is DEBIAN_12 and Recipe(python="3.14").target.suite == "trixie"
