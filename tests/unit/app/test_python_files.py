"""Which files are read, how much of them, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

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
