"""The server and the limits that bake gives apps with WebSockets."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import DJANGO, FACTORY, FLASK, find

from bake.app import wsgi_server
from bake.app.requirement_line import Line

FASTAPI = "import fastapi\napp = fastapi.FastAPI()\n"
CHAT = f'{FASTAPI}@app.websocket("/chat")\nasync def chat(socket): pass\n'
CHANNELS = {
    **DJANGO,
    "site1/asgi.py": "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n",
    "site1/settings.py": "INSTALLED_APPS = ['channels']\nASGI_APPLICATION = 'site1.asgi.application'\n"
    "CHANNEL_LAYERS = {'default': {'BACKEND': 'channels.layers.InMemoryChannelLayer'}}\n",
}


@pytest.mark.parametrize(
    ("lines", "limits"),
    [
        ("from flask_socketio import SocketIO", "{workers: 1, threads: 100}"),
        ("from flask_sock import Sock", "{threads: 100}"),
        ("import socketio\nserver = socketio.Server()", "{workers: 1, threads: 100}"),
    ],
)
def test_a_wsgi_app_with_websockets_gets_gunicorn(tmp_path: Path, lines: str, limits: str) -> None:
    detection = find(tmp_path, {"app.py": f"{lines}\n{FLASK}"})
    assert detection.recipe.server == "gunicorn"
    assert detection.recipe.limits.threads == 100
    assert detection.recipe.limits.workers == (1 if "workers" in limits else "auto")
    assert any(note.startswith("server: gunicorn (app.py imports ") for note in detection.notes)
    assert any(note.startswith(f"limits: {limits} (") for note in detection.notes)


def test_websockets_are_seen_in_a_module_that_a_factory_imports(tmp_path: Path) -> None:
    files = {
        "app.py": FACTORY.replace("    return", "    import sockets\n    return"),
        "sockets.py": "import flask_sock\n",
    }
    assert find(tmp_path, files).recipe.server == "gunicorn"


@pytest.mark.parametrize("lines", ["import socketio\nclient = socketio.Client()", "import socket"])
def test_other_apps_keep_uwsgi(tmp_path: Path, lines: str) -> None:
    detection = find(tmp_path, {"app.py": f"{lines}\n{FLASK}"})
    assert detection.recipe.server == "uwsgi"
    assert not any("WebSocket" in note for note in detection.notes)


def test_the_keys_of_the_recipe_stay(tmp_path: Path) -> None:
    files = {"app.py": f"import flask_socketio\n{FLASK}"}
    detection = find(tmp_path, files, limits={"workers": 2, "threads": 8}, server="gunicorn")
    assert (detection.recipe.limits.workers, detection.recipe.limits.threads) == (2, 8)
    assert not any(note.startswith(("limits:", "server:")) for note in detection.notes)
    detection = find(tmp_path, files, server="uwsgi")
    assert detection.recipe.server == "uwsgi" and detection.recipe.limits.workers == 1
    warning = "warning: app.py imports flask_socketio, and uwsgi does not serve WebSockets; write  server: gunicorn"
    assert warning in detection.notes


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"app.py": f"import socketio\nsocketio.AsyncServer()\n{FASTAPI}"}, "a client of Socket.IO belongs to one"),
        (CHANNELS, "the InMemoryChannelLayer in site1/settings.py reaches the visitors of one worker only"),
    ],
)
def test_an_asgi_app_whose_visitors_meet_in_memory_gets_one_worker(
    tmp_path: Path, files: dict[str, str], reason: str
) -> None:
    detection = find(tmp_path, files)
    assert detection.recipe.limits.workers == 1
    assert any(note.startswith("limits: {workers: 1} (") and reason in note for note in detection.notes)


def test_an_asgi_app_with_websockets_is_told_about_workers(tmp_path: Path) -> None:
    detection = find(tmp_path, {"app.py": CHAT})
    assert detection.recipe.limits.workers == "auto"
    assert any(note.startswith("app.py:3 serves WebSockets") and "workers: 1" in note for note in detection.notes)
    assert not any("WebSocket" in note for note in find(tmp_path, {"app.py": f"import redis\n{CHAT}"}).notes)
    assert not any("WebSocket" in note for note in find(tmp_path, {"app.py": CHAT}, limits={"workers": 1}).notes)


def test_gunicorn_is_one_that_has_the_worker_of_the_app(tmp_path: Path) -> None:
    def texts(*names: str) -> list[str]:
        lines = wsgi_server.served("gunicorn", [Line(name, "", name) for name in names], [])
        return [line.text for line in lines[len(names) :]]

    assert texts("flask") == ["gunicorn>=21"]
    assert texts("eventlet") == ["gunicorn>=21", "gunicorn<26"]
    assert texts("gevent") == ["gunicorn>=21", "packaging"]
