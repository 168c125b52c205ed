"""The lock: what cannot be resolved is named with its file and line. Some tests ask the package index."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import builder_fakes
import pytest
from app_locks import fails, resolve
from conftest import Site, publish

from bake.bundle import built_wheels, lock, wheel_cache
from bake.bundle.built_wheels import BuiltWheel
from bake.bundle.source import Source
from bake.config.debian import DEBIAN_13
from bake.config.recipe import Recipe
from bake.errors import BakeError, ConflictError, RequirementError, WheelError
from bake.host import cache
from bake.host.cache import Age
from bake.host.files import file_digest

pytestmark = pytest.mark.usefixtures("cache_folder")


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
        (
            "flask\nMySQL-python\n",
            WheelError,
            "requirements.txt:2: mysql-python==1.2.5 has no wheel for Python 3.13 on debian-13",
        ),
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


@pytest.mark.parametrize("compiled", ["", "a-1.0-cp39-cp39-win_amd64.whl"])
def test_no_code_of_a_source_runs_on_the_host(app: Path, site: Site, tmp_path: Path, compiled: str) -> None:
    setup = f"open({str(tmp_path / 'marker')!r}, 'w')\nfrom setuptools import setup\nsetup(name='a', version='1.0')\n"
    builder_fakes.publish_source(site, "a", wheels=compiled, setup=setup)
    publish(site, "b", "b-1.0-py3-none-any.whl")
    error = fails(WheelError, app, "b\na\n", index=f"{site.address}/simple/")
    assert error.message == "requirements.txt:2: a==1.0 has no wheel for Python 3.13 on debian-13"
    assert "`bake image` builds a wheel from its source" in error.hint
    assert not (tmp_path / "marker").exists() and not [path for path in site.asked if path.startswith("/files/a-")]


def test_a_dependency_without_a_wheel_is_built_in_the_version_that_its_dependents_allow(
    app: Path, site: Site, tmp_path: Path
) -> None:
    builder_fakes.publish_source(site, "a")
    publish(site, "b", "b-1.0-py3-none-any.whl")
    wheel = site.folder / "files" / "b-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "b-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: b\nVersion: 1.0\nRequires-Dist: a<2\n"
        )
        archive.writestr("b-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr("b-1.0.dist-info/RECORD", "")
    page = site.folder / "simple/b/index.html"
    page.write_text(f'<a href="/files/{wheel.name}#sha256={file_digest(wheel)}">{wheel.name}</a>\n')
    index = site.folder / "simple/a/index.html"
    index.write_text(index.read_text() + f'<a href="/files/a-2.0.tar.gz#sha256={"0" * 64}">a-2.0.tar.gz</a>\n')

    class Builder:
        pure_only = False

        def build(self, source: Source) -> BuiltWheel:
            assert source.pin == "a==1.0"
            return built_wheels.keep(builder_fakes.wheel(tmp_path, "a-1.0-py3-none-any.whl"), source.sha256, 0, {})

    (app / "requirements.txt").write_text("b\n")
    recipe = Recipe.model_validate({"index": f"{site.address}/simple/"})
    text = lock.resolve(lock.Requirements.read(app, recipe, DEBIAN_13), Age(), Builder()).text
    (built,) = built_wheels.of_hashes(re.findall(r"sha256:(\w+)", text))
    assert text.startswith(f"a==1.0 \\\n    --hash=sha256:{built.sha256}\nb==1.0 ")


UVLOOP = ("uvloop-1.0-cp310-cp310-win_amd64.whl", "uvloop-1.0-cp313-cp313-manylinux_2_17_x86_64.whl")


@pytest.mark.parametrize(("uvloop", "names"), [(UVLOOP[:1], set()), (UVLOOP, {"httptools", "uvloop"})])
def test_an_asgi_app_s_server_is_in_the_lock(app: Path, site: Site, uvloop: tuple[str, ...], names: set[str]) -> None:
    for name, version in (("uvicorn", "0.30.0"), ("websockets", "1.0"), ("httptools", "1.0")):
        publish(site, name, f"{name}-{version}-py3-none-any.whl")
    publish(site, "uvloop", *uvloop)
    index = f"{site.address}/simple/"
    locked = resolve(app, "", index=index, asgi="main:app")
    assert lock.package_names(locked) == {"uvicorn", "websockets", *names}
    assert [note for note in locked.notes if "bake adds uvicorn and websockets" in note]
    assert resolve(app, "", index=index, wsgi="main:app").text == ""


@pytest.mark.parametrize(("requirements", "version"), [("", "23.0"), ("gunicorn==22.0\n", "22.0")])
def test_the_server_that_the_recipe_names_is_in_the_lock(
    app: Path, site: Site, requirements: str, version: str
) -> None:
    publish(site, "gunicorn", "gunicorn-22.0-py3-none-any.whl", "gunicorn-23.0-py3-none-any.whl")
    locked = resolve(app, requirements, index=f"{site.address}/simple/", server="gunicorn")
    assert f"gunicorn=={version} " in locked.text
    assert bool([note for note in locked.notes if "bake adds gunicorn" in note]) == (not requirements)


def test_a_pin_of_a_uvicorn_that_is_too_old_gives_way(app: Path, site: Site) -> None:
    publish(site, "uvicorn", "uvicorn-0.20.0-py3-none-any.whl", "uvicorn-0.30.0-py3-none-any.whl")
    publish(site, "websockets", "websockets-1.0-py3-none-any.whl")
    lock = resolve(app, "uvicorn==0.20.0\n", index=f"{site.address}/simple/", asgi="main:app")
    assert "uvicorn==0.30.0 " in lock.text
    assert "requirements: uvicorn>=0.22 instead of uvicorn==0.20.0 (requirements.txt:1), to serve the app" in lock.notes


def test_a_lock_is_kept_for_its_age(app: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    nowhere = "https://127.0.0.1:9/simple"
    empty = resolve(app, "# nothing\n", index=nowhere)
    assert empty.text == ""
    kept = cache_folder / "locks" / f"{empty.key}.txt"
    cache.keep(kept, "kept\n")
    assert resolve(app, "", index=nowhere).text == "kept\n"
    assert resolve(app, "", index=nowhere, refresh=True).text == ""
    cache.keep(kept, "kept\n")
    os.utime(kept, (0, 0))
    assert resolve(app, "", index=nowhere).text == ""
    assert resolve(app, "").key != empty.key


@pytest.mark.parametrize("damage", [b"", b"flask==1.0\n", b"\xff\xfe"])
def test_a_damaged_lock_is_resolved_again(
    app: Path, cache_folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    monkeypatch.setenv("UV_SYSTEM_CERTS", "true")
    publish(site, "shop-forms", "shop_forms-1.0-py3-none-any.whl")
    first = resolve(app, "shop-forms\n", index=f"{site.address}/simple/")
    (cache_folder / "locks" / f"{first.key}.txt").write_bytes(damage)
    assert resolve(app, "shop-forms\n", index=f"{site.address}/simple/").text == first.text != ""


def test_the_words_for_pip() -> None:
    words = wheel_cache.download_argv(DEBIAN_13)
    assert {"--abi=cp313", "--require-hashes", "--only-binary=:all:", "--platform=manylinux_2_41_x86_64"} <= set(words)
    assert "--platform=manylinux_2_42_x86_64" not in words
