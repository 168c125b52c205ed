"""Check the app's debug pages and its database migrations."""

import re
import shlex

import pytest

from bake.diagnosis.unreachable import CUT_OFF

#: Pages that frameworks show to developers: Django's, Werkzeug's, Pyramid's and Bottle's.
DEBUG_PAGES = rb"DEBUG\s*=\s*True|Werkzeug Debugger|__debugger__|pyramid_debugtoolbar|<h2>Traceback:</h2>"


@pytest.fixture(scope="module")
def run_as_app(host):
    """Return a function that runs a command as the app, with its environment, in its folder."""
    sandbox = host.file("/etc/systemd/system/app.service.d/50-sandbox.conf").content_string
    directives = re.findall(
        r"(?m)^(?:Environment|EnvironmentFile|User|Group|WorkingDirectory|IPAddressDeny)=.*", sandbox
    )
    source = "/srv/app/current/source"
    directives.append(f"Environment=PYTHONPATH={source}:{source}/src:/srv/app/current/settings/django")
    words = [
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        "--collect",
        *(word for line in directives for word in ("-p", line)),
    ]

    def run(command):
        return host.run(shlex.join([*words, "sh", "-c", command]))

    return run


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_page_that_is_missing_shows_no_debug_page(fetch, scheme):
    answer = fetch("/bake/check/no-such-page", scheme, body=True)
    match = re.search(DEBUG_PAGES, answer.body)
    assert match is None, f"status {answer.status}: visitors see a debug page: {match[0]!r}"


def test_django_has_no_unapplied_migrations(recipe, run_as_app):
    if not isinstance(recipe.get("django"), dict):
        pytest.skip("the app is not a Django project, or uses its own settings")
    result = run_as_app("python -m django showmigrations --plan")
    if result.rc and re.search(CUT_OFF, result.stdout + result.stderr):
        pytest.skip("the app's database server is unreachable while the machine is checked")
    assert result.rc == 0, result.stdout + result.stderr
    pending = re.findall(r"(?m)^\[ \]\s+(\S+)", result.stdout)
    assert pending == [], "write into bake.yaml:  release: [python -m django migrate --noinput]"
