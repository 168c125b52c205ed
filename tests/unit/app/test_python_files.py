"""Which files are read, how much of them, and what is said of the rest."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

import pytest
from conftest import write

from bake.app import detect, python_files
from bake.config.recipe import Recipe
from bake.errors import AppFolderError, AppSyntaxError, NoAppError

WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"


DEEP = {
    "an expression of 20,000 terms": "x = " + " + ".join(["1"] * 20_000) + "\n",
    "an attribute of 5,000 names": "x = a" + ".a" * 5_000 + "\n",
    "calls of calls": "x = f" + "()" * 3_000 + "\n",
    "brackets in brackets": "x = " + "[" * 150 + "]" * 150 + "\n",
    "more brackets than Python reads": "x = " + "(" * 5_000 + ")" * 5_000 + "\n",
    "conditions in conditions": "".join(" " * n + "if x:\n" for n in range(95)) + " " * 95 + "pass\n",
}


@pytest.mark.parametrize("what", DEEP)
def test_deep_sources_are_read_or_refused_with_their_line(tmp_path: Path, what: str) -> None:
    folder = write(tmp_path, {"wsgi.py": WSGI, "deep.py": DEEP[what], "requirements.txt": ""})
    try:
        assert detect.complete(folder, Recipe()).recipe.wsgi == "wsgi:application"
    except AppSyntaxError as error:
        assert "deep.py:1" in error.message


def test_a_file_of_data_is_not_read_and_that_is_told(tmp_path: Path) -> None:
    large = "DATA = [\n" + "    'some words',\n" * 70_000 + "]\n"
    found = detect.complete(write(tmp_path, {"wsgi.py": WSGI, "data.py": large, "requirements.txt": ""}), Recipe())
    assert found.recipe.wsgi == "wsgi:application"
    assert any(note.startswith("not read: data.py (1.2 MB") for note in found.notes)


def test_more_source_than_is_read_names_its_largest_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_files, "MAX_BYTES", 100_000)
    files = {f"vendored/lib{number}.py": "# words\n" * 5_000 for number in range(3)}
    folder = write(tmp_path, {"wsgi.py": WSGI, **files, "requirements.txt": ""})
    with pytest.raises(AppFolderError, match=r"has 0\.1 MB of Python in 4 files") as caught:
        detect.complete(folder, Recipe())
    assert "/vendored/  has" in caught.value.details and ".bakeignore" in caught.value.hint
    # The way out that it names is one.
    (folder / ".bakeignore").write_text("/vendored/\n")
    assert detect.complete(folder, Recipe()).recipe.wsgi == "wsgi:application"


def test_an_app_that_was_not_read_is_named(tmp_path: Path) -> None:
    large = "from flask import Flask\napp = Flask(__name__)\n" + "# words\n" * 200_000
    folder = write(tmp_path, {"app.py": large, "requirements.txt": ""})
    with pytest.raises(NoAppError) as caught:
        detect.complete(folder, Recipe())
    assert "app.py: not read" in caught.value.details
    # Named, it is served.
    assert detect.complete(folder, Recipe(wsgi="app:app")).recipe.wsgi == "app:app"


FLASK = "from flask import Flask\napp = Flask(__name__)\n"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"tools/old.py": 'print "hello"\n'}, "line 1: Missing parentheses"),
        ({"template/settings.py": "X = {% if a %}1{% endif %}\n"}, "line 1: invalid syntax"),
        ({"notes.py": "\0"}, "line 1: source code string cannot contain null bytes"),
    ],
)
def test_a_faulty_file_that_the_app_does_not_import_is_a_note(
    tmp_path: Path, files: dict[str, str], reason: str
) -> None:
    folder = write(tmp_path, {"app.py": FLASK, "requirements.txt": "", **files})
    notes = detect.complete(folder, Recipe()).notes
    assert any(note.startswith(f"not read: {next(iter(files))} ({reason}") for note in notes)


@pytest.mark.parametrize(
    "files",
    [
        {"app.py": FLASK + "import lib\n", "lib.py": 'print "hello"\n'},
        {"app.py": FLASK + "from shop import lib\n", "shop/__init__.py": "", "shop/lib.py": "def f(:\n"},
        {"app.py": FLASK.replace("app =", "app ==") + "def f(:\n"},
    ],
)
def test_a_faulty_file_of_the_app_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    folder = write(tmp_path, {"requirements.txt": "", **files})
    with pytest.raises(AppSyntaxError) as caught:
        detect.complete(folder, Recipe())
    assert caught.value.message.startswith(f"{[*files][-1]}:")


@pytest.mark.parametrize(
    ("file", "pattern"), [(".gitignore", "scratch/"), (".bakeignore", "scratch/"), ("scratch/.gitignore", "*")]
)
def test_a_file_that_is_not_in_the_release_is_not_read(tmp_path: Path, file: str, pattern: str) -> None:
    folder = write(tmp_path, {"app.py": FLASK, "requirements.txt": "", "scratch/app.py": FLASK, file: pattern})
    completed = detect.complete(folder, Recipe())
    assert completed.recipe.wsgi == "app:app"


def test_bakeignore_overrides_gitignore(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": FLASK, ".gitignore": "app.py\n", ".bakeignore": "!app.py\n"})
    assert [path.name for path in python_files.find(tmp_path)] == ["app.py"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("type Name = str\n", (3, 12)),
        ("def first[T](items: list[T]) -> T: ...\n", (3, 12)),
        ("x = f'{a['b']}'\n", (3, 12)),
        ("try:\n    pass\nexcept ValueError, KeyError:\n    pass\n", (3, 14)),
    ],
)
def test_newer_syntax_is_no_fault_where_only_the_target_knows_it(
    tmp_path: Path, text: str, version: tuple[int, int]
) -> None:
    if sys.version_info[:2] >= version:
        pytest.skip("this Python parses it")
    write(tmp_path, {"a.py": text})
    for python, newer in ((version, version), ((3, 11), None)):
        (file,) = python_files.parse(tmp_path, [PurePosixPath("a.py")], python)
        assert file.fault and file.fault.newer == newer


def test_syntax_that_is_newer_than_the_target_names_the_python(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": FLASK + "x = t'{1}'\n", "requirements.txt": ""})
    with pytest.raises(AppSyntaxError, match=r"app\.py:3: ") as caught:
        detect.complete(tmp_path, Recipe())
    assert caught.value.hint.endswith('syntax of Python 3.14, write `python: "3.14"` in bake.yaml.')


def test_a_newer_parser_than_the_target_s_admits_no_more(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "match x:\n    case 1: ...\n"})
    (file,) = python_files.parse(tmp_path, [PurePosixPath("a.py")], (3, 9))
    assert file.fault and "only supported in Python 3.10" in file.fault.message
    (file,) = python_files.parse(tmp_path, [PurePosixPath("a.py")], (3, 10))
    assert file.fault is None


def test_an_old_except_clause_is_a_fault_on_each_python(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "try:\n    pass\nexcept ValueError, error:\n    raise error\n"})
    (file,) = python_files.parse(tmp_path, [PurePosixPath("a.py")], (3, 13))
    assert file.fault and file.fault.newer is None


def test_a_setup_py_is_a_module_but_for_that_of_a_project(tmp_path: Path) -> None:
    for name in ("setup.py", "libs/a/setup.py", "libs/a/pyproject.toml", "shop/core/setup.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path) for path in python_files.find(tmp_path)] == ["shop/core/setup.py"]
