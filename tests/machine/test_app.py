"""What the app itself does, besides answering at its health path."""

import re
import shlex

import pytest

from bake.diagnosis.unreachable import CUT_OFF

#: Pages that frameworks show to developers: Django's, Werkzeug's, Pyramid's and Bottle's.
DEBUG_PAGES = rb"DEBUG\s*=\s*True|Werkzeug Debugger|__debugger__|pyramid_debugtoolbar|<h2>Traceback:</h2>"


@pytest.fixture(scope="module")
def run_as_app(host):
    """Run a command as the app, with its environment, in its folder."""
    sandbox = host.file("/etc/systemd/system/app.service.d/50-sandbox.conf").content_string
    kept = re.findall(r"(?m)^(?:Environment|EnvironmentFile|User|Group|WorkingDirectory|IPAddressDeny)=.*", sandbox)
    source = "/srv/app/current/source"
    kept.append(f"Environment=PYTHONPATH={source}:{source}/src:/srv/app/current/settings/django")
    words = [
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        "--collect",
        *(word for line in kept for word in ("-p", line)),
    ]

    def run(command):
        return host.run(shlex.join([*words, "sh", "-c", command]))

    return run


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_page_that_is_missing_shows_no_debug_page(fetch, scheme):
    answer = fetch("/bake/check/no-such-page", scheme, body=True)
    found = re.search(DEBUG_PAGES, answer.body)
    assert found is None, f"status {answer.status}: visitors see a page for developers: {found[0]!r}"


def test_django_has_no_unapplied_migrations(recipe, run_as_app):
    if not isinstance(recipe.get("django"), dict):
        pytest.skip("the app is not a Django project, or uses its own settings")
    done = run_as_app("python -m django showmigrations --plan")
    if done.rc and re.search(CUT_OFF, done.stdout + done.stderr):
        pytest.skip("its database is a server that this machine cannot reach while it is checked")
    assert done.rc == 0, done.stdout + done.stderr
    pending = re.findall(r"(?m)^\[ \]\s+(\S+)", done.stdout)
    assert pending == [], "write into bake.yaml:  release: [python -m django migrate --noinput]"
