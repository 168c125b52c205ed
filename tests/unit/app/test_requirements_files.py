"""What an app needs, read from its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bake.app.requirements_files import requirement_lines, requirements_file
from bake.config.debian import DEBIAN_13
from bake.errors import RequirementError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flask\n==1.0\n", "requirements.txt:2: bake cannot use '==1.0'"),
        ("flask\nfoo bar\n", "requirements.txt:2: bake cannot use 'foo bar'"),
        ("flask \\\n  >=3\n-e .\n", "requirements.txt:3: bake cannot use '-e .'"),
        ("./lib\n", "requirements.txt:1: bake cannot use './lib'"),
        ("git+https://code.example/x.git\n", "requirements.txt:1: "),
        ("x @ https://code.example/x.whl\n", "requirements.txt:1: "),
        ("x @ ${PWD}\n", "requirements.txt:1: bake cannot use 'x @ ${PWD}'"),
        ("x@/srv/x\n", "requirements.txt:1: bake cannot use 'x@/srv/x'"),
        ("x @ ../x-1-py3-none-any.whl#here\n", "requirements.txt:1: "),
        ("--extra-index-url https://packages.example/\n", "requirements.txt:1: "),
        ("--frobnicate\n", "requirements.txt:1: "),
        ("-r missing.txt\n", "requirements.txt:1: missing.txt cannot be read: No such file"),
        ("-r requirements.txt\n", "requirements.txt:1: the file includes itself"),
        ("-r more/base.txt\n", "more/base.txt:2: bake cannot use '-e ..'"),
    ],
)
def test_lines_that_are_not_taken(app: Path, text: str, said: str) -> None:
    (app / "more").mkdir()
    (app / "more" / "base.txt").write_text("flask\n-e ..\n")
    (app / "requirements.txt").write_text(text)
    with pytest.raises(RequirementError) as caught:
        requirement_lines(app, "requirements.txt", DEBIAN_13)
    assert caught.value.message.startswith(said)
    assert caught.value.hint or "cannot be read" in said


def test_requirements_that_are_no_text(app: Path) -> None:
    (app / "requirements.txt").write_text("flask\n", encoding="utf-16")
    with pytest.raises(RequirementError, match="is not UTF-8"):
        requirement_lines(app, "requirements.txt", DEBIAN_13)


def test_included_files_and_constraints(app: Path) -> None:
    (app / "more").mkdir()
    (app / "requirements.txt").write_text(
        "\ufeff-r more/base.txt\n--prefer-binary\n-c more/limits.txt\nredis[hiredis]>=5 # why\n"
    )
    (app / "more" / "base.txt").write_text('Flask; python_version > "3"\n')
    (app / "more" / "limits.txt").write_text("werkzeug<4\n")
    lines = requirement_lines(app, "requirements.txt", DEBIAN_13)
    assert [(line.text, line.location, line.constraint) for line in lines] == [
        ('Flask; python_version > "3"', "more/base.txt:1", False),
        ("werkzeug<4", "more/limits.txt:1", True),
        ("redis[hiredis]>=5", "requirements.txt:4", False),
    ]


def test_pyproject(app: Path) -> None:
    project = '[project]\nname = "x"\nrequires-python = ">=3.9"\ndependencies = [\n  "flask>=3",\n]\n'
    (app / "pyproject.toml").write_text(project)
    lines = requirement_lines(app, "pyproject.toml", DEBIAN_13)
    assert [(line.text, line.location) for line in lines] == [("flask>=3", "pyproject.toml:5")]
    for addition, said in (
        (project.replace(">=3.9", "<3.12"), "requires-python"),
        (project + '[tool.uv.sources]\nFlask = { path = "../flask" }\n', "sources"),
        (project + "[x\n", "line 7"),
    ):
        (app / "pyproject.toml").write_text(addition)
        with pytest.raises(RequirementError, match=said):
            requirement_lines(app, "pyproject.toml", DEBIAN_13)


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


def test_uv_s_lock(app: Path) -> None:
    (app / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "0.1"\ndependencies = ["six"]\n')
    (app / "uv.lock").write_text(UV_LOCK.replace("%s", HASH).replace("[package.dev-dep", "[package.x-dep"))
    assert requirements_file(app) == "uv.lock"
    lines = requirement_lines(app, "uv.lock", DEBIAN_13)
    assert [(line.text, line.location, line.hashes) for line in lines] == [
        ("six==1.17.0", "uv.lock", frozenset({HASH}))
    ]
    (app / "uv.lock").write_text("nonsense")
    with pytest.raises(RequirementError, match=r"uv cannot read uv\.lock"):
        requirement_lines(app, "uv.lock", DEBIAN_13)


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
    for said in ({"git": "https://code.example/x"}, {"path": "."}):
        (app / "Pipfile.lock").write_text(json.dumps({"default": {"x": said}}))
        with pytest.raises(RequirementError, match=r"Pipfile\.lock"):
            requirement_lines(app, "Pipfile.lock", DEBIAN_13)


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"poetry.lock": "", "pyproject.toml": '[project]\ndependencies = ["six"]\n'}, "poetry export"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\nsix = "*"\n'}, "poetry export"),
        ({"pdm.lock": ""}, "pdm export"),
        ({"Pipfile": ""}, "pipenv lock"),
    ],
)
def test_tools_that_are_not_asked_have_a_way_out(app: Path, files: dict[str, str], command: str) -> None:
    for name, text in files.items():
        (app / name).write_text(text)
    with pytest.raises(RequirementError) as caught:
        requirements_file(app)
    assert f"`{command}" in caught.value.hint
    (app / "requirements.txt").touch()
    assert requirements_file(app) == "requirements.txt"


def test_older_projects_say_it_in_setup_py(app: Path) -> None:
    (app / "setup.py").write_text("from setuptools import setup\nsetup(name='x',\n  install_requires=['six>=1'])\n")
    assert requirements_file(app) == "setup.py"
    assert [(line.text, line.location) for line in requirement_lines(app, "setup.py", DEBIAN_13)] == [
        ("six>=1", "setup.py:3")
    ]


def test_a_list_of_bake_yaml(app: Path) -> None:
    lines = requirement_lines(app, ("flask", "six>=1"), DEBIAN_13)
    assert [(line.text, line.location) for line in lines] == [
        ("flask", "requirements[0]"),
        ("six>=1", "requirements[1]"),
    ]


def test_a_missing_include_leads_to_its_line(app: Path) -> None:
    (app / "requirements.txt").write_text("flask\n-r nofile.txt\n")
    with pytest.raises(RequirementError) as caught:
        requirement_lines(app, "requirements.txt", DEBIAN_13)
    assert caught.value.message.startswith("requirements.txt:2: nofile.txt cannot be read: No such file")
    assert caught.value.hint == "Create the file, or remove that line."
