"""Programs that serve by themselves: bake proposes `run`, and reads the program that it names."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write

from bake.app import scaffold
from bake.app.detect import Detection, complete
from bake.config.recipe import Recipe
from bake.errors import BakeError, NoAppError, SeveralAppsError

PROGRAMS = {
    "http.server": (
        "import http.server\n\ndef main():\n    http.server.HTTPServer(('', 8000), None).serve_forever()\n\n"
        "if __name__ == '__main__':\n    main()\n",
        ["run: python3 app.py", "port: 8000"],
        4,
    ),
    "PORT": (
        "import http.server, os\nhttp.server.HTTPServer(('', int(os.environ['PORT'])), None).serve_forever()\n",
        ["run: python3 app.py"],
        2,
    ),
    "streamlit": ("import os\nimport streamlit as st\nst.title('a')\n", ["run: streamlit run app.py"], 2),
    "gradio": ("import gradio as gr\ndemo = gr.Blocks()\ndemo.launch()\n", ["run: python3 app.py"], 3),
    "gradio with a port": (
        "import gradio as gr\ngr.Interface(len).launch\ndemo = 1\ndemo.launch(server_port=7000)\n",
        ["run: python3 app.py", "port: 7000"],
        4,
    ),
    "nicegui": ("from nicegui import ui\nui.run(show=False)\n", ["run: python3 app.py", "port: 8080"], 2),
    "panel": (
        "import panel as pn\na = pn.Column()\na.servable()\n",
        ["run: panel serve app.py --address 127.0.0.1 --port $PORT"],
        3,
    ),
    "aiohttp": (
        "from aiohttp import web\napp = web.Application()\nif __name__ == '__main__':\n    web.run_app(app)\n",
        ["run: python3 app.py", "port: 8080"],
        4,
    ),
    "tornado": (
        "import tornado.web\napp = tornado.web.Application()\napp.listen(8888)\n",
        ["run: python3 app.py", "port: 8888"],
        3,
    ),
    "tornado with an option": (
        "import asyncio\nfrom tornado.options import define, options, parse_command_line\n"
        "define('port', default=8888)\nasync def main():\n    parse_command_line()\n    app.listen(options.port)\n"
        "asyncio.run(main())\n",
        ["run: python3 app.py --port=$PORT"],
        6,
    ),
    "argparse": (
        "import argparse\nfrom aiohttp import web\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('-p', '--port', type=int)\nweb.run_app(a, port=parser.parse_args().port)\n",
        ["run: python3 app.py --port=$PORT"],
        5,
    ),
    "sanic": (
        "from sanic import Sanic\nsite = Sanic('site')\nif __name__ == '__main__':\n    site.run(port=7000)\n",
        ["run: sanic app:site --host 127.0.0.1 --port $PORT"],
        2,
    ),
    "cherrypy": (
        "import cherrypy\nif __name__ == '__main__':\n    cherrypy.quickstart(Root())\n",
        ["run: python3 app.py", "port: 8080"],
        3,
    ),
    "cherrypy with a port": (
        "import cherrypy\ncherrypy.config.update({'server.socket_port': 9090})\ncherrypy.engine.start()\n",
        ["run: python3 app.py", "port: 9090"],
        3,
    ),
    "flask": (
        "from flask import Flask\nif __name__ == '__main__':\n    app = Flask(__name__)\n    app.run(port=5001)\n",
        ["run: python3 app.py", "port: 5001"],
        4,
    ),
}


def refused(folder: Path, recipe: Recipe | None = None) -> BakeError:
    """Return the error of a folder."""
    with pytest.raises(BakeError) as caught:
        complete(folder, recipe or Recipe())
    return caught.value


def completed(folder: Path, **keys: object) -> Detection:
    """Return the recipe of a folder with these keys."""
    return complete(folder, Recipe.model_validate({"requirements": (), **keys}))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_proposed_as_run_with_the_line_that_shows_it(tmp_path: Path, name: str) -> None:
    text, lines, number = PROGRAMS[name]
    (tmp_path / "app.py").write_text(text)
    error = refused(tmp_path)
    assert isinstance(error, NoAppError)
    assert error.details.splitlines()[-len(lines) :] == lines and error.proposal == tuple(lines)
    assert f"app.py:{number}: {text.splitlines()[number - 1].strip()}" in error.message
    draft = scaffold.draft(tmp_path, [])
    assert "".join(f"{line}\n" for line in lines) in draft


def test_a_program_in_a_package_is_run_as_a_module(tmp_path: Path) -> None:
    text = "from aiohttp import web\nfrom chat import views\nweb.run_app(views.app)\n"
    write(tmp_path, {"chat/__init__.py": "", "chat/main.py": text, "chat/views.py": "app = None\n"})
    assert refused(tmp_path).details == "run: python3 -m chat.main\nport: 8080"
    write(tmp_path, {"chat/main.py": "", "chat/__main__.py": text})
    assert refused(tmp_path).details == "run: python3 -m chat\nport: 8080"


def test_a_program_may_start_the_server_of_a_module_that_it_imports(tmp_path: Path) -> None:
    """A copy of a library with programs of its own lies deeper."""
    program = "from shop import web\ndef main():\n    web.serve()\nif __name__ == '__main__':\n    main()\n"
    server = "import cherrypy\ndef serve():\n    cherrypy.tree.mount(Root(), '/')\n    cherrypy.server.start()\n"
    demo = "import cherrypy\nif __name__ == '__main__':\n    cherrypy.quickstart(Root())\n"
    write(tmp_path, {"shop/__init__.py": "", "shop/web.py": server, "serve.py": program, "lib/cherrypy/demo.py": demo})
    error = refused(tmp_path)
    assert isinstance(error, NoAppError) and "shop/web.py:4: cherrypy.server.start()" in error.message
    assert error.proposal == ("run: python3 serve.py", "port: 8080")


def test_a_call_of_another_run_is_no_server(tmp_path: Path) -> None:
    text = "import subprocess, sanic\nclass Reload:\n    def go(self):\n        self.app.run()\nsubprocess.run(['x'])\n"
    (tmp_path / "app.py").write_text(text)
    assert refused(tmp_path).details == ""


def test_an_app_comes_before_a_program(tmp_path: Path) -> None:
    text = "from flask import Flask\napp = Flask(__name__)\nif __name__ == '__main__':\n    app.run()\n"
    (tmp_path / "app.py").write_text(text)
    assert completed(tmp_path).recipe.wsgi == "app:app"


def test_a_file_without_a_server_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import argparse\nif __name__ == '__main__':\n    argparse.run()\n")
    error = refused(tmp_path)
    assert "no WSGI or ASGI app" in error.message and error.details == ""


def test_the_usual_name_is_preferred_and_pages_are_parts(tmp_path: Path) -> None:
    for name in ("streamlit_app.py", "other.py", "pages/1_more.py", "shared.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("import streamlit as st\nimport shared\n")
    assert refused(tmp_path).details == "run: streamlit run streamlit_app.py"
    (tmp_path / "streamlit_app.py").rename(tmp_path / "another.py")
    error = refused(tmp_path)
    assert isinstance(error, SeveralAppsError) and error.key == "run"
    assert set(error.candidates) == {"streamlit run other.py", "streamlit run another.py"}


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("python3 app.py", "app.py"),
        ("cd . && python3 -u app.py --fast", "app.py"),
        ("python3 -m server", "server/__main__.py"),
        ("python3 -m tools.serve", "tools/serve.py"),
    ],
)
def test_the_program_that_run_names_is_read(tmp_path: Path, command: str, path: str) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text("import os\nos.environ['TOKEN']\nos.environ['PORT']\n")
    detection = completed(tmp_path, run=command)
    assert detection.recipe.run == command and detection.recipe.wsgi is None
    assert detection.recipe.check.author == f"export PORT=8000; {command}"
    assert any(f"{path}:2 needs the variable TOKEN" in note for note in detection.notes)
    assert not any("PORT;" in note for note in detection.notes if "warning" in note)


def test_a_program_that_shows_its_debugger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from flask import Flask\napp = Flask(__name__)\napp.run(debug=True)\n")
    error = refused(tmp_path, Recipe.model_validate({"run": "python3 app.py", "requirements": ()}))
    assert isinstance(error, NoAppError) and "app.py:3" in error.message


def test_a_command_without_a_file_of_the_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert completed(tmp_path, run="datasette serve --port $PORT").recipe.run == "datasette serve --port $PORT"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("import redis, streamlit\nredis.Redis(port=6379)\n", ["run: streamlit run app.py"]),
        (
            "import psycopg2\nfrom aiohttp import web\npsycopg2.connect(port=5432)\nweb.run_app(a, port=8000)\n",
            ["run: python3 app.py", "port: 8000"],
        ),
        ("from aiohttp import web\nweb.run_app(a, port=int(read()))\n", ["run: python3 app.py"]),
        ("from aiohttp import web\nweb.run_app(a)\n", ["run: python3 app.py", "port: 8080"]),
    ],
)
def test_only_the_port_of_the_server_s_own_call_counts(tmp_path: Path, text: str, lines: list[str]) -> None:
    write(tmp_path, {"app.py": text, "requirements.txt": ""})
    with pytest.raises(NoAppError) as caught:
        completed(tmp_path)
    assert list(caught.value.proposal) == lines


def test_a_file_that_does_not_exist_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(NoAppError, match=r"run: nofile\.py is not in"):
        completed(tmp_path, run="python nofile.py")
    assert completed(tmp_path, run="cd backend && python nofile.py").recipe.run


def test_threads_have_no_effect_on_a_program(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": ""})
    notes = completed(tmp_path, run="python app.py", limits={"threads": 4}).notes
    assert "warning: limits.threads has no effect on `run`" in notes


def test_a_program_inside_of_a_package_is_run_from_the_folder_above(tmp_path: Path) -> None:
    text = "from aiohttp import web\nfrom .db import get\nif __name__ == '__main__':\n    web.run_app(get())\n"
    write(tmp_path, {"shop/__init__.py": "", "shop/main.py": text, "shop/db.py": "def get(): ...\n"})
    with pytest.raises(NoAppError) as caught:
        complete(tmp_path / "shop", Recipe())
    assert caught.value.message.startswith("main.py:2 imports from .db, so the app's folder is itself a package")
    assert f"Bake the folder above: {tmp_path}." in caught.value.hint
    assert caught.value.hint.endswith("Its bake.yaml needs the line `run: python3 -m shop.main`.")
    write(tmp_path, {"requirements.txt": "aiohttp\n"})
    assert not complete(tmp_path, Recipe(run="python3 -m shop.main")).notes[0].startswith("warning")


def test_a_thread_that_starts_is_no_server_of_cherrypy(tmp_path: Path) -> None:
    text = "import cherrypy, threading\nthreading.Timer(1, cherrypy.engine.exit).start()\n"
    write(tmp_path, {"app.py": text, "requirements.txt": "cherrypy\n"})
    with pytest.raises(NoAppError) as caught:
        complete(tmp_path, Recipe())
    assert not caught.value.proposal
    write(tmp_path, {"app.py": f"{text}cherrypy.engine.start()\n"})
    with pytest.raises(NoAppError) as caught:
        complete(tmp_path, Recipe())
    assert caught.value.proposal == ("run: python3 app.py", "port: 8080")
