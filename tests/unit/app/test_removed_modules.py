"""An import of a module that the target's Python no longer has is a reason for an older Debian."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FLASK, fails, find

from bake.app.detect import complete
from bake.config.recipe import Recipe
from bake.errors import RequirementError


def test_an_import_of_a_removed_module_is_refused_with_its_line(tmp_path: Path) -> None:
    files = {
        "app.py": FLASK + "from shop import lib\n",
        "shop/__init__.py": "",
        "shop/lib.py": "import os\nimport cgi\n",
    }
    error = fails(RequirementError, tmp_path, files)
    assert error.message == "shop/lib.py:2 imports cgi, which Python 3.13 no longer has"
    assert "`base: debian-12`" in error.hint
    assert find(tmp_path, {}, base="debian-12").recipe.wsgi == "app:app"


@pytest.mark.parametrize(
    "files",
    [
        {"app.py": FLASK + "try:\n    import cgi\nexcept ImportError:\n    cgi = None\n"},
        {"app.py": FLASK + "def old():\n    import cgi\n"},
        {"app.py": FLASK + "import cgi\n", "cgi.py": ""},
        {"app.py": FLASK + "import cgi, audioop\n", "requirements.txt": "flask\nlegacy-cgi\naudioop-lts==0.2\n"},
        {"app.py": FLASK + "import distutils.util\n"},
        {"app.py": FLASK, "tool.py": "import cgi\n"},
    ],
)
def test_a_module_that_the_app_can_import_or_do_without_is_no_obstacle(tmp_path: Path, files: dict[str, str]) -> None:
    assert find(tmp_path, files).recipe.wsgi == "app:app"


def test_pkg_resources_needs_an_older_setuptools_that_no_virtualenv_has(tmp_path: Path) -> None:
    app = {"app.py": f"import pkg_resources\n{FLASK}"}
    for base in ("debian-12", "debian-13"):
        error = fails(RequirementError, tmp_path, {**app, "requirements.txt": "flask\n"}, base=base)
        assert error.message == "app.py:1 imports pkg_resources, which the requirements do not contain"
        assert error.hint == "Add setuptools<82 to the app's requirements."
    assert find(tmp_path, {"requirements.txt": "flask\nsetuptools<82\n"}).recipe.wsgi == "app:app"
    (tmp_path / "requirements.txt").unlink()
    assert find(tmp_path, {}, requirements=("flask", "setuptools<82")).recipe.wsgi == "app:app"
    (tmp_path / "requirements.txt").write_text("-r base.txt\n")
    (tmp_path / "base.txt").write_text("flask\nsetuptools==75.8.0\n")
    assert complete(tmp_path, Recipe()).recipe.wsgi == "app:app"
    (tmp_path / "requirements.txt").unlink()
    with pytest.raises(RequirementError) as caught:
        complete(tmp_path, Recipe())
    assert "requirements: [flask, setuptools<82]" in caught.value.details
