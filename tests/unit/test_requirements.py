"""What an app needs, read from its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.errors import RequirementError
from bake.requirements import requirement_lines
from bake.target import DEBIAN_13


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flask\n==1.0\n", "requirements.txt:2: '==1.0' cannot be used"),
        ("flask\nfoo bar\n", "requirements.txt:2: 'foo bar' cannot be used"),
        ("flask \\\n  >=3\n-e .\n", "requirements.txt:3: '-e .' cannot be used"),
        ("./lib\n", "requirements.txt:1: './lib' cannot be used"),
        ("git+https://code.example/x.git\n", "requirements.txt:1: "),
        ("x @ https://code.example/x.whl\n", "requirements.txt:1: "),
        ("--extra-index-url https://packages.example/\n", "requirements.txt:1: "),
        ("--frobnicate\n", "requirements.txt:1: "),
        ("-r missing.txt\n", "requirements.txt:1: missing.txt cannot be read: No such file"),
        ("-r requirements.txt\n", "requirements.txt:1: the file includes itself"),
        ("-r more/base.txt\n", "more/base.txt:2: '-e ..' cannot be used"),
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
    assert [(line.text, line.place, line.constraint) for line in lines] == [
        ('Flask; python_version > "3"', "more/base.txt:1", False),
        ("werkzeug<4", "more/limits.txt:1", True),
        ("redis[hiredis]>=5", "requirements.txt:4", False),
    ]


def test_pyproject(app: Path) -> None:
    project = '[project]\nname = "x"\nrequires-python = ">=3.9"\ndependencies = [\n  "flask>=3",\n]\n'
    (app / "pyproject.toml").write_text(project)
    lines = requirement_lines(app, "pyproject.toml", DEBIAN_13)
    assert [(line.text, line.place) for line in lines] == [("flask>=3", "pyproject.toml:5")]
    for addition, said in (
        (project.replace(">=3.9", "<3.12"), "requires-python"),
        (project + '[tool.uv.sources]\nFlask = { path = "../flask" }\n', "sources"),
        (project + "[x\n", "line 7"),
    ):
        (app / "pyproject.toml").write_text(addition)
        with pytest.raises(RequirementError, match=said):
            requirement_lines(app, "pyproject.toml", DEBIAN_13)
