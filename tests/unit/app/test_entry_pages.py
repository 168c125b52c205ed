"""An app whose pages another file adds: bake takes the entry that has them, or proposes the program that serves it."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FACTORY, FLASK, IMPORT, MAIN, fails, find
from conftest import write

from bake.app import scaffold
from bake.errors import NoAppError


def refused(folder: Path, files: dict[str, str]) -> NoAppError:
    """Return the error of a folder with these files."""
    error = fails(NoAppError, folder, files)
    assert isinstance(error, NoAppError)
    return error


VIEWS = "from flask import Blueprint\npages = Blueprint('pages', __name__)\n@pages.route('/')\ndef index(): ...\n"
#: An app in a package, whose pages main() in another module adds, and a program with the package's name.
PROGRAM = {
    "shop/__init__.py": FLASK + "def create_app():\n    app.secret_key = 'x'\n    return app\n",
    "shop/views.py": VIEWS,
    "shop/constants.py": "DEFAULT_PORT = 8083\n",
    "shop/main.py": "from . import constants, create_app\n"
    "def main():\n    from .views import pages\n    app = create_app()\n    app.register_blueprint(pages)\n",
    "shop.py": "from shop.main import main\n" + MAIN + "    main()\n",
}


def test_a_program_that_alone_adds_the_pages_is_proposed(tmp_path: Path) -> None:
    error = refused(tmp_path, PROGRAM)
    assert "shop:create_app() (shop/__init__.py:3) has no pages" in error.message
    assert "main() in shop/main.py:5 adds them" in error.message and "the program shop.py" in error.message
    assert error.proposal == ("run: python3 shop.py", "port: 8083")
    assert "run: python3 shop.py\nport: 8083\n" in scaffold.draft(tmp_path, [])
    recipe = find(tmp_path, {}, run="python3 shop.py", port=8083)
    assert recipe.frameworks == {"flask": "shop/__init__.py"}
    assert find(tmp_path, {}, wsgi="shop:app").recipe.wsgi == "shop:app"


@pytest.mark.parametrize(
    ("files", "wsgi"),
    [
        # A starter imports the pages, or registers them.
        ({"shop/__init__.py": FLASK, "shop/views.py": "from shop import app\n@app.route('/')\ndef index(): ...\n",
          "run.py": "from shop import app, views\n" + MAIN + "    app.run()\n"}, "run:app"),
        ({"shop/__init__.py": FLASK, "views.py": VIEWS,
          "start.py": "from shop import app\nfrom views import pages\napp.register_blueprint(pages)\n"}, "start:app"),
        # The usual factory finishes the app at module level.
        ({"shop/__init__.py": FLASK + "def create_app():\n    from views import pages\n"
                              "    app.register_blueprint(pages)\n    return app\n", "views.py": VIEWS},
         "shop:create_app()"),
        ({"app.py": FLASK + "def create_app():\n    app.config['X'] = 1\n    return app\ncreate_app()\n"}, "app:app"),
        # A function that the module, or its factory, calls.
        ({"app.py": FLASK + "def add(app):\n    app.add_url_rule('/', 'x')\nadd(app)\n" + MAIN + "    app.run()\n"},
         "app:app"),
        ({"shop/__init__.py": FACTORY.replace("    return", "    from . import urls\n    urls.add(app)\n    return"),
          "shop/urls.py": "def add(app):\n    @app.route('/')\n    def index(): ...\n",
          "run.py": "from shop import create_app\n" + MAIN + "    app = create_app()\n    app.route('/x')(len)\n"},
         "shop:create_app()"),
        # bake does not know how the app gets its pages, and no program adds any.
        ({"app.py": FLASK + MAIN + "    app.run()\n", "other.py": VIEWS}, "app:app"),
    ],
)  # fmt: skip
def test_the_entry_with_the_pages_is_chosen(tmp_path: Path, files: dict[str, str], wsgi: str) -> None:
    assert find(tmp_path, files).recipe.wsgi == wsgi


def test_pages_added_in_the_block_of_a_program_are_refused(tmp_path: Path) -> None:
    text = IMPORT + "from views import pages\napp = Flask(__name__)\n"
    text += MAIN + "    app.register_blueprint(pages)\n    app.run(port=5001)\n"
    error = refused(tmp_path, {"app.py": text, "views.py": VIEWS})
    assert "app.py:5 adds them" in error.message
    assert error.proposal == ("run: python3 app.py", "port: 5001")


def test_a_function_that_only_a_program_calls_with_its_settings_is_no_entry(tmp_path: Path) -> None:
    """A method with the name of the program's function does not run it."""
    files = {
        "shop/__init__.py": "def main():\n    from shop.web import shop_app\n    shop_app({}).run()\n",
        "shop/web.py": "import shop.jobs\n" + FLASK + "def shop_app(config=None):\n"
        "    from shop.views import pages\n    app.register_blueprint(pages)\n    return app\n",
        "shop/views.py": VIEWS,
        "shop/jobs.py": "class Job:\n    async def main(self): ...\n    def run(self):\n        self.main()\n",
        "serve.py": "import shop\n" + MAIN + "    shop.main()\n",
    }
    error = refused(tmp_path, files)
    assert "shop.web:app (shop/web.py:3) has no pages" in error.message
    assert error.proposal == ("run: python3 serve.py",)


def test_a_command_of_the_project_may_add_the_pages(tmp_path: Path) -> None:
    files = {
        "app.py": FLASK, "views.py": VIEWS,
        "cli.py": "from app import app\nimport views\ndef serve():\n    app.register_blueprint(views.pages)\n"
                  "    app.run()\ndef other(): ...\n",
        "pyproject.toml": '[project]\nname = "shop"\n[project.scripts]\nshop-other = "cli:other"\nshop = "cli:serve"\n',
    }  # fmt: skip
    error = refused(tmp_path, files)
    assert "serve() in cli.py:4 adds them, and only the program cli.py runs that" in error.message
    assert error.proposal == ("run: shop",)


@pytest.mark.parametrize(
    ("app", "run", "place"),
    [
        (FLASK, "from app import app\nimport views\n" + MAIN + "    app.register_blueprint(views.pages)\n", "run.py:4"),
        (FACTORY, "from app import create_app\nimport views\napp = create_app()\n"
         + MAIN + "    app.register_blueprint(views.pages)\n    app.run()\n", "run.py:5"),
        (FLASK, "import views\nx = views.pages\n" + MAIN + "    x.register_blueprint(views.pages)\n    x.run()\n", ""),
        (FLASK, "from app import app\n" + MAIN + "    app.run()\n", ""),
    ],
)  # fmt: skip
def test_further_pages_of_a_program_are_a_warning(tmp_path: Path, app: str, run: str, place: str) -> None:
    app = app.replace("    return", "    app.add_url_rule('/', 'x')\n    return")
    app += "" if "return" in app else "@app.route('/')\ndef index(): ...\n"
    notes = find(tmp_path, {"app.py": app, "views.py": VIEWS, "run.py": run}).notes
    places = [note.split()[1] for note in notes if "adds pages inside" in note]
    assert places == ([place] if place else [])


def test_routers_of_fastapi_are_pages_only_if_the_app_includes_them(tmp_path: Path) -> None:
    api = "from fastapi import APIRouter, FastAPI\nrouter = APIRouter()\n@router.get('/')\ndef index(): ...\n"
    write(tmp_path, {"requirements.txt": "fastapi\n", "api.py": api + "app = FastAPI()\napp.include_router(router)\n"})
    assert find(tmp_path, {}).recipe.asgi == "api:app"
    run = "import uvicorn, api\ndef main():\n    api.app.include_router(api.router)\n    uvicorn.run(api.app)\n"
    error = refused(tmp_path, {"api.py": api + "app = FastAPI()\n", "run.py": f"{run}{MAIN}    main()\n"})
    assert error.proposal == ("run: python3 run.py", "port: 8000")
