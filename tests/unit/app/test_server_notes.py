"""What bake prints about the server that a recipe chooses, and what the app's source needs."""

from __future__ import annotations

from pathlib import Path

from app_folders import FLASK, fails, find

from bake.errors import AsgiAppError

FASTAPI = "import fastapi\napp = fastapi.FastAPI()\n"


def test_a_wsgi_server_does_not_serve_an_asgi_app(tmp_path: Path) -> None:
    error = fails(AsgiAppError, tmp_path, {"main.py": FASTAPI}, server="gunicorn")
    assert error.message == "main:app is an ASGI app, which gunicorn does not serve"


def test_settings_of_gunicorn_that_have_no_effect_are_named(tmp_path: Path) -> None:
    files = {"app.py": FLASK, "gunicorn.conf.py": "bind = '0.0.0.0:80'\ntimeout = 30\n"}
    notes = find(tmp_path, files, server="gunicorn").notes
    assert any("gunicorn.conf.py" in note and "bind" in note for note in notes)
    assert not any("bind" in note for note in find(tmp_path, files).notes)


def test_a_program_that_serves_by_itself_has_no_such_notes(tmp_path: Path) -> None:
    files = {"app.py": f"import flask_socketio\n{FLASK}", "serve.py": "import http.server\n"}
    notes = find(tmp_path, files, run="python serve.py").notes
    assert not any("WebSocket" in note for note in notes)
