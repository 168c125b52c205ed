"""Apps that bake and then do not work: no image, and the reason on the screen."""

import pytest

#: A push in CI sees the same two (test_push.py).
pytestmark = pytest.mark.long

FLASK = "from flask import Flask\napp = Flask(__name__)\n"


def test_an_app_that_raises_on_import(app, bake, where):
    folder, write = app
    write("app.py", FLASK + "raise ValueError('no such colour: mauve')\n")
    called = bake("image", folder)
    assert called.code == 43
    assert called.stdout == ""
    assert "does not start" in called.stderr
    assert "ValueError: no such colour: mauve" in called.stderr
    assert not (where / "dist" / "small-app" / "small-app.qcow2").exists()


def test_an_app_that_answers_500_at_its_health_path(app, bake, where):
    folder, write = app
    write("app.py", FLASK + "@app.route('/healthz')\ndef healthz():\n    raise KeyError('database')\n")
    write("bake.yaml", "check: {health: /healthz}\n")
    called = bake("image", folder)
    assert called.code == 44
    assert called.stdout == ""
    assert "/healthz answers 500" in called.stderr
    assert "KeyError: 'database'" in called.stderr
    assert not (where / "dist" / "small-app" / "small-app.qcow2").exists()
