"""A Procfile: what bake takes of it, and what it prints about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import DJANGO, FLASK, fails, find
from conftest import write

from bake.app import procfile, scaffold
from bake.app.procfile import Procfile
from bake.config import loader
from bake.config.sections import Process
from bake.errors import NoAppError

PROCFILE = """\
# Heroku's
web: gunicorn app:app --workers 3 --bind 0.0.0.0:$PORT
release: poetry run flask db upgrade
worker: celery -A shop worker --loglevel=info
clock:\tpython clock.py
"""


def test_the_lines_of_a_procfile() -> None:
    assert procfile.parse(PROCFILE) == Procfile(
        "gunicorn app:app --workers 3 --bind 0.0.0.0:$PORT",
        "flask db upgrade",
        {"worker": "celery -A shop worker --loglevel=info", "clock": "python clock.py"},
    )
    assert procfile.parse("web\n: x\nno command:\nbell: a\x07\n") == Procfile()


def test_a_folder_without_a_procfile_has_no_lines(tmp_path: Path) -> None:
    assert procfile.read(tmp_path) == Procfile()
    (tmp_path / "Procfile").mkdir()
    assert procfile.read(tmp_path) == Procfile()


def test_bake_prints_what_it_takes_from_a_procfile_and_what_not(tmp_path: Path) -> None:
    found = find(tmp_path, {"app.py": FLASK, "Procfile": PROCFILE})
    assert found.recipe.wsgi == "app:app"
    assert found.recipe.release == ("flask db upgrade",)
    assert found.recipe.processes == {
        "worker": Process(run="celery -A shop worker --loglevel=info"), "clock": Process(run="python clock.py"),
    }  # fmt: skip
    notes = "\n".join(found.notes)
    assert "not taken from the Procfile: `--workers 3 --bind 0.0.0.0:$PORT` of web" in notes
    assert "release: [flask db upgrade] (from the Procfile; once for each release" in notes
    assert "processes: {worker: celery -A shop worker --loglevel=info} (from the Procfile)" in notes


def test_the_keys_of_the_recipe_come_before_a_procfile(tmp_path: Path) -> None:
    keys = {"release": [], "processes": {}, "wsgi": "app:app"}
    found = find(tmp_path, {"app.py": FLASK, "Procfile": PROCFILE}, **keys)
    assert found.recipe.release == () and found.recipe.processes == {}
    assert "Procfile" not in "\n".join(found.notes)


def test_a_procfile_s_release_comes_before_the_usual_migrations(tmp_path: Path) -> None:
    found = find(tmp_path, {**DJANGO, "Procfile": "release: python manage.py migrate && python manage.py seed\n"})
    assert found.recipe.release == ("python manage.py migrate && python manage.py seed",)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("console: python manage.py shell", "does not run beside the site"),
        ("admin: python manage.py runserver 0.0.0.0:$PORT", "another web server"),
        ("css: npm run watch", "`npm` may not be on the machine"),
        ("redis: redis-server", "`redis-server` may not be on the machine"),
        ("worker: bin/gone", "`bin/gone` may not be"),
        ("release: npm run build", "`npm` may not be"),
        ("worker: celery 'unclosed", "`` may not be"),
    ],
)
def test_a_line_that_is_no_process_of_the_app_is_printed(tmp_path: Path, line: str, reason: str) -> None:
    found = find(tmp_path, {"app.py": FLASK, "Procfile": line})
    assert not found.recipe.processes and not found.recipe.release
    assert any(note.startswith(f"not taken from the Procfile: `{line}` (") and reason in note for note in found.notes)


@pytest.mark.parametrize(
    ("line", "name", "command"),
    [
        ("mail_worker: bin/mail", "mail-worker", "bin/mail"),
        ("Worker2: REDIS=1 env A=b rq worker", "worker2", "REDIS=1 env A=b rq worker"),
        ("queue: shop-queue --all", "queue", "shop-queue --all"),
        ("w: pipenv run python3.12 manage.py qcluster", "w", "python3.12 manage.py qcluster"),
        # Celery's scheduler writes into the folder in which it starts, which is read-only.
        ("beat: celery -A shop beat", "beat", "celery -A shop beat -s /var/lib/app/celerybeat-schedule"),
        ("w: celery -A shop worker -B", "w", "celery -A shop worker -B -s /var/lib/app/celerybeat-schedule"),
        ("beat: celery -A shop beat -s /tmp/x", "beat", "celery -A shop beat -s /tmp/x"),
    ],
)
def test_workers_of_many_kinds_are_taken(tmp_path: Path, line: str, name: str, command: str) -> None:
    project = '[project]\nname = "shop"\nversion = "1"\nscripts = {shop-queue = "shop:queue"}\n'
    write(tmp_path, {"bin/mail": "#!/bin/sh\n", "pyproject.toml": project, "Procfile": line})
    assert procfile.processes(tmp_path, []) == {name: command}


def test_the_first_recipe_has_the_lines_of_a_procfile(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": FLASK, "requirements.txt": "flask\n", "Procfile": f"{PROCFILE}css: npm run watch\n"})
    notes: list[str] = []
    scaffold.write(tmp_path, notes)
    recipe = loader.read(tmp_path)
    assert recipe.release == ("flask db upgrade",)
    assert recipe.processes and recipe.processes["clock"] == Process(run="python clock.py")
    assert any("npm run watch" in note for note in notes)


def test_a_program_of_the_web_line_serves_a_folder_without_an_app(tmp_path: Path) -> None:
    detection = find(tmp_path, {"Procfile": "web: python serve.py $PORT\n", "serve.py": "import http.server\n"})
    assert (detection.recipe.run, detection.recipe.wsgi) == ("python serve.py $PORT", None)
    assert "run: python serve.py $PORT (Procfile)" in detection.notes
    scaffold.write(tmp_path, [])
    assert "# run: python serve.py $PORT\n" in (tmp_path / "bake.yaml").read_text()


def test_the_web_line_chooses_between_several_programs(tmp_path: Path) -> None:
    serves = "import tornado.web\ntornado.web.Application([]).listen(8888)\n"
    detection = find(tmp_path, {"Procfile": "web: python site.py\n", "site.py": serves, "probe.py": serves})
    assert detection.recipe.run == "python site.py"


@pytest.mark.parametrize(
    ("web", "port"),
    [
        ("python serve.py", 8888),
        ("python3.12 -u serve.py", 8888),
        ("cd web && python main.py", 9001),
        ("python serve.py $PORT", None),
    ],
)
def test_the_port_of_such_a_program_is_read(tmp_path: Path, web: str, port: int | None) -> None:
    files = {
        "Procfile": f"web: {web}\n",
        "serve.py": "import tornado.web\ntornado.web.Application([]).listen(8888)\n",
        "web/main.py": "from aiohttp import web\nPORT = 9001\nweb.run_app(web.Application(), port=PORT)\n",
    }
    detection = find(tmp_path, files)
    assert (detection.recipe.run, detection.recipe.port) == (web, port)


@pytest.mark.parametrize(
    "web",
    ["node index.js", "gunicorn app:app", "sh -c 'python x.py", "python x.py & python y.py", "bundle exec rails s"],
)
def test_a_web_line_that_starts_no_python_program_of_the_app_is_not_taken(tmp_path: Path, web: str) -> None:
    fails(NoAppError, tmp_path, {"Procfile": f"web: {web}\n", "x.py": "", "y.py": ""})


def test_only_words_of_a_server_count_as_its_options(tmp_path: Path) -> None:
    notes = find(tmp_path, {"Procfile": "web: cd . && gunicorn app:app\n", "app.py": FLASK}).notes
    assert not any("not taken" in note for note in notes)


def test_a_process_may_change_to_another_folder(tmp_path: Path) -> None:
    files = {"Procfile": "worker: cd jobs && python w.py\n", "app.py": FLASK, "jobs/w.py": ""}
    assert find(tmp_path, files).recipe.processes == {"worker": Process(run="cd jobs && python w.py")}
