"""The lock files of other tools."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import write

from bake.app.direct_reference import DirectReference
from bake.app.requirements_files import requirement_lines, requirements_file
from bake.config.debian import DEBIAN_12, DEBIAN_13
from bake.errors import RequirementError

UV_LOCK = """
version = 1
requires-python = ">=3.11"

[[package]]
name = "shop"
version = "0.1"
source = { virtual = "." }
dependencies = [{ name = "six" }]

[package.dev-dependencies]
dev = [{ name = "pytest" }]

[[package]]
name = "six"
version = "1.17.0"
source = { registry = "https://packages.example/simple" }
wheels = [{ url = "https://packages.example/six-1.17.0-py2.py3-none-any.whl", hash = "sha256:%s", size = 11050 }]
"""
HASH = "ab" * 32
COMMIT = "0123456789" * 4


def test_uv_s_lock(app: Path) -> None:
    (app / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "0.1"\ndependencies = ["six"]\n')
    (app / "uv.lock").write_text(UV_LOCK.replace("%s", HASH).replace("[package.dev-dep", "[package.x-dep"))
    assert requirements_file(app) == "uv.lock"
    lines = requirement_lines(app, "uv.lock", DEBIAN_13)
    assert [(line.text, line.location, line.hashes) for line in lines] == [
        ("six==1.17.0", "uv.lock:15", frozenset({HASH}))
    ]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [("[[package]]", "<<<<<<< HEAD\n[[package]]", r"uv\.lock:\d+"), ("version = 1\n", "version = 99\n", r"uv\.lock")],
)
def test_the_line_of_a_fault_in_uv_s_lock_is_named(app: Path, old: str, new: str, place: str) -> None:
    (app / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "0.1"\ndependencies = ["six"]\n')
    text = UV_LOCK.replace("%s", HASH)
    assert old in text
    (app / "uv.lock").write_text(text.replace(old, new, 1))
    with pytest.raises(RequirementError) as caught:
        requirement_lines(app, "uv.lock", DEBIAN_13)
    assert re.fullmatch(f"uv cannot read {place}", caught.value.message), caught.value.message
    if new.startswith("<"):
        line = int(caught.value.message.rpartition(":")[2])
        assert (app / "uv.lock").read_text().splitlines()[line - 1] == "<<<<<<< HEAD"


def test_the_settings_of_a_folder_are_not_uv_s(app: Path) -> None:
    mark, elsewhere = app.parent / "mark", app.parent / "elsewhere"
    (app / "pyproject.toml").write_text(
        '[project]\nname = "shop"\ndynamic = ["version"]\ndependencies = ["six"]\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (app / "backend.py").write_text(f"open({str(mark)!r}, 'w')\n")
    for name in ("python", "python3"):
        (app / ".venv/bin").mkdir(parents=True, exist_ok=True)
        (app / ".venv/bin" / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (app / ".venv/bin" / name).chmod(0o755)
    (app / ".venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    (app / "uv.toml").write_text(f'cache-dir = "{elsewhere}"\nkeyring-provider = "subprocess"\n')
    (app / "uv.lock").write_text(UV_LOCK.replace("%s", HASH).replace("[package.dev-dep", "[package.x-dep"))
    assert [line.name for line in requirement_lines(app, "uv.lock", DEBIAN_13)] == ["six"]
    assert not mark.exists() and not elsewhere.exists()


def test_pipenv_s_lock(app: Path) -> None:
    six = {"version": "==1.17.0", "hashes": [f"sha256:{HASH}"], "markers": "python_version >= '3'", "extras": ["x"]}
    (app / "Pipfile").touch()
    (app / "Pipfile.lock").write_text(json.dumps({"default": {"six": six}, "develop": {"pytest": {"version": "==1"}}}))
    assert requirements_file(app) == "Pipfile.lock"
    (line,) = requirement_lines(app, "Pipfile.lock", DEBIAN_13)
    assert (line.text, line.location) == ("six[x]==1.17.0 ; python_version >= '3'", "Pipfile.lock")
    assert line.hashes == frozenset({HASH})


@pytest.mark.parametrize(
    ("entry", "reference"),
    [
        (
            {"git": "https://code.example/x.git", "ref": COMMIT, "subdirectory": "py", "extras": ["y"]},
            DirectReference("x", "[y]", git="https://code.example/x.git", commit=COMMIT, folder="py"),
        ),
        (
            {"git": "git+https://code.example/x.git", "ref": COMMIT},
            DirectReference("x", git="https://code.example/x.git", commit=COMMIT),
        ),
        ({"path": "./lib", "editable": True}, DirectReference("x", path="lib")),
        ({"file": "https://code.example/x.zip"}, DirectReference("x", url="https://code.example/x.zip")),
    ],
)
def test_pipenv_s_sources(app: Path, entry: dict[str, object], reference: DirectReference) -> None:
    (app / "lib").mkdir()
    (app / "Pipfile.lock").write_text(json.dumps({"default": {"x": entry}}))
    (line,) = requirement_lines(app, "Pipfile.lock", DEBIAN_13)
    assert line.reference == reference


PROJECT = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["Flask>=3"]\n'
POETRY = '[tool.poetry]\nname = "shop"\n[tool.poetry.dependencies]\npython = "^3.9"\nFlask = "^3.0"\n'
PACKAGES = """
[[package]]
name = "flask"
version = "3.1.0"
FIELDS
files = [{file = "flask-3.1.0-py3-none-any.whl", hash = "sha256:HASH"}]

[[package]]
name = "werkzeug"
version = "3.0.0"
files = []

[[package]]
name = "pytest"
version = "8.0.0"
files = []
"""


@pytest.mark.parametrize(
    ("lock", "project", "fields"),
    [
        ("poetry.lock", POETRY, 'dependencies = {Werkzeug = ">=3"}'),
        ("poetry.lock", PROJECT, 'dependencies = {Werkzeug = {version = ">=3", markers = "os_name == \'posix\'"}}'),
        ("pdm.lock", PROJECT, 'requires_python = ">=3.9"\ndependencies = ["Werkzeug>=3"]'),
    ],
)
def test_a_lock_constrains_the_dependencies_of_its_project(app: Path, lock: str, project: str, fields: str) -> None:
    write(app, {"pyproject.toml": project, lock: PACKAGES.replace("HASH", HASH).replace("FIELDS", fields)})
    assert requirements_file(app) == lock
    first, *constraints = requirement_lines(app, lock, DEBIAN_13)
    assert (first.name, first.constraint) == ("flask", False)
    assert [(line.text, line.constraint) for line in constraints] == [
        ("flask==3.1.0", True), ("werkzeug==3.0.0", True)
    ]  # fmt: skip
    assert constraints[0].hashes == {HASH}


def test_a_lock_with_two_versions_gives_the_one_for_the_target(app: Path) -> None:
    entry = '[[package]]\nname = "six"\nversion = "{}"\npython-versions = "{}"\nfiles = []\n'
    lock = entry.format("1.1", "<3.12") + entry.format("1.2", ">=3.12")
    write(app, {"pyproject.toml": POETRY.replace("Flask", "six"), "poetry.lock": lock})
    versions = [requirement_lines(app, "poetry.lock", target)[-1].text for target in (DEBIAN_12, DEBIAN_13)]
    assert versions == ["six==1.1", "six==1.2"]


def test_a_locked_repository_has_its_commit(app: Path) -> None:
    source = '[package.source]\ntype = "git"\nurl = "https://code.example/six.git"\nresolved_reference = "abc"\n'
    lock = f'[[package]]\nname = "six"\nversion = "1"\n{source}'
    write(app, {"pyproject.toml": POETRY.replace("Flask", "six"), "poetry.lock": lock})
    root, constraint = requirement_lines(app, "poetry.lock", DEBIAN_13)
    assert root.reference is None
    assert constraint.reference == DirectReference("six", git="https://code.example/six.git", commit="abc")


@pytest.mark.parametrize(
    ("lock", "fields", "reference"),
    [
        (
            "poetry.lock", '[package.source]\ntype = "directory"\nurl = "libs/six"\n',
            DirectReference("six", path="libs/six"),
        ),
        ("pdm.lock", 'path = "./libs/six"\n', DirectReference("six", path="libs/six")),
        ("pdm.lock", 'url = "https://a.example/six.zip"\n', DirectReference("six", url="https://a.example/six.zip")),
    ],
)  # fmt: skip
def test_a_locked_folder_or_file_is_a_source(app: Path, lock: str, fields: str, reference: DirectReference) -> None:
    (app / "libs/six").mkdir(parents=True)
    write(
        app,
        {"pyproject.toml": POETRY.replace("Flask", "six"), lock: f'[[package]]\nname = "six"\nversion = "1"\n{fields}'},
    )
    assert requirement_lines(app, lock, DEBIAN_13)[-1].reference == reference


def test_a_lock_whose_project_cannot_be_read_leads_to_the_export(app: Path) -> None:
    write(app, {"poetry.lock": "", "pyproject.toml": '[tool.poetry.dependencies]\nsix = "^1 || ^2"\n'})
    with pytest.raises(RequirementError) as caught:
        requirement_lines(app, "poetry.lock", DEBIAN_13)
    assert "`poetry export" in caught.value.hint


def test_a_pylock_gives_the_packages_of_its_default_groups(app: Path) -> None:
    text = """
lock-version = "1.0"
default-groups = ["web"]
[[packages]]
name = "six"
version = "1.17.0"
wheels = [{name = "six-1.17.0-py2.py3-none-any.whl", hashes = {sha256 = "HASH"}}]
[[packages]]
name = "pytest"
version = "8"
marker = "'dev' in dependency_groups"
[[packages]]
name = "flask"
version = "3.1.0"
marker = "'web' in dependency_groups and sys_platform == 'linux'"
[[packages]]
name = "shop"
directory = {path = ".", editable = true}
"""
    (app / "pylock.toml").write_text(text.replace("HASH", HASH))
    assert requirements_file(app) == "pylock.toml"
    lines = requirement_lines(app, "pylock.toml", DEBIAN_13)
    assert [(line.text, line.hashes) for line in lines] == [
        ("six==1.17.0", frozenset({HASH})),
        ("flask==3.1.0", frozenset()),
    ]


@pytest.mark.parametrize("source", ['[packages.vcs]\ntype = "hg"\ncommit-id = "1"\n', "[packages.archive]\n"])
def test_a_pylock_without_the_address_of_a_source_is_refused(app: Path, source: str) -> None:
    (app / "pylock.toml").write_text(f'[[packages]]\nname = "six"\n{source}')
    with pytest.raises(RequirementError, match=r"pylock\.toml:2: bake cannot use"):
        requirement_lines(app, "pylock.toml", DEBIAN_13)


def test_a_named_pylock_is_read_if_no_other_lock_exists(app: Path) -> None:
    (app / "pyproject.toml").write_text('[project]\nname = "shop"\ndependencies = ["six"]\n')
    (app / "pylock.web.toml").write_text(
        f'[[packages]]\nname = "six"\nversion = "1.17.0"\nsdist = {{hashes = {{sha256 = "{HASH}"}}}}\n'
    )
    assert requirements_file(app) == "pylock.web.toml"
    (line,) = requirement_lines(app, "pylock.web.toml", DEBIAN_13)
    assert (line.text, line.location, line.hashes) == ("six==1.17.0", "pylock.web.toml:2", frozenset({HASH}))
    (app / "pylock.web.toml").write_text('packages = "six"\n')
    with pytest.raises(RequirementError, match=r"^pylock\.web\.toml:1: packages: "):
        requirement_lines(app, "pylock.web.toml", DEBIAN_13)
    (app / "pdm.lock").touch()
    assert requirements_file(app) == "pdm.lock"


def test_the_lock_for_production_is_one_of_several_named_pylocks(app: Path) -> None:
    for name in ("pylock.web.toml", "pylock.worker.toml"):
        (app / name).touch()
    with pytest.raises(RequirementError, match=r"has no pylock\.toml, but pylock\.web\.toml") as caught:
        requirements_file(app)
    assert caught.value.details == "requirements: pylock.web.toml\nrequirements: pylock.worker.toml"
    assert "bake.yaml" in caught.value.hint
    (app / "pylock.prod.toml").touch()
    assert requirements_file(app) == "pylock.prod.toml"


def test_a_pylock_with_an_invalid_marker_is_refused(app: Path) -> None:
    (app / "pylock.toml").write_text('[[packages]]\nname = "six"\nversion = "1"\nmarker = "when it rains"\n')
    with pytest.raises(RequirementError, match="the marker 'when it rains' is invalid"):
        requirement_lines(app, "pylock.toml", DEBIAN_13)


def test_the_lock_of_a_workspace_gives_the_packages_of_the_app_s_own_project(tmp_path: Path) -> None:
    lock = 'version = 1\nrequires-python = ">=3.11"\n[manifest]\nmembers = ["api", "web"]\n'
    for member, package in (("api", "six"), ("web", "idna")):
        project = (
            f'[project]\nname = "{member}"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["{package}"]\n'
        )
        write(tmp_path, {f"{member}/pyproject.toml": project})
        lock += (
            f'[[package]]\nname = "{member}"\nversion = "1"\nsource = {{ virtual = "{member}" }}\n'
            f'dependencies = [{{ name = "{package}" }}]\n'
            f'[[package]]\nname = "{package}"\nversion = "1.0"\nsource = {{ registry = "https://x.test/" }}\n'
            f'wheels = [{{ url = "https://x.test/{package}-1.0-py3-none-any.whl", hash = "sha256:{HASH}" }}]\n'
        )
    workspace = '[tool.uv.workspace]\nmembers = ["api", "web"]\n'
    write(tmp_path, {"pyproject.toml": workspace, "uv.lock": lock})
    assert [line.name for line in requirement_lines(tmp_path / "web", "../uv.lock", DEBIAN_13)] == ["idna"]
