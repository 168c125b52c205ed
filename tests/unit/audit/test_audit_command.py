"""`bake audit` as a child process: results on standard output, a code for vulnerabilities, and one for no answer."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from advisories import Advisories, served
from conftest import REPOSITORY

from bake.errors import AdvisoryError, AppFolderError, VulnerableError
from bake.host.programs import Result, run
from bake.image.manifest import ImageManifest

IMAGE = b"QFI\xfb"
DIGEST = hashlib.sha256(IMAGE).hexdigest()
MANIFEST = ImageManifest(
    sha256=DIGEST,
    release="debian-13",
    sources={"nginx": ("1.26.3-3+deb13u1",)},
    wheels={"jinja2": "2.11.0", "shop-forms": "1.0"},
)


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    with served() as made:
        yield made


@pytest.fixture
def image(tmp_path: Path, cache_folder: Path) -> Path:
    (tmp_path / "shop.json").write_text(MANIFEST.to_json())
    path = tmp_path / "shop.qcow2"
    path.write_bytes(IMAGE)
    return path


def audit(*words: object, wheels: str, tracker: str) -> Result:
    argv = ["audit", *words, "--wheel-advisories", wheels, "--debian-advisories", tracker]
    env = {"COLUMNS": "200", "UV_HTTP_RETRIES": "0"}
    done = run([sys.executable, "-m", "bake", *map(str, argv)], cwd=REPOSITORY, env=env, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    return done


def test_a_table_has_what_can_be_fixed_first(image: Path, advisories: Advisories) -> None:
    done = audit(image, wheels=advisories.address, tracker=advisories.tracker)
    assert done.status == VulnerableError.code
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["kind", "package", "version", "fixed", "vulnerabilities"],
        ["debian", "nginx", "1.26.3-3+deb13u1", "1.26.3-3+deb13u2", "CVE-2026-2001"],
        ["wheel", "jinja2", "2.11.0", "2.11.3", "CVE-2026-1001"],
        ["debian", "nginx", "1.26.3-3+deb13u1", "-", "CVE-2026-2003"],
        ["wheel", "shop-forms", "1.0", "-", "GHSA-shop-form-0001"],
    ]
    assert (
        "audited 2 wheels and 1 Debian source packages: 2 vulnerabilities with a fixed version, 2 without"
        in done.stderr
    )
    assert "newer versions fix: nginx, jinja2" in done.stderr and "--refresh" in done.stderr


def test_json_has_the_same(image: Path, advisories: Advisories) -> None:
    done = audit(image, "--json", wheels=advisories.address, tracker=advisories.tracker)
    assert done.status == VulnerableError.code
    values = json.loads(done.stdout)
    assert values["audited"] == {"wheels": 2, "debian": 1} and values["subject"] == str(image)
    assert values["vulnerabilities"][1] == {
        "kind": "wheel", "package": "jinja2", "version": "2.11.0", "id": "PYSEC-2026-1", "aliases": ["CVE-2026-1001"],
        "fixed": ["2.11.3"],
    }  # fmt: skip


def test_vulnerabilities_without_a_fixed_version_are_notes(image: Path, advisories: Advisories) -> None:
    image.with_suffix(".json").write_text(
        ImageManifest(
            sha256=DIGEST, release="debian-13", sources={"nginx": ("1.26.3-3+deb13u2",)}, wheels={"shop-forms": "1.0"}
        ).to_json()
    )
    done = audit(image, wheels=advisories.address, tracker=advisories.tracker)
    assert (done.status, len(done.stdout.splitlines())) == (0, 3)


def test_without_advisories_nothing_is_claimed(image: Path, advisories: Advisories) -> None:
    nowhere = "http://127.0.0.1:1"
    for wheels, tracker in ((nowhere, advisories.tracker), (advisories.address, f"{nowhere}/tracker")):
        done = audit(image, "--json", wheels=wheels, tracker=tracker)
        assert (done.status, done.stdout) == (AdvisoryError.code, "")
        assert "nothing is known" in done.stderr and "127.0.0.1:1" in done.stderr


def test_an_app_without_requirements_has_nothing_to_audit(tmp_path: Path, app: Path, cache_folder: Path) -> None:
    (app / "app.py").write_text("def app(environ, start_response): ...\n")
    (app / "bake.yaml").write_text("wsgi: app:app\nrequirements: []\n")
    done = audit(app, "--json", wheels="http://127.0.0.1:1", tracker="http://127.0.0.1:1")
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout) == {
        "subject": str(app), "audited": {"wheels": 0, "debian": None}, "vulnerabilities": [],
    }  # fmt: skip


@pytest.mark.parametrize(("subject", "code"), [("none.qcow2", AppFolderError.code), ("http://me@host", 2)])
def test_a_subject_that_is_none_is_refused(subject: str, code: int) -> None:
    done = audit(subject, wheels="http://127.0.0.1:1", tracker="http://127.0.0.1:1")
    assert (done.status, done.stdout) == (code, "")
