"""The examples: what bake finds in each, and what their bake.yaml adds."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import REPOSITORY

from bake.app.detect import complete
from bake.config import loader
from bake.config.recipe import Recipe
from bake.config.sections import Django

EXAMPLES = REPOSITORY / "examples"


def found(name: str) -> Recipe:
    """Return the recipe of an example with what bake finds there."""
    return complete(EXAMPLES / name, loader.read(EXAMPLES / name)).recipe


def test_the_flask_example_needs_no_recipe() -> None:
    assert not (EXAMPLES / "flask-hello" / "bake.yaml").exists()
    hello = found("flask-hello")
    assert (hello.wsgi, hello.static, hello.django) == ("app:app", {"/static": "static"}, None)


def test_the_fastapi_example_needs_no_recipe() -> None:
    assert not (EXAMPLES / "fastapi-hello" / "bake.yaml").exists()
    hello = found("fastapi-hello")
    assert (hello.asgi, hello.wsgi, hello.check.author) == ("main:app", None, "python -m uvicorn main:app")


def test_the_django_example_is_migrated_and_keeps_its_key_secret() -> None:
    polls = found("django-polls")
    assert (polls.wsgi, polls.secrets) == ("mysite.wsgi:application", ("SECRET_KEY",))
    assert polls.django == Django(settings="mysite.settings")
    assert polls.release == ("python -m django migrate --noinput",)


def test_the_factory_of_the_album_is_called_and_its_uploads_are_kept() -> None:
    album = found("flask-album")
    assert (album.wsgi, album.static) == ("album:create_app()", {"/static": "album/static"})
    assert (album.secrets, album.writable.paths) == (("SECRET_KEY", "PASSWORD"), ("instance",))
    # What the app itself takes: nginx refuses larger bodies before.
    assert album.limits.body == 8 * 1024 * 1024
    assert "MAX_CONTENT_LENGTH=8 * 1024 * 1024" in (EXAMPLES / "flask-album/album/__init__.py").read_text()


@pytest.mark.parametrize("folder", sorted(EXAMPLES.iterdir()), ids=lambda folder: folder.name)
def test_an_example_is_on_the_front_page(folder: Path) -> None:
    assert f"(examples/{folder.name})" in (REPOSITORY / "README.md").read_text()
    assert (folder / "requirements.txt").is_file()
