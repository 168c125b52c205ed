"""What uWSGI loads, in this Python."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from conftest import PROGRAMS, REPOSITORY

MODULE = """
import json
class Site:
    server = "the server"
site = Site()
def create(name="nobody", debug=False):
    return (name, debug)
"""


@pytest.fixture
def wsgi(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("wsgi.py")


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("site.server", "the server"),
        ("create()", ("nobody", False)),
        ("create('prod', debug=True)", ("prod", True)),
        ("json.dumps('x')", '"x"'),
        ("string.digits", "0123456789"),
    ],
)
def test_the_app_is_what_the_recipe_names(
    wsgi: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expression: str, found: object
) -> None:
    (tmp_path / "appmodule.py").write_text(MODULE + "import string as s\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "appmodule", raising=False)
    assert wsgi.find(f"appmodule:{expression}") == found


@pytest.mark.parametrize(("said", "shown"), [({}, False), ({"request.show_tracebacks": True}, True)])
def test_cherrypy_keeps_tracebacks_to_itself(
    wsgi: ModuleType, monkeypatch: pytest.MonkeyPatch, said: dict[str, bool], shown: bool
) -> None:
    monkeypatch.setitem(sys.modules, "cherrypy", SimpleNamespace(config=said))
    wsgi.hide_tracebacks()
    assert said["request.show_tracebacks"] is shown


def test_web_py_is_told_that_nobody_develops_here() -> None:
    unit = REPOSITORY / "cloud-init/rootfs/etc/systemd/system/app.service.d/50-sandbox.conf"
    assert "\nEnvironment=SERVER_SOFTWARE=" in unit.read_text()


@pytest.fixture
def watching() -> ModuleType:
    """What a release has that was baked or pushed."""
    module = ModuleType("watch")
    exec((REPOSITORY / "cloud-init/features/read-only-hints/hooks/watch.py").read_text(), vars(module))
    return module


@pytest.fixture
def elsewhere(watching: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The same, where a test's folders stand below /tmp, which an app may write to."""
    monkeypatch.setattr(watching, "OPEN", tuple(path for path in watching.OPEN if path != "/tmp/"))
    return watching


def test_writing_in_vain_is_told_once_a_folder(
    elsewhere: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "uploads").mkdir(parents=True)
    watch = elsewhere.Watch(source)
    write = os.O_WRONLY | os.O_CREAT
    watch("open", (str(source / "app.py"), "r", os.O_RDONLY))
    watch("open", ("/var/lib/app/x", "w", write))
    watch("open", ("/dev/null", "w", write))
    watch("open", (3, "w", write))
    watch("open", (str(source / "__pycache__" / "x.pyc"), "w", write))
    watch("import", ("os",))
    monkeypatch.chdir(source)
    watch("sqlite3.connect", (":memory:",))
    assert capsys.readouterr().err == ""
    for _ in range(2):
        watch("open", (source / "uploads" / "a.png", "wb", write))
    watch("sqlite3.connect", (os.fsencode(source / "site.db"),))
    watch("os.mkdir", ("/var/lib/radicale", 0o777, -1))
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("<4>app: uploads/a.png cannot be written") and first.endswith("writable: [uploads]")
    assert second.endswith("writable: [site.db]")
    assert third.startswith("<4>app: /var/lib/radicale cannot be written: only /var/lib/app is writable.")


def test_what_is_kept_is_no_vain_writing(
    watching: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "kept").symlink_to("/var/lib/app/kept")
    watching.Watch(tmp_path / "source")("open", (str(tmp_path / "source/kept/x"), "w", os.O_WRONLY))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("header", "added"), [("Content-Type", True), ("content-Length", False), ("X-Accel-Buffering", False)]
)
def test_nginx_does_not_buffer_responses_without_a_length(wsgi: ModuleType, header: str, added: bool) -> None:
    told: list[object] = []
    headers = [("Vary", "Cookie"), (header, "3")]

    def app(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", headers)
        start_response("500 Oh", headers, "exc_info")
        return [b"data: 1\n\n"]

    def start_response(*words: object) -> None:
        told.append(words)

    assert wsgi.streaming(app)({}, start_response) == [b"data: 1\n\n"]
    more = [("X-Accel-Buffering", "no")] if added else []
    assert told == [("200 OK", headers + more), ("500 Oh", headers + more, "exc_info")]
    assert len(headers) == 2


#: Forks at import, as multiprocessing does; the child lives on.
FORKS = """
import os, time
if os.fork() == 0:
    time.sleep(30)
    os._exit(0)
app = print
"""


def test_a_child_that_the_app_forks_keeps_no_other_worker_waiting(tmp_path: Path) -> None:
    source, notified = tmp_path / "release/source", tmp_path / "notify"
    source.mkdir(parents=True)
    (source / "app.py").write_text(FORKS)
    (source / "uwsgi.py").write_text("def worker_id(): return 1\n")
    (source.parent / "recipe.json").write_text('{"wsgi": "app:app"}')
    text = (PROGRAMS / "wsgi.py").read_text().replace('"/tmp/', f'"{tmp_path}/')
    (tmp_path / "loader.py").write_text(text.replace("/run/systemd/notify", str(notified)))
    load = (
        f"import runpy, sys; sys.path.insert(0, '.'); runpy.run_path('{tmp_path}/loader.py', run_name='uwsgi_file_x')"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(notified))
        for _ in range(3):
            subprocess.run([sys.executable, "-c", load], cwd=source, check=True, timeout=20)
            assert listener.recv(100) == b"READY=1"
