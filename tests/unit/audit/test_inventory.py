"""What an image, a folder or a machine has installed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Fake, Site, publish

from bake.audit import inventory
from bake.errors import AppFolderError, SetupError
from bake.host.progress import Reporter
from bake.image.manifest import ImageManifest
from bake.vm.ssh import Login

IMAGE = b"QFI\xfb"
MANIFEST = ImageManifest(
    sha256=hashlib.sha256(IMAGE).hexdigest(),
    release="debian-13",
    wheels={"flask": "3.1"},
    sources={"nginx": ("1.26.3-3",)},
    packages={"nginx": "1.26.3-3"},
)
STATUS = "Package: nginx\nStatus: install ok installed\nVersion: 1.26.3-3\nDescription: web server\n text\n"


def image(tmp_path: Path, manifest: ImageManifest) -> Path:
    (tmp_path / "shop.json").write_text(manifest.to_json())
    path = tmp_path / "shop.qcow2"
    path.write_bytes(IMAGE)
    return path


def test_an_image_has_its_packages_in_its_manifest(tmp_path: Path) -> None:
    installed = inventory.of_image(image(tmp_path, MANIFEST))
    assert (installed.wheels, installed.sources, installed.suite) == (
        {"flask": "3.1"}, {"nginx": ("1.26.3-3",)}, "trixie",
    )  # fmt: skip


def test_an_image_of_an_older_bake_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AppFolderError, match="does not list the sources"):
        inventory.of_image(image(tmp_path, replace(MANIFEST, sources={})))
    (tmp_path / "shop.json").write_text("[]")
    with pytest.raises(AppFolderError, match="cannot be read"):
        inventory.of_image(tmp_path / "shop.qcow2")


def test_an_image_that_its_manifest_does_not_describe_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path, MANIFEST)
    path.write_bytes(IMAGE + b"another bake")
    with pytest.raises(AppFolderError, match=r"shop.qcow2 is not the image that .*shop.json describes"):
        inventory.of_image(path)


def test_a_folder_has_the_wheels_of_its_lock(
    app: Path, site: Site, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_SYSTEM_CERTS", "true")
    publish(site, "shop-forms", "shop_forms-1.0-py3-none-any.whl")
    (app / "app.py").write_text("def app(environ, start_response): ...\n")
    (app / "bake.yaml").write_text(f"wsgi: app:app\nrequirements: [shop-forms]\nindex: {site.address}/simple/\n")
    installed = inventory.of_folder(app, Reporter())
    assert (installed.wheels, installed.sources) == ({"shop-forms": "1.0"}, None)


@pytest.fixture
def login(fake: Fake, tmp_path: Path) -> Login:
    """A machine whose files are below the test's folder."""
    root = tmp_path / "machine"
    for path, text in {"etc/os-release": "VERSION_CODENAME=trixie\n", "var/lib/dpkg/status": STATUS}.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(text)
    (root / "srv/app/current").mkdir(parents=True)
    there = f"sed -E 's# /(etc|srv|var)# {root}/\\1#g'"
    fake("ssh", f'while [ "$1" != -- ]; do shift; done; shift 2; [ "$1" = true ] || {there} | sh')
    return Login(urlsplit("ssh://root@host.example"))


def test_a_machine_has_the_lock_of_its_release_and_the_status_of_dpkg(login: Login, tmp_path: Path) -> None:
    lock = "flask==3.1 \\\n    --hash=sha256:1\nuvicorn[standard]==0.30 \\\n    --hash=sha256:2\n"
    (tmp_path / "machine/srv/app/current/lock.txt").write_text(lock)
    installed = inventory.of_machine(login)
    assert installed.wheels == {"flask": "3.1", "uvicorn": "0.30"}
    assert (installed.sources, installed.suite) == ({"nginx": ("1.26.3-3",)}, "trixie")


@pytest.mark.parametrize(
    ("lock", "status"),
    [('flask==3.1"]#', STATUS), ("flask==\x1b[2J3.1", STATUS), ("", STATUS.replace("1.26.3-3", "\x1b]0;name\x07"))],
)
def test_a_machine_whose_names_are_none_is_refused(login: Login, tmp_path: Path, lock: str, status: str) -> None:
    """bake writes them into a project for uv, and prints them."""
    (tmp_path / "machine/srv/app/current/lock.txt").write_text(f"{lock}\n")
    (tmp_path / "machine/var/lib/dpkg/status").write_text(status)
    with pytest.raises(SetupError, match="neither the name of a package nor a version"):
        inventory.of_machine(login)


def test_an_app_without_requirements_has_no_wheels(login: Login, tmp_path: Path) -> None:
    (tmp_path / "machine/srv/app/current/lock.txt").write_text("")
    installed = inventory.of_machine(login)
    assert (installed.wheels, installed.sources) == ({}, {"nginx": ("1.26.3-3",)})


@pytest.mark.parametrize(("lock", "status"), [("", "no stanza\n"), ("flask 3.1\n", STATUS)])
def test_a_list_that_names_nothing_is_not_a_machine_without_packages(
    login: Login, tmp_path: Path, lock: str, status: str
) -> None:
    (tmp_path / "machine/srv/app/current/lock.txt").write_text(lock)
    (tmp_path / "machine/var/lib/dpkg/status").write_text(f"Package: x\nStatus: deinstall ok config-files\n\n{status}")
    with pytest.raises(SetupError, match="nothing is known"):
        inventory.of_machine(login)


def test_a_machine_that_bake_did_not_make_is_refused(login: Login) -> None:
    with pytest.raises(SetupError, match="cannot list its packages"):
        inventory.of_machine(login)
