"""Find scripts beside an app that create its tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FLASK, MAIN, find

DB = f"{FLASK}from flask_sqlalchemy import SQLAlchemy\ndb = SQLAlchemy(app)\n"
IMPORTS = "from app import app, db\n"
CONTEXT = "with app.app_context():\n    db.create_all()\n"
FASTAPI = "from fastapi import FastAPI\nfrom models import Base\napp = FastAPI()\n"
MODELS = "from sqlalchemy.orm import declarative_base\nBase = declarative_base()\n"


def proposals(folder: Path, files: dict[str, str], **keys: object) -> list[str]:
    """Return the commands that the notes propose."""
    notes = find(folder, files, **keys).notes
    return [note.split("`")[1] for note in notes if "seems to create the app's tables" in note]


@pytest.mark.parametrize("name", ["create_db.py", "init_db.py", "db_create.py", "setup_db.py", "create_tables.py"])
def test_a_script_that_creates_the_tables_is_proposed_to_run_once(tmp_path: Path, name: str) -> None:
    found = find(tmp_path, {"app.py": DB, name: f"{IMPORTS}{CONTEXT}    db.session.commit()\n"})
    line = f"release: ['test -e /var/lib/app/tables || {{ python {name} && touch /var/lib/app/tables; }}']"
    assert f"`python {name}` seems to create the app's tables: to run it once, write  {line}" in found.notes
    # Nothing runs it unasked.
    assert found.recipe.release == ()


@pytest.mark.parametrize(
    "script",
    [
        f"{IMPORTS}db.create_all()\n",
        f"{IMPORTS}{MAIN}    with app.app_context():\n        db.create_all()\n",
        f"{IMPORTS}def fill():\n    db.create_all()\n\ndef run():\n    fill()\n\n{MAIN}    run()\n",
        f"{IMPORTS}from app import User\n{CONTEXT}    db.session.add(User(name='admin'))\n    db.session.flush()\n",
        "import sys\nsys.path.insert(0, '.')\nfrom app import create_app, db\n"
        "create_app().app_context().push()\ndb.create_all()\nsys.exit(0)\n",
    ],
)
def test_the_code_that_a_script_runs_creates_the_tables(tmp_path: Path, script: str) -> None:
    assert proposals(tmp_path, {"app.py": DB, "tables.py": script}) == ["python tables.py"]


def test_a_script_for_an_app_without_flask_is_proposed(tmp_path: Path) -> None:
    script = (
        "import asyncio\nfrom models import Base, engine\n\nasync def main():\n"
        "    async with engine.begin() as connection:\n"
        "        await connection.run_sync(Base.metadata.create_all)\n\nasyncio.run(main())\n"
    )
    files = {"main.py": FASTAPI, "models.py": MODELS, "create_tables.py": script}
    assert proposals(tmp_path, files) == ["python create_tables.py"]


@pytest.mark.parametrize(
    "script",
    [
        f"{IMPORTS}with app.app_context():\n    db.drop_all()\n    db.create_all()\n",
        f"{IMPORTS}from app import drop_all as tidy\ntidy()\n{CONTEXT}",
        f"{IMPORTS}from tools import reset_db\nreset_db()\n{CONTEXT}",
        f"{IMPORTS}import os\nos.remove('shop.db')\n{CONTEXT}",
        f"{IMPORTS}{CONTEXT}    db.session.execute('DELETE FROM users')\n",
        f"{IMPORTS}{CONTEXT}app.run()\n",
        f"{IMPORTS}import uvicorn\n{CONTEXT}uvicorn.run(app)\n",
        f"{IMPORTS}{CONTEXT}while True:\n    print('work')\n",
        f"{IMPORTS}{CONTEXT}name = input('Name: ')\n",
        f"{IMPORTS}import sys\nif sys.argv[1] == 'create':\n    db.create_all()\n",
        f"{IMPORTS}import argparse\nargparse.ArgumentParser().parse_args()\n{CONTEXT}",
        f"{IMPORTS}from getpass import getpass as ask\nask()\n{CONTEXT}",
        f"{IMPORTS}def create():\n    db.create_all()\n",
        f"{IMPORTS}# db.create_all()\n",
        f"{IMPORTS}{CONTEXT}@app.route('/')\ndef home():\n    return 'home'\n",
        f"{IMPORTS}{CONTEXT}app.register_blueprint(shop)\n",
        f"{IMPORTS}{CONTEXT}print('no end'\n",
    ],
)
def test_a_script_that_does_more_or_less_is_not_proposed(tmp_path: Path, script: str) -> None:
    assert proposals(tmp_path, {"app.py": DB, "tables.py": script}) == []


@pytest.mark.parametrize(
    "files",
    [
        {"test_db.py": IMPORTS + CONTEXT},
        {"scripts/create_db.py": IMPORTS + CONTEXT},
        {"app.py": f"{DB}import tables\n", "tables.py": f"from app import app, db\n{MAIN}    db.create_all()\n"},
        {"app.py": f"{DB}\ndef page():\n    import tables\n", "tables.py": f"{IMPORTS}{MAIN}    db.create_all()\n"},
        {"other.py": "import tables\n", "tables.py": f"{IMPORTS}{MAIN}    db.create_all()\n"},
        {"Procfile": "release: flask seed\n", "tables.py": IMPORTS + CONTEXT},
        {"Procfile": "worker: python tables.py\n", "tables.py": IMPORTS + CONTEXT},
        {"alembic.ini": "", "tables.py": IMPORTS + CONTEXT},
    ],
)
def test_other_files_are_not_proposed(tmp_path: Path, files: dict[str, str]) -> None:
    assert proposals(tmp_path, {"app.py": DB, **files}) == []


def test_a_script_that_the_recipe_runs_is_not_proposed(tmp_path: Path) -> None:
    files = {"app.py": DB, "tables.py": IMPORTS + CONTEXT}
    assert proposals(tmp_path, files, setup=["python tables.py"]) == []
    assert proposals(tmp_path, files, release=[]) == []


@pytest.mark.parametrize(
    "app",
    [
        DB + CONTEXT,
        f"{DB}\n@app.before_first_request\ndef start():\n    db.create_all()\n",
        f"{DB}\ndef start():\n    db.create_all()\n\nstart()\n",
        "from database import init_db\n" + FLASK + "init_db()\n",
        "from flask import Flask\nfrom database import db\n\ndef create_app():\n    app = Flask(__name__)\n"
        "    with app.app_context():\n        db.create_all()\n    return app\n",
    ],
)
def test_no_script_is_proposed_if_the_app_creates_its_tables(tmp_path: Path, app: str) -> None:
    database = "db = None\n\ndef init_db():\n    db.create_all()\n"
    script = "from database import db\ndb.create_all()\n"
    assert proposals(tmp_path, {"app.py": app, "database.py": database, "tables.py": script}) == []


@pytest.mark.parametrize(
    "app",
    [
        f"{DB}{MAIN}    db.create_all()\n    app.run()\n",
        f"{DB}\n@app.cli.command()\ndef fill():\n    db.create_all()\n",
        f"{DB}\n@app.route('/install')\ndef install():\n    db.create_all()\n",
    ],
)
def test_a_script_is_proposed_if_the_machine_s_app_creates_no_tables(tmp_path: Path, app: str) -> None:
    assert proposals(tmp_path, {"app.py": app, "tables.py": IMPORTS + CONTEXT}) == ["python tables.py"]


def test_a_program_that_creates_its_tables_needs_no_script(tmp_path: Path) -> None:
    app = f"{DB}{MAIN}    db.create_all()\n    app.run()\n"
    files = {"app.py": app, "tables.py": IMPORTS + CONTEXT}
    assert proposals(tmp_path, files, run="python3 app.py", port=5000) == []
