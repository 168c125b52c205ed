"""A first bake.yaml: it can be read, and says what has to be said."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.app import scaffold
from bake.config import loader
from bake.config.recipe import Recipe
from bake.errors import AppSyntaxError, RecipeError

FLASK = "from flask import Flask\napp = Flask(__name__)\n"


def write(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    assert scaffold.write(folder, []) == folder / "bake.yaml"
    return (folder / "bake.yaml").read_text()


def test_what_is_found_is_commented_out_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("flask\n")
    text = write(tmp_path, app=FLASK)
    assert "# The app: created at app.py:2.\n# wsgi: app:app\n" in text
    assert "# requirements: requirements.txt\n" in text
    assert loader.read(tmp_path) == Recipe()


def test_imports_are_proposed(tmp_path: Path) -> None:
    text = write(tmp_path, app=FLASK + "import yaml\n")
    assert "Check the names.\nrequirements: [PyYAML, flask]\n" in text
    assert loader.read(tmp_path).requirements == ("PyYAML", "flask")


def test_several_apps_are_there_to_choose_from(tmp_path: Path) -> None:
    text = write(tmp_path, app=FLASK, admin=FLASK)
    assert "# wsgi: admin:app    # admin.py:2\n# wsgi: app:app    # app.py:2\n" in text
    (tmp_path / "bake.yaml").write_text(text.replace("# wsgi: admin", "wsgi: admin"))
    assert loader.read(tmp_path).wsgi == "admin:app"


def test_no_app_says_what_came_near(tmp_path: Path) -> None:
    text = write(tmp_path, app="from flask import Flask\ndef make(config):\n    return Flask(config)\n")
    assert "#   app.py:2: make() needs arguments: config\n" in text
    loader.read(tmp_path)


def test_a_tool_s_lock_has_its_way_out(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").touch()
    assert "Run `pip list" in write(tmp_path, app=FLASK)
    loader.read(tmp_path)


def test_every_line_of_the_draft_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").touch()
    text = write(tmp_path, app=FLASK)
    keys = [
        line for line in text.splitlines() if line.startswith("# ") and line[2:].split(":")[0] in Recipe.model_fields
    ]
    assert len(keys) >= 8
    (tmp_path / "bake.yaml").write_text("\n".join(line.removeprefix("# ") for line in keys))
    assert len(loader.read(tmp_path).model_fields_set) == len(keys)


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "bake.yaml").write_text("name: mine\n")
    with pytest.raises(RecipeError, match=r"bake\.yaml exists"):
        scaffold.write(tmp_path, [])
    assert (tmp_path / "bake.yaml").read_text() == "name: mine\n"


def test_an_asgi_app_gets_its_key(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("fastapi\n")
    text = write(tmp_path, app="from fastapi import FastAPI\napp = FastAPI()\n")
    assert "# The app: created at app.py:2.\n# asgi: app:app\n" in text


def test_what_no_recipe_mends_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def (:\n")
    with pytest.raises(AppSyntaxError):
        scaffold.write(tmp_path, [])
    assert not (tmp_path / "bake.yaml").exists()


def test_the_paths_that_were_observed_are_pinned(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(FLASK)
    (tmp_path / "requirements.txt").write_text("flask\n")
    scaffold.pin(tmp_path, ("logs", "shop.db"))
    pinned = loader.read(tmp_path).writable
    assert (pinned.paths, pinned.observe) == (("logs", "shop.db"), False)
    with pytest.raises(RecipeError, match="already has `writable`") as caught:
        scaffold.pin(tmp_path, ("other",))
    assert caught.value.details == 'writable: {observe: off, paths: ["other"]}\n'
    (tmp_path / "bake.yaml").write_text("name: shop\n")
    scaffold.pin(tmp_path, ("logs",))
    assert loader.read(tmp_path).name == "shop" and loader.read(tmp_path).writable.paths == ("logs",)
    with pytest.raises(RecipeError, match="wrote nothing"):
        scaffold.pin(tmp_path, ())


def test_what_is_left_to_do_is_noted(tmp_path: Path) -> None:
    notes: list[str] = []
    scaffold.write(tmp_path, notes)
    assert notes == [f"bake found no WSGI or ASGI app in the 0 Python files of {tmp_path}: set `wsgi` or `asgi`"]
    text = (tmp_path / "bake.yaml").read_text()
    assert "# The app imports no other packages.\n# requirements: []\n" in text and "()" not in text


def test_a_draft_that_is_complete_has_no_notes(tmp_path: Path) -> None:
    notes: list[str] = []
    (tmp_path / "app.py").write_text(FLASK)
    (tmp_path / "requirements.txt").write_text("flask\n")
    scaffold.write(tmp_path, notes)
    assert notes == []


def test_what_may_run_beside_the_site_is_proposed_as_comments(tmp_path: Path) -> None:
    text = "from celery import Celery\nqueue = Celery(broker='redis://localhost:6379')\n"
    (tmp_path / "app.py").write_text("from flask import Flask\nfrom work import queue\napp = Flask(__name__)\n")
    (tmp_path / "work.py").write_text(text)
    notes: list[str] = []
    draft = scaffold.draft(tmp_path, notes)
    assert "\n# packages: [redis-server]\n" in draft
    assert "\n# processes: {worker: celery -A work.queue worker}\n" in draft
    assert "work.py:2 makes an app of Celery: check `processes`" in notes
    (tmp_path / "Procfile").write_text("worker: celery -A work worker\n")
    assert "work.queue" not in scaffold.draft(tmp_path, [])
