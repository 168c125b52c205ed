"""How bake guesses the way an app's author runs it, and what a machine hears from that server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Fake, Helper, write

from bake.app import author_server
from bake.app.detect import complete
from bake.bundle import release_files as bundled
from bake.config.recipe import Recipe
from bake.host import paths
from bake.vm import qemu

FLASK = "from flask import Flask\napp = Flask(__name__)\n"
MAIN = 'if __name__ == "__main__":\n    '
DJANGO = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings')\n"
WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"app.py": FLASK}, "flask run"),
        ({"app.py": FLASK + MAIN + "app.run(debug=True)\n"}, "python app.py || flask run"),
        ({"app.py": FLASK + "def main():\n    app.run()\n" + MAIN + "main()\n"}, "python app.py || flask run"),
        ({"app.py": FLASK + MAIN + "print(app.url_map)\n"}, "flask run"),
        (
            {"shop/__init__.py": FLASK, "run.py": "from shop import app\n" + MAIN + "app.run()\n"},
            "python run.py || flask run",
        ),
        # A program of another kind beside it.
        ({"app.py": FLASK, "import_prices.py": MAIN + "main()\n"}, "flask run"),
        (
            {"app.py": f"import bottle\napp = bottle.Bottle()\n{MAIN}bottle.run(app)\n"},
            f"python app.py || {author_server.PLAIN}",
        ),
        ({"app.py": "import falcon\napp = falcon.App()\n"}, author_server.PLAIN),
        (
            {"manage.py": DJANGO, "site/settings.py": "DEBUG = True\n", "site/wsgi.py": DJANGO + WSGI},
            "python manage.py runserver --noreload 127.0.0.1:8000",
        ),
        (
            {"site/settings.py": "DEBUG = True\n", "site/wsgi.py": DJANGO + WSGI},
            "python -m django runserver --noreload 127.0.0.1:8000",
        ),
        (
            {"production.ini": "[app:main]\nuse = egg:shop\n", "shop.py": ""},
            f"pserve production.ini || {author_server.PLAIN}",
        ),
        ({"my app.py": "", "app.py": FLASK + MAIN + "app.run()\n"}, "python app.py || flask run"),
    ],
)
def test_the_author_s_command_is_guessed(app: Path, files: dict[str, str], command: str) -> None:
    for name, text in {"requirements.txt": "flask\n", **files}.items():
        (app / name).parent.mkdir(exist_ok=True)
        (app / name).write_text(text)
    found = complete(app, Recipe())
    assert found.recipe.check.author == command
    assert any(note.startswith(f"check.author: {command} ") for note in found.notes)


@pytest.mark.parametrize("said", ["off", "python serve.py --port 5000"])
def test_what_bake_yaml_says_of_it_counts(app: Path, said: str) -> None:
    (app / "app.py").write_text(FLASK + MAIN + "app.run()\n")
    (app / "requirements.txt").write_text("flask\n")
    found = complete(app, Recipe.model_validate({"check": {"author": said}}))
    assert found.recipe.check.author == said


# The machine's side: cloud-init/features/author-server/author.py.

#: Pages of a small site, one of which names its visitor; `{}` becomes what else the program does first.
SITE = """
import http.server
{}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.headers["Host"].split(":")[0] in {hosts} else 400)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>Shop</title><a href=/next>next</a>" * (self.command == "GET"))
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("{address}", 0), Handler).serve_forever()
"""
LOCAL = '{"localhost", "127.0.0.1", "[::1]"}'


@pytest.fixture
def server(rooted: Callable[..., ModuleType]) -> ModuleType:
    module = rooted("author.py", paths.features() / "author-server")
    module.PROC.symlink_to("/proc")
    module.STAND_INS.parent.mkdir()
    return module


@pytest.fixture
def unit(server: ModuleType, fake: Fake, tmp_path: Path) -> Iterator[Callable[[str], object]]:
    """Have `systemctl start` start a Python program whose code is given, and `stop` end it."""
    pids, journal = server.GROUPS / "group/cgroup.procs", tmp_path / "journal"
    pids.parent.mkdir(parents=True)
    fake("journalctl", f"cat {journal}")
    fake("setpriv", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')
    fake(
        "systemctl",
        f"""
        case "$1" in
        start) {sys.executable} {tmp_path}/program > {journal} 2>&1 & echo $! > {pids} ;;
        stop) kill "$(cat {pids})"; [ "$2" = --no-block ] || echo stopped >> {tmp_path}/words ;;
        kill) kill -9 "$(cat {pids})"; echo killed >> {tmp_path}/words ;;
        show) echo /group ;;
        is-active) kill -0 "$(cat {pids})" 2> /dev/null && echo activating || {{ echo failed; exit 3; }} ;;
        esac
        """,
    )
    yield (tmp_path / "program").write_text
    if pids.exists():
        subprocess.run(["kill", "-9", pids.read_text().strip()], stderr=subprocess.DEVNULL, check=False)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "releases/12ab"
    (folder / "settings").mkdir(parents=True)
    (folder / "settings/crawl.py").symlink_to(paths.features() / "author-server/crawl.py")
    return folder


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "127.0.1.1"])
def test_the_server_is_found_by_its_socket_and_crawled_twice(
    server: ModuleType, unit: Callable[[str], object], release: Path, tmp_path: Path, address: str
) -> None:
    unit(SITE.format("", hosts=LOCAL, address=address))
    recipe = {"check": {"author": "python app.py", "health": "/health", "pages": [{"path": "/prices", "status": 401}]}}
    assert server.ask(release, recipe)
    said = json.loads(server.AUTHOR.read_text())
    assert (said["release"], said["command"], said["log"]) == ("12ab", "python app.py", "")
    asked = [{answer["path"] for answer in record["answers"]} for record in said["records"]]
    assert asked[0] == asked[1] >= {"/", "/health", "/prices", "/next"}
    assert all(answer["status"] == 200 for record in said["records"] for answer in record["answers"])
    assert (tmp_path / "words").read_text() == "stopped\n"


@pytest.mark.parametrize(("address", "asked"), [("::1", "::1"), ("::", "::1"), ("0.0.0.0", "127.0.0.1")])
def test_the_address_of_a_socket_comes_from_the_kernel(server: ModuleType, address: str, asked: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    (server.GROUPS / "group").mkdir(parents=True)
    (server.GROUPS / "group/cgroup.procs").write_text(f"{os.getpid()}\n")
    with socket.create_server((address, 0), family=family) as listener:
        assert (asked, listener.getsockname()[1]) in server.listening("group")


def test_where_the_crawl_is_off_the_named_pages_alone_are_asked(
    server: ModuleType, unit: Callable[[str], object], release: Path
) -> None:
    unit(SITE.format("", hosts=LOCAL, address="127.0.0.1"))
    server.ask(release, {"check": {"author": "python app.py", "pages": [{"path": "/prices"}], "crawl": False}})
    said = json.loads(server.AUTHOR.read_text())
    assert {answer["path"] for answer in said["records"][0]["answers"]} == {"/", "/prices"}


def test_a_server_that_wants_the_domain_is_asked_by_it(
    server: ModuleType, unit: Callable[[str], object], release: Path
) -> None:
    unit(SITE.format("", hosts='{"shop.example"}', address="127.0.0.1"))
    assert server.ask(release, {"check": {"author": "python app.py"}, "domains": ["shop.example"]})
    said = json.loads(server.AUTHOR.read_text())
    assert {answer["status"] for answer in said["records"][0]["answers"]} == {200}


def test_a_server_that_ends_leaves_its_journal(
    server: ModuleType, unit: Callable[[str], object], release: Path
) -> None:
    unit("raise RuntimeError('no database')")
    begin = time.monotonic()
    assert not server.ask(release, {"check": {"author": "python app.py"}})
    assert time.monotonic() - begin < 10
    said = json.loads(server.AUTHOR.read_text())
    assert said["records"] == [] and "RuntimeError: no database" in said["log"]


def test_a_server_that_never_listens_is_given_up(
    server: ModuleType,
    unit: Callable[[str], object],
    release: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "PATIENCE", 1)
    unit("import time; time.sleep(60)")
    assert not server.ask(release, {"check": {"author": "python app.py"}})
    assert json.loads(server.AUTHOR.read_text())["records"] == []
    assert (tmp_path / "words").read_text() == "stopped\n"


def test_a_server_that_answers_no_page_leaves_its_journal(
    server: ModuleType, unit: Callable[[str], object], release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unanswered = {"answers": [{"path": "/", "method": "GET", "error": "refused"}]}
    monkeypatch.setattr(server, "crawl", lambda *argument: unanswered)
    unit(SITE.format("print('about to hang', flush=True)", hosts=LOCAL, address="127.0.0.1"))
    assert not server.ask(release, {"check": {"author": "python app.py"}})
    said = json.loads(server.AUTHOR.read_text())
    assert said["records"] == [] and "about to hang" in said["log"]


def test_a_socket_that_speaks_no_http_has_no_status(server: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        assert server.status(silent.getsockname(), "", 1) == 0
        assert time.monotonic() - begin < 10
    assert server.status(("127.0.0.1", qemu.free_port()), "", 1) == 0


def test_another_socket_that_stays_silent_costs_one_answer_s_time(
    server: ModuleType, unit: Callable[[str], object], release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ANSWER", 1)
    unit(SITE.format("", hosts=LOCAL, address="127.0.0.1"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        listening = server.listening
        monkeypatch.setattr(server, "listening", lambda group: [silent.getsockname(), *listening(group)])
        begin = time.monotonic()
        assert server.ask(release, {"check": {"author": "python app.py"}})
    assert time.monotonic() - begin < server.PATIENCE / 2


def test_a_server_that_does_not_want_to_end_is_killed(
    server: ModuleType, unit: Callable[[str], object], release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MERCY", 0.5)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    unit(SITE.format(deaf, hosts=LOCAL, address="127.0.0.1"))
    assert server.ask(release, {"check": {"author": "python app.py"}})
    assert (tmp_path / "words").read_text() == "killed\nstopped\n"


def test_all_of_it_ends_within_the_stated_time(server: ModuleType) -> None:
    # Two hosts are asked for the front page; the crawler may take a little longer than it is told.
    assert server.PATIENCE + 2 * server.ANSWER + 2 * (server.SECONDS + 5) + server.MERCY < 180


VALUES = {"CLIENT_ID": 'k3y"$\\-6b1f/4a9e77c0d2', "DATABASE_URL": "mysql://app:hunter2@db.example/app", "ON": "1"}


def test_no_stand_in_for_a_secret_is_in_the_record(
    server: ModuleType, unit: Callable[[str], object], release: Path
) -> None:
    server.STAND_INS.write_text(bundled.environment(VALUES))
    key = VALUES["CLIENT_ID"]
    shown = "import urllib.parse\nKEY = " + repr(key) + "\n"
    site = SITE.format(shown, hosts=LOCAL, address="127.0.0.1")
    site = site.replace('b"<title>Shop</title>', '(f"<title>Key {KEY}</title>").encode() + b"')
    site = site.replace("/next>", "/\" + urllib.parse.quote(KEY, '').encode() + b\">")
    unit(site)
    assert server.ask(release, {"check": {"author": "python app.py"}})
    text = server.AUTHOR.read_text()
    assert "k3y" not in text and "6b1f" not in text
    (front, *_) = json.loads(text)["records"][0]["answers"]
    assert (front["title"], front["path"]) == ("Key 00000000", "/")


def test_no_stand_in_is_in_the_log(server: ModuleType, unit: Callable[[str], object], release: Path) -> None:
    server.STAND_INS.write_text(bundled.environment(VALUES))
    unit(f"print({VALUES!r})\nraise RuntimeError('no database at mysql://app:hunter2@db.example/app (hunter2), 1')")
    assert not server.ask(release, {"check": {"author": "python app.py"}})
    text = server.AUTHOR.read_text()
    assert "hunter2" not in text and "k3y" not in text
    assert "RuntimeError: no database at [DATABASE_URL] ([DATABASE_URL]), 1" in json.loads(text)["log"]


@pytest.mark.parametrize("check", [{}, {"author": "off"}])
def test_nothing_is_run_where_nobody_says_what(
    server: ModuleType, unit: Callable[[str], object], release: Path, tmp_path: Path, check: dict[str, str]
) -> None:
    assert not server.ask(release, {"check": check})
    assert not server.AUTHOR.exists() and not (tmp_path / "words").exists()


def test_any_wsgi_app_has_a_plain_server(tmp_path: Path, helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "recipe.json").write_text('{"wsgi": "any_app:make()"}')
    (tmp_path / "source/any_app.py").write_text(
        "import time\n\ndef app(environ, start):\n    start('200 OK', [])\n    yield b'plain'\n"
        "    time.sleep(60 if environ['PATH_INFO'] == '/events' else 0)\n\ndef make():\n    return app\n"
    )
    port, finder = qemu.free_port(), paths.tree() / "cloud-init/rootfs/usr/lib/app/wsgi.py"
    code = (paths.features() / "author-server/plain.py").read_text().replace("/usr/lib/app/wsgi.py", str(finder))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "source"))
    helper(f"import os\nos.chdir({str(tmp_path / 'source')!r})\n" + code.replace("8000", str(port)))
    url = f"http://127.0.0.1:{port}/"
    curl = ["curl", "-s", "--max-time", "20", url]
    retry = ["--retry", "20", "--retry-delay", "1", "--retry-connrefused"]
    assert subprocess.run([*curl, *retry], capture_output=True, text=True, check=True).stdout == "plain"
    with subprocess.Popen(["curl", "-sN", f"{url}events"], stdout=subprocess.PIPE) as silent:
        assert silent.stdout and silent.stdout.read(5) == b"plain"
        assert subprocess.run(curl, capture_output=True, text=True, check=False).stdout == "plain"
        silent.kill()


def test_a_flask_app_beside_a_django_project_is_run_by_flask(tmp_path: Path) -> None:
    files = {"manage.py": DJANGO, "site/wsgi.py": DJANGO + WSGI, "site/settings.py": "", "shop.py": FLASK}
    write(tmp_path, {**files, "requirements.txt": "flask\n"})
    assert complete(tmp_path, Recipe(wsgi="shop:app")).recipe.check.author == "flask run"
    author = complete(tmp_path, Recipe(wsgi="site.wsgi:application")).recipe.check.author
    assert author == "python manage.py runserver --noreload 127.0.0.1:8000"
