"""The last exception of a journal: its chain, its place in the user's tree, and what stands between its lines."""

from __future__ import annotations

import time

import pytest

from bake.diagnosis.tracebacks import Frame, last_chain, lines_of, summarize

RELEASE = f"/srv/app/releases/{'3f9c0d17' * 8}"
LIBRARY = f"{RELEASE}/venv/lib/python3.13/site-packages"
FAILED = f"""\
Traceback (most recent call last):
  File "/usr/lib/app/wsgi.py", line 60, in <module>
    application = streaming(find(json.loads((release / "recipe.json").read_text())["wsgi"]))
  File "/usr/lib/app/wsgi.py", line 20, in find
    module = importlib.import_module(name)
  File "/usr/lib/python3.13/importlib/__init__.py", line 88, in import_module
    return _bootstrap._gcd_import(name[level:], package, level)
           ~~~~~~~~~~~~~~~~~~~~~~^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "<frozen importlib._bootstrap>", line 1387, in _gcd_import
  File "{RELEASE}/source/microblog.py", line 5, in <module>
    app = create_app()
  File "{RELEASE}/source/app/__init__.py", line 31, in create_app
    os.mkdir('logs')
    ~~~~~~~~^^^^^^^^
OSError: [Errno 30] Read-only file system: 'logs'
"""


def shown(log: str) -> str:
    found = summarize(last_chain(lines_of(log)))
    return found.text if found else ""


def test_the_place_is_the_deepest_frame_of_the_app() -> None:
    assert shown(FAILED) == "OSError: [Errno 30] Read-only file system: 'logs'\n  at app/__init__.py:31"


def test_the_place_is_in_the_app_where_a_library_raises() -> None:
    log = FAILED.replace("OSError", f'  File "{LIBRARY}/flask/app.py", line 9, in run\n    raise\nOSError')
    assert shown(log).endswith("at app/__init__.py:31")


def test_the_place_is_in_a_library_where_no_frame_is_of_the_app() -> None:
    log = f'Traceback (most recent call last):\n  File "{LIBRARY}/httpbin/core.py", line 9, in <module>\nKeyError: 1\n'
    assert shown(log) == "KeyError: 1\n  at httpbin/core.py:9"


def test_an_exception_of_the_machine_alone_has_no_place() -> None:
    log = 'Traceback (most recent call last):\n  File "/usr/lib/app/wsgi.py", line 9, in find\nNameError: app\n'
    assert shown(log) == "NameError: app"


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/srv/app/current/source/app/a.py", "app/a.py"),
        (f"{RELEASE}/source/a.py", "a.py"),
        ("/srv/app/releases/.tmp_k3x/source/src/shop/a.py", "src/shop/a.py"),
        (f"{LIBRARY}/flask/app.py", ""),
        ("/srv/app/current/source/vendor/site-packages/a.py", ""),
        ("/usr/lib/python3.13/os.py", ""),
        ("<frozen os>", ""),
        ("/srv/app/current/settings/app_settings.py", ""),
    ],
)
def test_a_frame_is_of_the_app_where_its_file_is_in_the_source_of_a_release(file: str, own: str) -> None:
    assert Frame(file, 1, "f").app_path == own


@pytest.mark.parametrize(
    "prefix",
    [
        "    qemu.machine: ",
        "==> qemu.machine: ",
        "    amazon-ebs.machine: ",
        "Nov 28 07:21:17 shop uwsgi-core[642]: ",
        "2026-11-28T07:21:17+0000 shop uwsgi-core[642]: ",
        "2026-11-28T07:21:17.123456+00:00 shop uwsgi-core[642]: ",
        "<3>",
    ],
)
def test_prefixes_are_taken_off(prefix: str) -> None:
    assert shown("".join(f"{prefix}{line}\n" for line in FAILED.splitlines())) == shown(FAILED)


def test_lines_of_other_processes_do_not_break_a_traceback() -> None:
    noise = ("spawned uWSGI worker 2 (pid: 643, cores: 4)", "WARNING: two of everything", "app: logs cannot be written")
    lines = [both for number, line in enumerate(FAILED.splitlines()) for both in (noise[number % 3], line)]
    assert shown("\n".join(lines)) == shown(FAILED)


def test_a_message_ends_where_uwsgi_goes_on() -> None:
    end = "\tmore of the message\nunable to load app 0 (mountpoint='') (callable not found or import error)\n"
    (traceback,) = last_chain(lines_of(FAILED + end + "*** no app loaded. GAME OVER ***\n"))
    assert traceback.lines[-2:] == ["OSError: [Errno 30] Read-only file system: 'logs'", "\tmore of the message"]


@pytest.mark.parametrize(
    "link",
    [
        "During handling of the above exception, another exception occurred:",
        "The above exception was the direct cause of the following exception:",
    ],
)
def test_the_final_exception_of_a_chain_is_shown(link: str) -> None:
    final = (
        f'Traceback (most recent call last):\n  File "{RELEASE}/source/run.py", line 2, in <module>\nRuntimeError: no\n'
    )
    chain = last_chain(lines_of(f"{FAILED}\n{link}\n\n{final}"))
    assert [traceback.type for traceback in chain] == ["OSError", "RuntimeError"]
    assert shown(f"{FAILED}\n{link}\n\n{final}") == "RuntimeError: no\n  at run.py:2"
    # Of a final exception without a frame of its own, the place is that of the one before.
    final = f'Traceback (most recent call last):\n  File "{LIBRARY}/a.py", line 2, in f\nRuntimeError: no\n'
    assert shown(f"{FAILED}\n{link}\n\n{final}") == "RuntimeError: no\n  at app/__init__.py:31"


def test_the_last_of_several_exceptions_is_shown() -> None:
    other = f'Traceback (most recent call last):\n  File "{RELEASE}/source/a.py", line 1, in f\nValueError\n'
    assert shown(FAILED + other) == "ValueError\n  at a.py:1"
    assert [traceback.type for traceback in last_chain(lines_of(other + FAILED))] == ["OSError"]


@pytest.mark.parametrize("end", ["KeyboardInterrupt", "SystemExit: 1", "OSError: write error"])
def test_an_ending_hides_no_exception(end: str) -> None:
    ending = f'Traceback (most recent call last):\n  File "{RELEASE}/source/a.py", line 1, in f\n{end}\n'
    assert shown(FAILED + ending) == shown(FAILED)
    assert shown(ending).startswith(end)


def test_an_ignored_exception_hides_none() -> None:
    ignored = "Exception ignored in: <function Pool.__del__ at 0x7f3a>\nTraceback (most recent call last):\n"
    assert shown(f'{FAILED}{ignored}  File "{LIBRARY}/a.py", line 1, in f\nValueError: closed\n') == shown(FAILED)


def test_a_syntax_error_without_a_header_is_an_exception() -> None:
    log = f'  File "{RELEASE}/source/manage.py", line 3\n    print "x"\n    ^^^^^^^^^\nSyntaxError: invalid syntax\n'
    assert shown(log) == "SyntaxError: invalid syntax\n  at manage.py:3"


@pytest.mark.parametrize(
    "log",
    [
        "",
        "Starting app.service - The app, served by uWSGI...",
        "ERROR: 3 problems",
        "Traceback (most recent call last):",
        FAILED.rpartition("OSError")[0],
        "ValueError: told by nobody",
    ],
)
def test_other_journals_have_no_exception(log: str) -> None:
    assert last_chain(lines_of(log)) == []
    assert summarize([]) is None


def test_a_long_message_is_cut() -> None:
    assert len(shown(FAILED.replace("'logs'", "x" * 900)).splitlines()[0]) < 330


def test_control_characters_and_escapes_are_taken_out() -> None:
    log = FAILED.replace("'logs'", "\x1b[2J\x1b]0;title\x07\x9b31m'lo\x00gs\u202e'")
    assert shown(log) == shown(FAILED)


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        '  File "/srv/app/current/source/a.py", line 1, in f',
        "A" * 5000,
        "a." * 2500,
        "\x90" * 5000,
        "\x1b]" * 2500,
        " " * 5000,
        "Nov 28 07:21:17 " + "x[" * 2000,
        'File "' * 800,
    ],
    ids=range(9),
)
def test_a_hostile_journal_takes_no_time(line: str) -> None:
    log = f"{line}\n" * (100_000 if len(line) < 100 else 2_000)
    begun = time.process_time()
    summarize(last_chain(lines_of(log)))
    assert time.process_time() - begun < 0.9
