"""gunicorn and waitress: their requirements, and the settings that the machine decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.app import wsgi_server
from bake.app.detect import complete
from bake.app.requirement_line import Line
from bake.config.recipe import Recipe
from bake.errors import AsgiAppError


@pytest.mark.parametrize("server", ["gunicorn", "waitress"])
def test_a_server_that_the_app_does_not_name_is_added_and_noted(server: str) -> None:
    notes: list[str] = []
    (line,) = wsgi_server.served(server, [], notes)
    assert line.name == server and line.text.startswith(f"{server}>=")
    assert notes == [f"requirements: bake adds {server} for `server: {server}`"]
    own_line = Line(f"{server}==99", "requirements.txt:1", server)
    assert wsgi_server.served(server, [own_line], notes) == [own_line, line] and len(notes) == 1


def test_settings_of_gunicorn_that_the_machine_decides_are_noted(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    (tmp_path / "gunicorn.conf.py").write_text("workers = 3\nbind: str = ':8000'\n")
    detection = complete(tmp_path, Recipe.model_validate({"server": "gunicorn", "requirements": ()}))
    assert (detection.recipe.wsgi, detection.recipe.server) == ("app:app", "gunicorn")
    assert "ignored: gunicorn.conf.py:2 sets bind, which the machine decides" in detection.notes
    waitress = complete(tmp_path, Recipe.model_validate({"server": "waitress", "requirements": ()}))
    assert not any("ignored: gunicorn" in note for note in waitress.notes)


def test_a_server_of_wsgi_apps_is_refused_for_an_asgi_app(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    with pytest.raises(AsgiAppError, match="gunicorn"):
        complete(tmp_path, Recipe.model_validate({"server": "gunicorn", "requirements": ()}))
