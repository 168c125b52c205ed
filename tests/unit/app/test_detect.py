"""What is found in an app's folder, and what is said when it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bake.app.detect import Found, complete
from bake.config.recipe import Django, Recipe
from bake.errors import (
    AsgiAppError,
    BakeError,
    NoAppError,
    RequirementError,
    SeveralAppsError,
)

IMPORT = "from flask import Flask\n"
MAIN = 'if __name__ == "__main__":\n'
FACTORY = IMPORT + "def create_app():\n    app = Flask(__name__)\n    return app\n"
FLASK = IMPORT + "app = Flask(__name__)\n"


def find(folder: Path, files: dict[str, str], **keys: object) -> Found:
    for name, text in {"requirements.txt": "flask\n", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return complete(folder, Recipe.model_validate(keys))


def fails(kind: type[BakeError], folder: Path, files: dict[str, str], **keys: object) -> BakeError:
    with pytest.raises(kind) as caught:
        find(folder, files, **keys)
    return caught.value


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
        ({"app.py": FLASK + "def create_app():\n    app.config['X'] = 1\n    return app\n"}, "app:app"),
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
        ({"app.py": BOTTLE, "main.py": "import app, bottle\nbottle.run(port=8080)\n"}, "main:bottle.default_app()"),
        ({"things.py": "import falcon\napi = falcon.App()\n"}, "things:api"),
        ({"app.py": "import cherrypy\napp = cherrypy.tree.mount(object(), '/')\n"}, "app:app"),
        ({"code.py": "import web\napplication = web.application((), globals()).wsgifunc()\n"}, "code:application"),
        ({"code.py": WEB_PY + MAIN + "    app.run()\n"}, "code:app.wsgifunc()"),
        ({"code.py": WEB_PY + "application = app.wsgifunc()\n"}, "code:application"),
        ({"app.py": PYRAMID.replace("global_config, **settings", "settings={}")}, "app:main()"),
        ({"shop/__init__.py": PYRAMID, "production.ini": "[app:main]\nuse = egg:shop\n"}, "production.ini"),
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
    ("text", "line", "target"),
    [
        ("from fastapi import FastAPI\napp = FastAPI()\n", 2, "app"),
        ("import quart\n\napp = quart.Quart(__name__)\n", 3, "app"),
        ("async def app(scope, receive, send):\n    pass\n", 1, "app"),
        ("from litestar import Litestar\ndef create():\n    return Litestar([])\n", 2, "create()"),
    ],
)
def test_an_asgi_app_is_shown_the_way(tmp_path: Path, text: str, line: int, target: str) -> None:
    error = fails(AsgiAppError, tmp_path, {"api.py": text})
    assert error.message.startswith(f"api.py:{line}: ")
    assert f"application = ASGIMiddleware({target})" in error.details
    fails(AsgiAppError, tmp_path, {}, wsgi=f"api:{target}")


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


def test_pyproject_may_say_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["flask"]\n')
    assert find(tmp_path, {"app.py": FLASK}).recipe.requirements == "requirements.txt"
    (tmp_path / "requirements.txt").unlink()
    assert complete(tmp_path, Recipe()).recipe.requirements == "pyproject.toml"


def test_an_app_of_python_s_own_library_needs_nothing(tmp_path: Path) -> None:
    text = "import json\nfrom lib import x\nfrom . import y\ndef app(environ, start_response):\n    return []\n"
    (tmp_path / "app.py").write_text(text)
    (tmp_path / "lib.py").write_text("x = 1\n")
    found = complete(tmp_path, Recipe.model_validate({"wsgi": "app:app"}))
    assert found.recipe.requirements == ()
    assert any(note.startswith("requirements: none") for note in found.notes)
    # Said so, it is no question either.
    said = Recipe.model_validate({"wsgi": "app:app", "requirements": []})
    assert complete(tmp_path, said).recipe.requirements == ()
    (tmp_path / "lib.py").write_text("import yaml\n")
    with pytest.raises(RequirementError):
        complete(tmp_path, Recipe.model_validate({"wsgi": "app:app"}))


def test_missing_requirements_are_proposed(tmp_path: Path) -> None:
    text = "import os, yaml, flask_login\nfrom lib import x\nfrom . import y\nimport PIL.Image\n"
    (tmp_path / "app.py").write_text(FLASK + text)
    (tmp_path / "lib.py").touch()
    with pytest.raises(RequirementError) as caught:
        complete(tmp_path, Recipe())
    assert caught.value.details == "requirements: [PyYAML, flask, flask-login, pillow]"
    # What is proposed is taken as it stands.
    found = complete(tmp_path, Recipe.model_validate({"requirements": ["PyYAML", "flask", "flask-login", "pillow"]}))
    assert found.recipe.requirements == ("PyYAML", "flask", "flask-login", "pillow")


@pytest.mark.parametrize(
    ("module", "made", "folder", "static"),
    [
        ("app.py", "Flask(__name__)", "static", {"/static": "static"}),
        ("app.py", "Flask(__name__)", "other", {}),
        ("shop/__init__.py", "Flask(__name__)", "shop/static", {"/static": "shop/static"}),
        ("shop/web.py", "Flask(__name__, static_folder='../public')", "public", {"/public": "public"}),
        ("app.py", "Flask(__name__, static_folder='a', static_url_path='/s/')", "a", {"/s": "a"}),
        ("app.py", "Flask(__name__, static_folder=None)", "static", {}),
        ("app.py", "Flask(__name__, static_folder=HERE)", "static", {}),
        ("app.py", "Flask(__name__, static_folder='../..')", "static", {}),
    ],
)
def test_static_files_are_where_flask_looks(
    tmp_path: Path, module: str, made: str, folder: str, static: dict[str, str]
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    found = find(tmp_path, {module: f"{IMPORT}def create_app():\n    app = {made}\n    return app\n"})
    assert found.recipe.static == static


def test_the_name_is_the_folders(tmp_path: Path) -> None:
    folder = tmp_path / "My Shop_2!"
    folder.mkdir()
    assert find(folder, {"app.py": FLASK}).recipe.name == "my-shop-2"


def test_what_the_recipe_says_stays(tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    keys = {"name": "x", "wsgi": "app:app", "requirements": "r.txt", "static": {}, "check": {"author": "off"}}
    found = find(tmp_path, {"app.py": FLASK, "r.txt": ""}, **keys)
    assert (found.recipe.name, found.recipe.requirements, found.recipe.static) == ("x", "r.txt", {})
    assert found.notes == ()


def test_a_package_of_the_index_may_be_the_app(tmp_path: Path) -> None:
    keys = {"app": {"package": "HTTPbin[mainapp]==0.10.4"}, "wsgi": "httpbin:app", "requirements": ["gunicorn"]}
    found = complete(tmp_path, Recipe.model_validate(keys)).recipe
    assert (found.name, found.wsgi) == ("httpbin", "httpbin:app")
    assert found.requirements == ("HTTPbin[mainapp]==0.10.4", "gunicorn")
    with pytest.raises(NoAppError, match="needs `wsgi`"):
        complete(tmp_path, Recipe.model_validate({"app": keys["app"]}))


SETTINGS = """
SECRET_KEY = 'django-insecure-1234'
INSTALLED_APPS = ['django.contrib.admin', 'django.contrib.staticfiles']
STATIC_URL = 'static/'
"""
DJANGO = {
    "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\n",
    "site1/settings.py": SETTINGS,
    "site1/wsgi.py": "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
}


def test_a_django_project_gets_settings_around_its_own(tmp_path: Path) -> None:
    found = find(tmp_path, DJANGO, secrets=["API_KEY"])
    assert found.recipe.wsgi == "site1.wsgi:application"
    assert found.recipe.django == Django(settings="site1.settings")
    assert found.recipe.secrets == ("API_KEY", "SECRET_KEY")
    assert any("DEBUG off" in note and "`django: off`" in note for note in found.notes)
    off = find(tmp_path, {}, django="off").recipe
    assert (off.django, off.secrets) == ("off", ())


def test_a_settings_package_and_a_key_from_elsewhere(tmp_path: Path) -> None:
    files = {
        "site1/settings/__init__.py": "from .dev import *\n",
        "site1/settings/dev.py": "from .base import *\nDEBUG = True\n",
        "site1/settings/base.py": SETTINGS.replace("'django-insecure-1234'", "os.environ['KEY']").replace(
            "static/", "/x/"
        ),
    }
    found = find(tmp_path, {name: text for name, text in {**DJANGO, **files}.items() if name != "site1/settings.py"})
    assert found.recipe.django == Django(settings="site1.settings")
    assert found.recipe.secrets == ()


def test_the_settings_are_those_of_the_wsgi_module(tmp_path: Path) -> None:
    """As templates have it: manage.py names settings for development, wsgi.py those for a server."""
    files = {
        **DJANGO,
        "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings.local')\n",
        "site1/settings/__init__.py": "",
        "site1/settings/local.py": SETTINGS,
        "site1/settings/production.py": "from .local import *\nSECRET_KEY: str = 'django-insecure-annotated'\n",
    }
    del files["site1/settings.py"]
    for line in (
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings.production')",
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'site1.settings.production'",
    ):
        found = find(tmp_path, {**files, "site1/wsgi.py": f"import os\n{line}\n{DJANGO['site1/wsgi.py']}"}).recipe
        assert found.django == Django(settings="site1.settings.production")
        assert found.secrets == ("SECRET_KEY",)
    found = find(tmp_path, {}, env={"DJANGO_SETTINGS_MODULE": "site1.settings.local"}).recipe
    assert found.django == Django(settings="site1.settings.local")


@pytest.mark.parametrize(
    ("recipe", "secrets"),
    [({}, ("SECRET_KEY",)), ({"secrets": ["KEY"]}, ("KEY",)), ({"env": {"KEY": "x"}}, ()),
     ({"secrets": ["SECRET_KEY"]}, ("SECRET_KEY",))],
)  # fmt: skip
def test_an_insecure_key_is_replaced_unless_the_settings_get_another(
    tmp_path: Path, recipe: dict[str, Any], secrets: tuple[str, ...]
) -> None:
    settings = SETTINGS.replace("'django-insecure-1234'", "os.environ.get('KEY', 'django-insecure-1234')")
    found = find(tmp_path, {**DJANGO, "site1/settings.py": settings}, **recipe)
    assert found.recipe.secrets == secrets


def test_uploads_are_served_where_the_author_s_server_does(tmp_path: Path) -> None:
    urls = "from django.conf.urls.static import static\nif settings.DEBUG:\n    urlpatterns += static(settings.%s)\n"
    found = find(tmp_path, {**DJANGO, "site1/urls.py": urls % "MEDIA_URL, document_root=settings.MEDIA_ROOT"})
    assert found.recipe.django == Django(settings="site1.settings", media=True)
    assert find(tmp_path, {"site1/urls.py": urls % "STATIC_URL"}).recipe.django == Django(settings="site1.settings")


def test_a_site_without_domains_is_told_of_those_in_its_settings(tmp_path: Path) -> None:
    hosts = f"{SETTINGS}ALLOWED_HOSTS = ['127.0.0.1', '.shop.example', 'shop.example']\n"
    note = "domains: not set, so the site accepts any host name; ALLOWED_HOSTS suggests  domains: [shop.example]"
    assert note in find(tmp_path, {**DJANGO, "site1/settings.py": hosts}).notes
    assert note not in find(tmp_path, {}, domains=["a.example"]).notes


@pytest.mark.parametrize(
    ("files", "steps"),
    [
        (DJANGO, ("python -m django migrate --noinput",)),
        ({"app.py": FLASK, "migrations/env.py": "", "requirements.txt": "flask\n"}, ()),
        ({"app.py": f"import flask_migrate\n{FLASK}", "migrations/env.py": ""}, ("flask db upgrade",)),
        ({"app.py": FLASK, "alembic.ini": ""}, ()),
    ],
)
def test_migrations_are_release_steps(tmp_path: Path, files: dict[str, str], steps: tuple[str, ...]) -> None:
    found = find(tmp_path, files)
    assert found.recipe.release == steps
    told = [note for note in found.notes if "alembic upgrade head" in note or note.startswith("release: [")]
    assert bool(told) == bool(steps or "alembic.ini" in files)
    assert find(tmp_path, files, release=[]).recipe.release == ()


def test_no_django_no_settings(tmp_path: Path) -> None:
    assert find(tmp_path, {"app.py": FLASK}).recipe.django is None


def test_a_secret_in_env_is_noted_without_its_value(tmp_path: Path) -> None:
    env = {"STRIPE_KEY": "hunter2", "SITE": "shop"}
    notes = [
        find(tmp_path, {"app.py": FLASK}, env=env).notes,
        complete(
            tmp_path, Recipe.model_validate({"app": {"package": "shop==1.0"}, "wsgi": "shop:app", "env": env})
        ).notes,
    ]
    for some in notes:
        (note,) = [note for note in some if "looks like" in note]
        assert note.startswith("warning: env.STRIPE_KEY looks like a secret") and "secrets: [STRIPE_KEY]" in note
        assert "hunter2" not in note


def test_missing_requirements_lead_to_the_draft(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(FLASK)
    with pytest.raises(RequirementError) as caught:
        complete(tmp_path, Recipe())
    assert caught.value.details == "requirements: [flask]"
    assert "made the line above" in caught.value.hint and "`bake init`" in caught.value.hint


def test_a_proposed_domain_is_a_public_one(tmp_path: Path) -> None:
    hosts = 'ALLOWED_HOSTS = ["localhost", "127.0.0.1", "shop.example"]\n'
    wsgi = "import os\nfrom django.core.wsgi import get_wsgi_application\n"
    wsgi += 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")\napplication = get_wsgi_application()\n'
    found = find(tmp_path, {"wsgi.py": wsgi, "settings.py": hosts})
    (note,) = [note for note in found.notes if "ALLOWED_HOSTS suggests" in note]
    assert note.endswith("domains: [shop.example]")
    joined = hosts.replace('", "', " ").replace('["', '"').replace('"]', '".split()')
    assert note in find(tmp_path, {"settings.py": joined}).notes
    joined = joined.replace(" shop.example", "")
    assert not [note for note in find(tmp_path, {"settings.py": joined}).notes if "ALLOWED_HOSTS suggests" in note]
    found = find(tmp_path, {"settings.py": hosts.replace(', "shop.example"', "")})
    assert not [note for note in found.notes if "ALLOWED_HOSTS suggests" in note]
