"""What bake proposes to run beside an app's site."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FLASK, find

REDIS = "app.py:1 names a Redis at localhost; to run it on the machine, write  packages: [redis-server]"
WORKER = "makes an app of Celery; to run its worker beside the site, write  processes: {worker: celery -A"


@pytest.mark.parametrize(
    ("line", "is_local"),
    [
        ("URL = 'redis://localhost:6379/0'", True),
        ("URL = os.environ.get('REDIS_URL', 'redis://:secret@127.0.0.1')", True),
        ("HOSTS = [('127.0.0.1', 6379)]", True),
        ("client = Redis(host='localhost', port=6379)", True),
        ("URL = 'redis://redis:6379/0'", False),
        ("# URL = 'redis://localhost:6379/0'", False),
    ],
)
def test_a_redis_at_localhost_is_proposed_as_a_package(tmp_path: Path, line: str, is_local: bool) -> None:
    files = {"app.py": f"{line}\n{FLASK}"}
    assert (REDIS in find(tmp_path, files).notes) == is_local
    assert REDIS not in find(tmp_path, files, packages=["redis-server"]).notes


@pytest.mark.parametrize(
    ("files", "place", "app"),
    [
        ({"app.py": f"import celery\nqueue = celery.Celery('a')\n{FLASK}"}, "app.py:2", "app.queue"),
        ({"app.py": FLASK, "shop/celery.py": "from celery import Celery\napp = Celery('a')\n"}, "shop/celery.py:2",
         "shop.celery.app"),
        ({"app.py": f"import tasks\ncelery = tasks.make()\n{FLASK}", "tasks.py": "from celery import Task\n"},
         "app.py:2", "app.celery"),
    ],
)  # fmt: skip
def test_the_worker_of_celery_is_proposed(tmp_path: Path, files: dict[str, str], place: str, app: str) -> None:
    assert f"{place} {WORKER} {app} worker}}" in find(tmp_path, files).notes
    taken = find(tmp_path, {**files, "Procfile": "worker: celery -A shop worker\n"}).notes
    assert not any(WORKER in note for note in taken)
    assert not any(WORKER in note for note in find(tmp_path / "other", {"app.py": f"celery = 1\n{FLASK}"}).notes)


def test_a_redis_of_docker_compose_is_proposed_with_its_variable(tmp_path: Path) -> None:
    text = f"import os\nURL = os.environ.get('BROKER', 'redis://redis:6379/0')\n{FLASK}"
    notes = find(tmp_path, {"app.py": text}).notes
    assert (
        "app.py:2 names a Redis at another container; to run one on the machine, write  packages: [redis-server]"
        in notes
    )
    assert (
        "app.py:2 names a Redis at another container; for one on the machine, write  "
        "env: {BROKER: redis://localhost:6379/0}"
    ) in notes


def test_a_redis_of_docker_compose_by_its_host_is_proposed(tmp_path: Path) -> None:
    place = "app.py:1 names a Redis at another container"
    notes = find(tmp_path, {"app.py": f"redis = Redis(host='redis', port=6379)\n{FLASK}"}).notes
    line = "to run one on the machine, where its host is localhost, write  packages: [redis-server]"
    assert f"{place}; {line}" in notes
    notes = find(tmp_path, {"app.py": f"HOST = getenv('REDIS_HOST', 'redis')\n{FLASK}"}).notes
    assert f"{place}; for one on the machine, write  env: {{REDIS_HOST: localhost}}" in notes
    notes = find(tmp_path, {"app.py": f"KIND = getenv('CACHE_TYPE', 'redis')\n{FLASK}"}).notes
    assert not any(place in note for note in notes)
