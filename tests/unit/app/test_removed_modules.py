"""An import of a module that the target's Python no longer has is a reason for an older Debian."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FLASK, fails, find

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
