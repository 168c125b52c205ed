"""The files of other servers and platforms tell which app they serve."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write

from bake.app import entry_evidence


def found(folder: Path, files: dict[str, str]) -> list[str]:
    return [f"{evidence.modules[0]}:{evidence.expression}" for evidence in entry_evidence.find(write(folder, files))]


@pytest.mark.parametrize(
    ("command", "app"),
    [
        ("gunicorn run:app", "run:app"),
        ("gunicorn -w 4 -b 0.0.0.0:$PORT --log-file - shop.wsgi", "shop.wsgi:"),
        ("gunicorn -w4 --preload 'shop:create_app(\"prod\")' --timeout 5", 'shop:create_app("prod")'),
        ("flask db upgrade && gunicorn --chdir backend app:app", "backend.app:app"),
        ("cd site && exec gunicorn3 app:app", "site.app:app"),
        ("waitress-serve --port=$PORT --call shop:create_app", "shop:create_app()"),
        ("newrelic-admin run-program gunicorn app:server", "app:server"),
        ("uwsgi --http :8000 --module shop:app", "shop:app"),
        ("uwsgi --wsgi-file web.py --callable site", "web:site"),
        ("python -u app.py", "app:"),
        ("python -m flask --app shop:app run", "shop:app"),
        ("sh -c 'gunicorn app:app'", "app:app"),
        ("uvicorn --host 0.0.0.0 --reload --app-dir site api:app", "site.api:app"),
        ("gunicorn -k uvicorn.workers.UvicornWorker api:app", "api:app"),
        ("python -m hypercorn -b :8000 api:app", "api:app"),
        ("fastapi run --app site web.py", "web:site"),
    ],
)
def test_the_command_of_a_procfile_names_the_app(tmp_path: Path, command: str, app: str) -> None:
    assert found(tmp_path, {"Procfile": f"worker: gunicorn worker:app\nweb: {command}\n"}) == [app]


@pytest.mark.parametrize(
    "command", ["python manage.py runserver", "fastapi login", "gunicorn 'unclosed", "", "npm start"]
)
def test_a_command_of_another_kind_is_no_evidence(tmp_path: Path, command: str) -> None:
    assert found(tmp_path, {"Procfile": f"web: {command}\n"}) == []


@pytest.mark.parametrize(
    ("files", "app"),
    [
        ({"Dockerfile": 'FROM x\nCMD ["gunicorn", "-b", ":80", "run:app"]\n'}, "run:app"),
        ({"Dockerfile": "CMD gunicorn \\\n  run:app\n"}, "run:app"),
        ({"Dockerfile": 'ENTRYPOINT ["./boot.sh"]\n', "boot.sh": "#!/bin/sh\nexec gunicorn run:app\n"}, "run:app"),
        ({"Dockerfile": 'ENTRYPOINT ["/x/bin/gunicorn", "-w", "4"]\nCMD ["shop.run"]\n'}, "shop.run:"),
        ({"Dockerfile": "ENV FLASK_APP=shop.py\n"}, "shop:"),
        ({".flaskenv": "FLASK_APP=shop:create_app('x')\nFLASK_ENV=development\n"}, "shop:create_app('x')"),
        ({"app.json": '{"env": {"FLASK_APP": {"value": "run.py"}}}'}, "run:"),
        ({"render.yaml": "services:\n- type: web\n  startCommand: gunicorn run:app\n"}, "run:app"),
        ({"app.yaml": "runtime: python\nentrypoint: gunicorn -b :$PORT run:app\n"}, "run:app"),
        ({"fly.toml": "[processes]\napp = 'gunicorn run:app'\n"}, "run:app"),
        ({"gunicorn.conf.py": "wsgi_app = 'run:app'\nbind = ':80'\n"}, "run:app"),
        ({"uwsgi.ini": "[uwsgi]\nmodule = run\ncallable = app\n"}, "run:app"),
        ({"pyproject.toml": "[tool.fastapi]\nentrypoint = 'run:app'\n"}, "run:app"),
    ],
)
def test_each_file_that_starts_the_app_names_it(tmp_path: Path, files: dict[str, str], app: str) -> None:
    assert found(tmp_path, files) == [app]


def test_the_procfile_comes_before_flask_app(tmp_path: Path) -> None:
    files = {".flaskenv": "FLASK_APP=dev.py\n", "Procfile": "web: gunicorn run:app\n"}
    assert found(tmp_path, files) == ["run:app", "dev:"]


def test_a_file_without_an_app_is_no_evidence(tmp_path: Path) -> None:
    files = {"app.json": '{"env": {"X": 1}}', "Dockerfile": "CMD [1, {}]\nCMD 7\n", "app.yaml": "- 1\n", "fly.toml": ""}
    assert found(tmp_path, files) == []
    assert found(tmp_path, {"app.json": "[]", "render.yaml": "startCommand: [1]\n", "Procfile": "web:"}) == []


@pytest.mark.parametrize(
    "name", ["app.json", "app.yaml", "fly.toml", "gunicorn.conf.py", "pyproject.toml", "render.yaml"]
)
def test_a_file_that_cannot_be_parsed_is_no_evidence(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, {name: "{[(\0"}) == []
