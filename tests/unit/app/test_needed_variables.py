"""Which variables an app needs to start, and which of them are secrets, as its .env.example tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FLASK, IMPORT, find
from conftest import write

from bake.app import needed_variables, scaffold

EXAMPLE = """# The host of the mail server.
MAIL_HOST=localhost
export MAIL_USER = "changeme"  # not yours
LICENSE=
SITE_NAME='My shop'
API_KEY=abc
"""
READS = "".join(f"os.environ['{name}']\n" for name in ("MAIL_HOST", "MAIL_USER", "LICENSE", "SITE_NAME", "OTHER"))


def keys(folder: Path, files: dict[str, str]) -> list[str]:
    """Return the lines for bake.yaml in the notes."""
    return [note.partition("  ")[2] for note in find(folder, files).notes if "needs the variable" in note]


@pytest.mark.parametrize("name", [".env.example", "example.env"])
def test_the_example_of_a_env_tells_which_variables_are_secrets(tmp_path: Path, name: str) -> None:
    assert keys(tmp_path, {"app.py": f"import os\n{FLASK}{READS}", name: EXAMPLE}) == [
        'env: {MAIL_HOST: "localhost"}', "secrets: [MAIL_USER]", "secrets: [LICENSE]", 'env: {SITE_NAME: "My shop"}',
        "env: {OTHER: …}",
    ]  # fmt: skip


def test_the_function_that_creates_the_app_needs_its_variables(tmp_path: Path) -> None:
    body = "    app = Flask(__name__)\n    app.config['X'] = os.environ['HOST']\n    return app\n"
    files = {"shop/__init__.py": f"import os\n{IMPORT}def create_app():\n{body}def other():\n    os.environ['NO']\n"}
    assert keys(tmp_path, files) == ["env: {HOST: …}"]
    assert keys(tmp_path, {"wsgi.py": "from shop import create_app\napp = create_app()\n"}) == ["env: {HOST: …}"]


def test_the_first_recipe_has_the_secrets_of_the_example(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": FLASK, "requirements.txt": "flask\n", ".env.example": f"{EXAMPLE}PATH=\n"})
    assert "\n# secrets: [MAIL_USER, LICENSE, API_KEY]\n" in scaffold.draft(tmp_path, [])
    (tmp_path / ".env.example").unlink()
    assert "\n# secrets: [SECRET_KEY]\n" in scaffold.draft(tmp_path, [])
    assert needed_variables.examples(tmp_path) == {}
