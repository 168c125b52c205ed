"""The app that bake serves: the one it detects, or the one that `wsgi` names."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FACTORY, FLASK, IMPORT, MAIN, fails, find
from conftest import write

from bake.app.detect import complete
from bake.config.recipe import Recipe
from bake.errors import AppSyntaxError, NoAppError, SeveralAppsError


@pytest.mark.parametrize(
    ("files", "wsgi"),
    [
        ({"app.py": FLASK}, "app:app"),
        ({"app.py": FLASK + 'if __name__ == "__main__":\n    app.run(debug=True)\n'}, "app:app"),
        ({"main.py": "import flask\napplication = flask.Flask(__name__)\n"}, "main:application"),
        ({"web.py": "import flask as f\nsite: f.Flask = f.Flask('x')\n"}, "web:site"),
        ({"app.py": "from flask import Flask as F\napp = server = F(__name__)\n"}, "app:app"),
        ({"app.py": IMPORT + "class Mine(Flask):\n    pass\napp = Mine(__name__)\n"}, "app:app"),
        ({"app.py": "try:\n    import x\nexcept ImportError:\n    x = 1\n" + FLASK}, "app:app"),
        ({"app.py": IMPORT + "app = None\nif True:\n    app = Flask('x')\n"}, "app:app"),
        ({"shop/__init__.py": FLASK}, "shop:app"),
        ({"shop/__init__.py": "", "shop/web/server.py": FLASK}, "shop.web.server:app"),
        ({"shop/__init__.py": "from .web import app\n", "shop/web.py": FLASK}, "shop.web:app"),
        ({"shop/__init__.py": FACTORY}, "shop:create_app()"),
        (
            {"shop/__init__.py": FACTORY.replace("create_app()", "make_app(config=None)")},
            "shop:make_app()",
        ),
        ({"app.py": IMPORT + "def create_app():\n    return Flask(__name__)\n"}, "app:create_app()"),
        (
            {"app.py": "def create_app():\n  import flask\n  app = flask.Flask('x')\n  return app\n"},
            "app:create_app()",
        ),
        (
            {"app.py": IMPORT + "def create_app() -> Flask:\n    return build('x')\n"},
            "app:create_app()",
        ),
        ({"app.py": FACTORY + "app = create_app()\n"}, "app:app"),
        (
            {"app.py": FACTORY + MAIN + "    app = create_app()\n"},
            "app:create_app()",
        ),
        ({"shop/__init__.py": FACTORY, "wsgi.py": "from shop import create_app\napp = create_app()\n"}, "wsgi:app"),
        ({"shop/__init__.py": FACTORY, "run.py": "import shop\napp = shop.create_app('x')\n"}, "run:app"),
        ({"shop/__init__.py": FLASK, "wsgi.py": "from shop import app as application\n"}, "wsgi:application"),
        (
            {"shop/__init__.py": FLASK, **dict.fromkeys(("shop/views.py", "run.py"), "from shop import app\n")},
            "shop:app",
        ),
        (
            {
                "shop/__init__.py": FACTORY.replace("create_app()", "create_app(config)"),
                "wsgi.py": "from shop import create_app\napplication = create_app('prod')\n",
            },
            "wsgi:application",
        ),
        ({"app.py": FLASK, "wsgi.py": "from app import app\napplication = Middleware(app)\n"}, "wsgi:application"),
        ({"app.py": FLASK + "app = WhiteNoise(app)\ndb = SQLAlchemy(app)\n"}, "app:app"),
        ({"app.py": FLASK + "def create_app():\n    app.config['X'] = 1\n    return app\n"}, "app:create_app()"),
        ({"app.py": FLASK + "admin = Flask('admin')\n"}, "app:app"),
        ({"app.py": FACTORY + "def create_worker():\n    return Flask('worker')\n"}, "app:create_app()"),
        ({"api.py": "def application(environ, start_response):\n    return []\n"}, "api:application"),
        ({"wsgi.py": "from radicale import application\n"}, "wsgi:application"),
        (
            {
                "shop/__init__.py": FACTORY.replace("create_app()", "create_app(config)"),
                "wsgi.py": "import dav\napplication = dav.App({'/': '/var/lib/app'})\n",
            },
            "wsgi:application",
        ),
        ({"app.py": FLASK, "wsgi.py": "import dav\napplication = dav.App('x')\n"}, "app:app"),
        (
            {
                "api.py": "from fastapi import FastAPI\napp = FastAPI()\n",
                "wsgi.py": "import a2wsgi, api\napplication = a2wsgi.ASGIMiddleware(api.app)\n",
            },
            "wsgi:application",
        ),
    ],
)
def test_the_app_is_found(tmp_path: Path, files: dict[str, str], wsgi: str) -> None:
    found = find(tmp_path, files)
    assert found.recipe.wsgi == wsgi
    assert found.notes[0].startswith(f"wsgi: {wsgi} (")


DASH = "from dash import Dash\nboard = Dash(__name__)\n"
PYRAMID = (
    "from pyramid.config import Configurator\n"
    "def main(global_config, **settings):\n"
    "    with Configurator(settings=settings) as config:\n"
    "        config.scan()\n"
    "    return config.make_wsgi_app()\n"
)
WEB_PY = "import web\napp = web.application(('/', 'index'), globals())\n"
BOTTLE = "from bottle import route, run\n@route('/')\ndef index(): return 'hello'\n"


@pytest.mark.parametrize(
    ("files", "wsgi"),
    [
        ({"site/wsgi.py": "from django.core.wsgi import get_wsgi_application as get\napplication = get()\n",
          "site/asgi.py": "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n"},
         "site.wsgi:application"),
        ({"app.py": "import bottle\napp = bottle.Bottle()\n"}, "app:app"),
        ({"app.py": "import bottle\napp = bottle.default_app()\n"}, "app:app"),
        ({"app.py": BOTTLE + MAIN + "    run()\n"}, "app:bottle.default_app()"),
        ({"app.py": BOTTLE, "main.py": f"import app, bottle\n{MAIN}    bottle.run()\n"}, "main:bottle.default_app()"),
        ({"things.py": "import falcon\napi = falcon.App()\n"}, "things:api"),
        ({"app.py": "import cherrypy\napp = cherrypy.tree.mount(object(), '/')\n"}, "app:app"),
        ({"code.py": "import web\napplication = web.application((), globals()).wsgifunc()\n"}, "code:application"),
        ({"code.py": WEB_PY + MAIN + "    app.run()\n"}, "code:app.wsgifunc()"),
        ({"code.py": WEB_PY + "application = app.wsgifunc()\n"}, "code:application"),
        ({"app.py": PYRAMID.replace("global_config, **settings", "settings={}")}, "app:main()"),
        ({"shop/__init__.py": PYRAMID, "production.ini": "[app:main]\nuse = egg:shop\n"}, "production.ini"),
        ({"shop/__init__.py": PYRAMID, "conf/production.ini": "[app:main]\nuse = egg:shop\n"}, "conf/production.ini"),
        ({"app.py": DASH}, "app:board.server"),
        ({"app.py": DASH + "server = board.server\n"}, "app:server"),
        ({"src/shop/__init__.py": FLASK, "src/shop/views.py": "from shop import app\n"}, "shop:app"),
        ({"src/__init__.py": "", "src/shop.py": FLASK}, "src.shop:app"),
    ],
)  # fmt: skip
def test_frameworks_and_layouts(tmp_path: Path, files: dict[str, str], wsgi: str) -> None:
    assert find(tmp_path, files).recipe.wsgi == wsgi
    # What was found can be said.
    assert find(tmp_path, {}, wsgi=wsgi).recipe.wsgi == wsgi


def test_a_factory_may_be_given_plain_values(tmp_path: Path) -> None:
    files = {"app.py": FACTORY.replace("create_app()", "create_app(config)")}
    error = fails(NoAppError, tmp_path, files)
    assert "create_app() needs arguments: config" in error.details
    assert error.hint == "Give each one a default, or pass them in bake.yaml: `wsgi: app:create_app(config='…')`."
    error = fails(NoAppError, tmp_path, {}, wsgi="app:create_app()")
    assert error.hint.endswith("`wsgi: app:create_app(config='…')`.")
    assert find(tmp_path, {}, wsgi="app:create_app(config='prod')").recipe.wsgi == "app:create_app(config='prod')"


def test_two_apps_are_both_named(tmp_path: Path) -> None:
    error = fails(SeveralAppsError, tmp_path, {"api.py": FLASK, "admin.py": "\n" + FLASK})
    assert error.details.splitlines() == [
        "admin.py:3: to serve this one, write  wsgi: admin:app",
        "api.py:2: to serve this one, write  wsgi: api:app",
    ]
    assert find(tmp_path, {}, wsgi="api:app").recipe.wsgi == "api:app"


def test_a_wsgi_file_decides_only_in_its_own_folder(tmp_path: Path) -> None:
    error = fails(SeveralAppsError, tmp_path, {"shop/wsgi.py": FLASK, "admin/web.py": FLASK})
    assert isinstance(error, SeveralAppsError)
    assert sorted(error.candidates) == ["admin.web:app", "shop.wsgi:app"]


def test_no_app_says_what_was_looked_for(tmp_path: Path) -> None:
    error = fails(NoAppError, tmp_path, {"lib.py": "x = 1\n", "other.py": ""})
    assert "2 Python files" in error.message
    assert "wsgi: module:callable" in error.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'from flask import Flask\nif __name__ == "__main__":\n    app = Flask("x")\n    app.run()\n',
            "app.py:3: Flask('x') is only",
        ),
        (
            IMPORT + "def main():\n    Flask('x').run()\n",
            "app.py:3: Flask('x') is neither",
        ),
        (
            FACTORY.replace("create_app()", "create_app(config, *, env)"),
            "app.py:2: create_app() needs arguments: config, env",
        ),
        (
            "import cherrypy\n" + MAIN + "    cherrypy.quickstart(Root(), config=conf)\n",
            "app.py:3: cherrypy.quickstart starts its own server; instead, write at module level  "
            "app = cherrypy.tree.mount(Root(), config=conf)",
        ),
    ],
)
def test_what_came_near_is_said(tmp_path: Path, text: str, said: str) -> None:
    assert fails(NoAppError, tmp_path, {"app.py": text}).details.startswith(said)


@pytest.mark.parametrize(
    ("wsgi", "said"),
    [
        ("shop:app", "neither shop.py nor shop/__init__.py exists"),
        ("app:ap", "app.py has no ap at module level"),
        ("app:late", "only inside"),
        ("app:create_app", "is a function that returns an app"),
        ("app:app()", "is an app, not a function"),
        ("app:strict()", "needs arguments: config"),
    ],
)
def test_a_wrong_wsgi_is_told_apart(tmp_path: Path, wsgi: str, said: str) -> None:
    text = FLASK + FACTORY + "def strict(config):\n    return Flask('x')\nif '__main__' == __name__:\n    late = app\n"
    error = fails(NoAppError, tmp_path, {"app.py": text}, wsgi=wsgi)
    assert said in error.message
    assert error.hint


def test_a_wrong_wsgi_is_corrected(tmp_path: Path) -> None:
    assert "`wsgi: app:app`" in fails(NoAppError, tmp_path, {"app.py": FLASK}, wsgi="ap:app").hint


@pytest.mark.parametrize(
    "text", ["from x import *\n", "globals()['app'] = 1\n", "def __getattr__(name): ...\n", "app = load()\n"]
)
def test_what_reading_cannot_tell_is_believed(tmp_path: Path, text: str) -> None:
    assert find(tmp_path, {"web.py": text}, wsgi="web:app").recipe.wsgi == "web:app"


CALL = "from shop import create_app\napp = create_app({})\n"
SHOP = {"shop/__init__.py": FACTORY.replace("create_app()", "create_app(config=None)")}


@pytest.mark.parametrize(
    ("files", "wsgi", "source"),
    [
        ({"api.py": FLASK, "web.py": FLASK, "Procfile": "web: gunicorn web:app\n"}, "web:app", "Procfile"),
        ({"manage.py": FLASK, "run.py": FLASK, "Procfile": "web: gunicorn manage:app\n"}, "manage:app", "Procfile"),
        ({"api.py": FLASK, "web.py": FLASK, ".flaskenv": "FLASK_APP=api.py\n"}, "api:app", ".flaskenv: FLASK_APP"),
        ({**SHOP, "Procfile": "web: gunicorn 'shop:create_app()'\n"}, "shop:create_app()", "Procfile"),
        ({**SHOP, "Procfile": "web: gunicorn 'shop:create_app(\"x\")'\n"}, "shop:create_app('x')", "Procfile"),
        ({**SHOP, "Procfile": "web: waitress-serve --call shop:create_app\n"}, "shop:create_app()", "Procfile"),
        ({"shop/run.py": "application = Made()\n", "Procfile": "web: gunicorn shop.run\n"}, "shop.run:application",
         "Procfile"),
        ({"api.py": FLASK, "Procfile": "web: gunicorn gone:app\n"}, "api:app", ""),
    ],
)  # fmt: skip
def test_a_file_that_names_the_app_decides_and_is_printed(
    tmp_path: Path, files: dict[str, str], wsgi: str, source: str
) -> None:
    completed = find(tmp_path, files)
    assert str(completed.recipe.wsgi).replace('"', "'") == wsgi
    assert source in completed.notes[0]


@pytest.mark.parametrize(
    ("files", "wsgi"),
    [
        ({**SHOP, "manage.py": CALL.format("'dev'"), "run.py": CALL.format("'prod'")}, "run:app"),
        ({**SHOP, "celery_worker.py": CALL.format("'x'")}, "shop:create_app()"),
        ({"website.py": FLASK, "celery_app.py": FLASK}, "website:app"),
        ({"shop/wsgi.py": FLASK, "shop/__init__.py": "", "celeryshop/wsgi.py": FLASK}, "shop.wsgi:app"),
        ({"app.py": FLASK, "examples/hello.py": FLASK}, "app:app"),
        ({"shop/web.py": FLASK, "bin/proxy.py": FLASK}, "shop.web:app"),
        ({"shop/wsgi.py": FLASK, "shop/wsgi_async.py": "import eager\n" + FLASK}, "shop.wsgi:app"),
        (
            {"shop/web/app.py": FACTORY, "shop/testing/app.py": "from shop.web.app import create_app\n"},
            "shop.web.app:create_app()",
        ),
        ({"tasks.py": FLASK}, "tasks:app"),
        ({**SHOP, "wsgi.py": CALL.format("'prod'"), "run.py": CALL.format("'dev'")}, "wsgi:app"),
        ({**SHOP, "a.py": CALL.format("'x'"), "b.py": CALL.format("'x'")}, "a:app"),
    ],
)
def test_a_script_is_not_the_app_if_there_is_another(tmp_path: Path, files: dict[str, str], wsgi: str) -> None:
    assert find(tmp_path, files).recipe.wsgi == wsgi


def test_entries_with_different_arguments_are_a_question(tmp_path: Path) -> None:
    error = fails(SeveralAppsError, tmp_path, {**SHOP, "run.py": CALL.format("'prod'"), "dev.py": CALL.format("'dev'")})
    assert isinstance(error, SeveralAppsError)
    assert sorted(error.candidates) == ["dev:app", "run:app"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pyproject.toml", '[project]\nname = "x"\n[project.scripts]\na = "cli:main"\nb = "b:main"\n'),
        ("pyproject.toml", '[tool.poetry]\nname = "x"\n[tool.poetry.scripts]\nb = "b:main"\n'),
        ("setup.cfg", "[metadata]\nname = x\n[options.entry_points]\nconsole_scripts =\n    b = b:main\n"),
    ],
)
def test_a_program_of_the_project_decides_between_several_apps(tmp_path: Path, file: str, text: str) -> None:
    apps = {**SHOP, "a.py": CALL.format("'x'"), "b.py": CALL.format("'y'"), "cli.py": CALL.format("'z'")}
    completed = find(tmp_path, {**apps, file: text})
    assert completed.recipe.wsgi == "b:app" and f"{file}: scripts" in completed.notes[0]
    assert find(tmp_path, {"wsgi.py": CALL.format("'w'")}).recipe.wsgi == "wsgi:app"


def test_an_app_that_only_a_script_creates_is_named(tmp_path: Path) -> None:
    shop = {"shop/__init__.py": FACTORY.replace("create_app()", "create_app(config)")}
    error = fails(NoAppError, tmp_path, {**shop, "manage.py": CALL.format("'dev'")})
    assert error.message.endswith("manage.py:2") and "`wsgi: manage:app`" in error.hint


BOTTLE_COPY = (
    "import http.server\n"
    "class Bottle:\n    pass\n"
    "default_app = Bottle()\n"
    "def run():\n    http.server.HTTPServer(('', 8080), None).serve_forever()\n"
)


@pytest.mark.parametrize(
    ("files", "wsgi"),
    [
        ({"bottle.py": BOTTLE_COPY, "app.py": "import bottle\napp = bottle.Bottle()\n"}, "app:app"),
        ({"shop/vendor/bottle.py": BOTTLE_COPY, "shop/vendor/__init__.py": "from .bottle import *\n",
          "shop/__init__.py": "from shop.vendor import Bottle\ndef app(**options) -> Bottle:\n"
                              "    return set_up(options)\n"},
         "shop:app()"),
    ],
)  # fmt: skip
def test_a_copy_of_bottle_is_a_framework_and_not_the_app(tmp_path: Path, files: dict[str, str], wsgi: str) -> None:
    assert find(tmp_path, files).recipe.wsgi == wsgi


def test_a_copy_of_bottle_is_no_server_to_run(tmp_path: Path) -> None:
    assert "shop/bottle.py" not in str(fails(NoAppError, tmp_path, {"shop/bottle.py": BOTTLE_COPY}))


def test_a_factory_comes_before_the_names_of_its_app_in_contrib(tmp_path: Path) -> None:
    files = {
        "src/wiki/app.py": FACTORY,
        "contrib/host/wsgi.py": "from wiki.app import create_app\napplication = create_app('config.py')\n",
    }
    assert find(tmp_path, files).recipe.wsgi == "wiki.app:create_app()"


@pytest.mark.parametrize("name", ["update_accounts", "send_mails", "sync_users"])
def test_a_factory_comes_before_a_job_that_calls_it(tmp_path: Path, name: str) -> None:
    files = {"shop/__init__.py": FACTORY, f"{name}.py": "from shop import create_app\napp = create_app()\n"}
    assert find(tmp_path, files).recipe.wsgi == "shop:create_app()"


def test_a_private_app_is_not_the_one_to_serve(tmp_path: Path) -> None:
    files = {
        "wsgi.py": "from shop.app import create_app\napp = create_app()\n",
        "shop/app.py": FACTORY,
        "shop/admin.py": FACTORY.replace("create_app", "_create_app"),
        "shop/_app.py": FLASK,
    }
    assert find(tmp_path, files).recipe.wsgi == "wsgi:app"
    (tmp_path / "wsgi.py").unlink()
    (tmp_path / "shop/app.py").unlink()
    assert "shop._app:app" in fails(SeveralAppsError, tmp_path, {}).details


def test_an_old_file_without_an_app_does_not_hide_the_program_that_serves(tmp_path: Path) -> None:
    server = "import http.server\nhttp.server.HTTPServer(('', 8000), None).serve_forever()\n"
    error = fails(NoAppError, tmp_path, {"serve.py": server, "wiki/theme.py": "def f(d):\n    x = 1\n\ty = 2\n"})
    assert isinstance(error, NoAppError) and error.proposal == ("run: python3 serve.py", "port: 8000")
    assert "wiki/theme.py: not read: line 3" in error.details
    fails(AppSyntaxError, tmp_path, {"shop.py": f"{FLASK}print 1\n"})


def test_a_settings_file_for_development_is_to_be_copied_for_production(tmp_path: Path) -> None:
    settings = "[app:main]\nuse = egg:shop\n"
    factory = (
        "from pyramid.config import Configurator\n"
        "def main(global_config, **settings):\n    return Configurator().make_wsgi_app()\n"
    )
    files = {"shop/__init__.py": factory, "development.ini": settings, "testing.ini": settings}
    error = fails(NoAppError, tmp_path, files)
    assert error.hint.startswith("development.ini calls it. Copy that file to production.ini without")
    assert find(tmp_path, {}, wsgi="development.ini").recipe.wsgi == "development.ini"
    assert find(tmp_path, {"production.ini": settings}).recipe.wsgi == "production.ini"


def test_separate_apps_with_requirements_of_their_own_are_baked_from_their_folders(tmp_path: Path) -> None:
    files = {
        f"{name}/{file}": text for name in ("a", "b") for file, text in (("app.py", FLASK), ("requirements.txt", ""))
    }
    (tmp_path / "apps").mkdir()
    with pytest.raises(SeveralAppsError) as caught:
        complete(write(tmp_path / "apps", files), Recipe())
    assert caught.value.hint.endswith("If they are separate apps, bake the folder of one instead: a, b.")
    assert "separate" not in fails(SeveralAppsError, tmp_path, files).hint
