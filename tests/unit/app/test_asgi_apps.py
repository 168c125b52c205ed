"""ASGI apps: their detection, the key `asgi`, and the command of their author."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FLASK, MAIN, fails, find

from bake.errors import AsgiAppError, NoAppError, SeveralAppsError

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
SETTINGS = "INSTALLED_APPS = ['daphne', 'django.contrib.staticfiles']\nASGI_APPLICATION = 'site1.asgi.application'\n"
PROJECT = {
    "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\n",
    "site1/settings.py": SETTINGS,
    "site1/wsgi.py": "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
    "site1/asgi.py": "from channels.routing import ProtocolTypeRouter\napplication = ProtocolTypeRouter({})\n",
}


@pytest.mark.parametrize(
    ("files", "asgi"),
    [
        ({"main.py": FASTAPI}, "main:app"),
        ({"main.py": "import fastapi\napi = fastapi.FastAPI()\n"}, "main:api"),
        ({"main.py": "from fastapi import FastAPI\nclass Mine(FastAPI): ...\napp = Mine()\n"}, "main:app"),
        ({"app/__init__.py": "", "app/main.py": FASTAPI}, "app.main:app"),
        ({"main.py": "from starlette.applications import Starlette\napp = Starlette()\n"}, "main:app"),
        (
            {"main.py": "from litestar import Litestar\ndef create_app():\n    return Litestar([])\n"},
            "main:create_app()",
        ),
        ({"main.py": "from fastapi import FastAPI\ndef get_app() -> FastAPI:\n    return made()\n"}, "main:get_app()"),
        ({"main.py": "import quart\napp = quart.Quart(__name__)\n"}, "main:app"),
        ({"main.py": "async def app(scope, receive, send): ...\n"}, "main:app"),
        ({"main.py": FASTAPI + "sub = FastAPI()\napp.mount('/sub', sub)\n"}, "main:app"),
        ({"main.py": FASTAPI + "app = CORSMiddleware(app=app)\n"}, "main:app"),
        ({"shop/app.py": FASTAPI, "asgi.py": "from shop.app import app as application\n"}, "asgi:application"),
        ({"main.py": FASTAPI, "examples/hello.py": FASTAPI}, "main:app"),
        ({"main.py": FASTAPI, "timing.py": "async def timed(scope, receive, send): ...\n"}, "main:app"),
        (PROJECT, "site1.asgi:application"),
        ({**PROJECT, "site1/settings.py": SETTINGS.partition("\n")[0]}, "site1.asgi:application"),
    ],
)
def test_an_asgi_app_is_detected(tmp_path: Path, files: dict[str, str], asgi: str) -> None:
    completed = find(tmp_path, files)
    assert (completed.recipe.asgi, completed.recipe.wsgi) == (asgi, None)
    assert completed.notes[0].startswith(f"asgi: {asgi} (")
    assert find(tmp_path, {}, asgi=asgi).recipe.asgi == asgi


TWO = {"api.py": FASTAPI, "web.py": FASTAPI}
FACTORY = {"web.py": "from fastapi import FastAPI\ndef make():\n    return FastAPI()\n"}


@pytest.mark.parametrize(
    ("files", "asgi", "source"),
    [
        ({**TWO, "Procfile": "web: uvicorn web:app --host 0.0.0.0 --port $PORT\n"}, "web:app", "Procfile"),
        ({**TWO, "Procfile": "web: uvicorn --proxy-headers --workers 4 web:app\n"}, "web:app", "Procfile"),
        ({**TWO, "Procfile": "web: gunicorn -w 4 -k uvicorn.workers.UvicornWorker web:app\n"}, "web:app", "Procfile"),
        ({**TWO, "Procfile": "web: python -m hypercorn web:app -b :8000\n"}, "web:app", "Procfile"),
        ({**TWO, "Procfile": "web: daphne -b 0.0.0.0 -p 8001 web:app\n"}, "web:app", "Procfile"),
        ({**TWO, "Dockerfile": 'CMD ["uvicorn", "web:app", "--host", "0.0.0.0"]\n'}, "web:app", "Dockerfile"),
        ({**TWO, "Dockerfile": 'CMD ["fastapi", "run", "web.py", "--port", "80"]\n'}, "web:app", "Dockerfile"),
        ({"main.py": FASTAPI, "web.py": FASTAPI, "Dockerfile": "CMD fastapi run\n"}, "main:app", "Dockerfile"),
        ({**TWO, "Dockerfile": "CMD python web.py\n"}, "web:app", "Dockerfile"),
        ({**FACTORY, "Procfile": "web: uvicorn --factory web:make\n"}, "web:make()", "Procfile"),
        ({"web.py": "app = Made()\n", "Procfile": "web: uvicorn web:app\n"}, "web:app", "Procfile"),
        # A file decides between an ASGI app and a WSGI app.
        ({"api.py": FASTAPI, "web.py": FLASK, "Procfile": "web: uvicorn api:app\n"}, "api:app", "Procfile"),
    ],
)
def test_a_file_that_names_the_asgi_app_decides_and_is_printed(
    tmp_path: Path, files: dict[str, str], asgi: str, source: str
) -> None:
    completed = find(tmp_path, files)
    assert (completed.recipe.asgi, completed.recipe.wsgi) == (asgi, None)
    assert source in completed.notes[0]


def test_a_wsgi_app_comes_first_and_the_other_one_is_named(tmp_path: Path) -> None:
    completed = find(tmp_path, {"api.py": FASTAPI, "web.py": FLASK})
    assert (completed.recipe.wsgi, completed.recipe.asgi) == ("web:app", None)
    assert "ignored: the ASGI app at api.py:2; to serve it, write  asgi: api:app" in completed.notes


def test_a_django_project_without_channels_is_served_through_its_wsgi_py(tmp_path: Path) -> None:
    asgi = "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n"
    settings = "INSTALLED_APPS = []\nASGI_APPLICATION = 'site1.asgi.application'\n"
    files = {**PROJECT, "site1/asgi.py": asgi, "site1/settings.py": settings}
    assert find(tmp_path, files).recipe.wsgi == "site1.wsgi:application"


def test_two_asgi_apps_are_both_named(tmp_path: Path) -> None:
    error = fails(SeveralAppsError, tmp_path, TWO)
    assert error.details.splitlines()[0] == "api.py:2: to serve this one, write  asgi: api:app"


def test_an_app_under_the_key_of_the_other_kind_is_corrected(tmp_path: Path) -> None:
    error = fails(AsgiAppError, tmp_path, {"api.py": FASTAPI, "web.py": FLASK}, wsgi="api:app")
    assert "app is an ASGI app" in error.message and "`asgi: api:app`" in error.hint
    error = fails(AsgiAppError, tmp_path, {}, asgi="web:app")
    assert "app is a WSGI app" in error.message and "`wsgi: web:app`" in error.hint
    assert "`asgi: api:app`" in fails(NoAppError, tmp_path, {}, asgi="ap:app").hint


def test_a_server_that_starts_on_import_is_refused(tmp_path: Path) -> None:
    error = fails(NoAppError, tmp_path, {"main.py": f"import uvicorn\n{FASTAPI}uvicorn.run(app)\n"})
    assert "main.py:4: uvicorn.run() starts" in error.message


@pytest.mark.parametrize(
    ("files", "keys", "command"),
    [
        ({"main.py": FASTAPI}, {}, "python -m uvicorn main:app"),
        (FACTORY, {}, "python -m uvicorn --factory web:make"),
        (
            {"main.py": f"import uvicorn\n{FASTAPI}{MAIN}    uvicorn.run(app)\n"},
            {},
            "python main.py || python -m uvicorn main:app",
        ),
        (PROJECT, {}, "python manage.py runserver --noreload 127.0.0.1:8000"),
        ({"main.py": "def make(name): ...\n"}, {"asgi": "main:make('x')"}, "off"),
    ],
)
def test_the_authors_server_is_uvicorn(
    tmp_path: Path, files: dict[str, str], keys: dict[str, str], command: str
) -> None:
    assert find(tmp_path, files, **keys).recipe.check.author == command


def test_a_package_may_be_an_asgi_app(tmp_path: Path) -> None:
    recipe = find(tmp_path, {}, app={"package": "shop==1"}, asgi="shop:app").recipe
    assert (recipe.asgi, recipe.check.author) == ("shop:app", "python -m uvicorn shop:app")


def test_keys_that_do_not_suit_an_asgi_app_are_noted(tmp_path: Path) -> None:
    notes = find(tmp_path, {"main.py": FASTAPI}, limits={"threads": 8}).notes
    assert "warning: limits.threads has no effect on an ASGI app" in notes
