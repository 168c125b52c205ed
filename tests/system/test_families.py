"""Apps of every family, most of them published by others: made as their authors would, baked and proved."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uv

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class App:
    """What is taken (name==version), how its folder comes to be, and what bake.yaml has to say."""

    family: str
    takes: str
    recipe: str = ""
    #: A folder of the published source that holds the app.
    inside: str = ""
    #: The starter's own command, run in the folder.
    starts: tuple[str, ...] = ()
    #: Files written by hand besides; what is to be appended to one begins with "+".
    files: dict[str, str] = field(default_factory=dict)


POLLS = {
    "polls/__init__.py": "",
    "polls/models.py": "from django.db import models\n\n\nclass Poll(models.Model):\n    asked = models.TextField()\n",
    "polls/admin.py": "from django.contrib import admin\n\nfrom .models import Poll\n\nadmin.site.register(Poll)\n",
    "polls/migrations/__init__.py": "",
    "polls/migrations/0001_initial.py": """
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel("Poll", [("id", models.BigAutoField(primary_key=True)), ("asked", models.TextField())]),
    ]
""",
    "polls/static/polls/style.css": "body { color: #333 }\n",
    "+mysite/settings.py": "INSTALLED_APPS += ['polls']\n",
    "+mysite/urls.py": """
from django.http import HttpResponse
from polls.models import Poll

urlpatterns += [path("", lambda request: HttpResponse(f"{Poll.objects.count()} polls"))]
""",
    "requirements.txt": "django==5.2.19\n",
}
DASH = """
from dash import Dash, Input, Output, callback, dcc, html

PEOPLE = {"Canada": [14, 31], "Chile": [6, 15]}
app = Dash()
app.layout = html.Div([dcc.Dropdown(list(PEOPLE), "Canada", id="country"), dcc.Graph(id="graph")])


@callback(Output("graph", "figure"), Input("country", "value"))
def draw(country):
    return {"data": [{"x": [1950, 2000], "y": PEOPLE[country]}]}


if __name__ == "__main__":
    app.run(debug=True)
"""
WEB_PY = """
import web

urls = ("/(.*)", "hello")
app = web.application(urls, globals())


class hello:
    def GET(self, name):
        return f"Hello, {name or 'World'}!"


if __name__ == "__main__":
    app.run()
"""
BOTTLE = """
from bottle import route, run, template


@route("/hello/<name>")
def index(name):
    return template("<b>Hello {{name}}</b>!", name=name)


if __name__ == "__main__":
    run(host="localhost", port=8080)
"""

APPS = {
    "httpbin": App("Flask", "httpbin==0.10.4", "app: {package: httpbin==0.10.4}\nwsgi: httpbin:app\n"),
    "flaskr": App(
        "Flask",
        "flask==3.1.3",
        # The command empties its tables, and steps run on each boot.
        "writable: [instance]\nsetup: ['test -e instance/flaskr.sqlite || flask init-db']\n",
        inside="examples/tutorial",
    ),
    "startproject": App(
        "Django",
        "django==5.2.19",
        "setup: [python manage.py migrate --noinput]\n"
        "timers: {sessions: {run: python manage.py clearsessions, when: daily}}\n",
        starts=("django-admin", "startproject", "mysite", "."),
        files=POLLS,
    ),
    "wagtail": App(
        "Django",
        "wagtail==8.0.1",
        "setup: [python manage.py migrate --noinput]\n",
        starts=("wagtail", "start", "mysite", "."),
    ),
    "cc-starter": App("Pyramid", "pyramid==2.1", inside="docs/quick_tutorial/cookiecutters"),
    "wiki": App(
        "Pyramid",
        "pyramid==2.1",
        "writable: [tutorial.sqlite]\n"
        "setup:\n"
        "  - alembic -c production.ini upgrade head\n"
        # It adds the same users again, and steps run on each boot.
        "  - test -e /var/lib/app/filled || { initialize_tutorial_db production.ini && touch /var/lib/app/filled; }\n"
        "check: {health: /FrontPage}\n",
        inside="docs/tutorials/wiki2/src/tests",
    ),
    "kinto": App(
        "Pyramid",
        "kinto==26.5.0",
        "wsgi: config/kinto.ini\ncheck: {health: /v1/__heartbeat__}\n",
        starts=("kinto", "init", "--backend=memory", "--cache-backend=memory"),
        files={"requirements.txt": "kinto==26.5.0\n"},
    ),
    "pypiserver": App(
        "Bottle",
        "pypiserver==2.4.2",
        # Its `roots` wants a list of Path; the older name takes text.
        "app: {package: pypiserver==2.4.2}\nwsgi: pypiserver:app(root='/var/lib/app')\n",
    ),
    "bottle": App(
        "Bottle",
        "bottle==0.13.4",
        "requirements: [bottle==0.13.4]\ncheck: {health: /hello/world}\n",
        files={"app.py": BOTTLE},
    ),
    "look": App(
        "Falcon",
        "falcon==4.4.0",
        "requirements: requirements/look\nenv: {LOOK_STORAGE_PATH: /var/lib/app}\ncheck: {health: /images}\n",
        inside="examples/look",
    ),
    "cherrypy": App(
        "CherryPy",
        "cherrypy==18.10.0",
        "requirements: [cherrypy==18.10.0]\n",
        inside="cherrypy/tutorial",
        files={"wsgi.py": "import cherrypy\nfrom tut07_sessions import HitCounter\n\n"
                          "application = cherrypy.tree.mount(HitCounter())\n"},
    ),
    "dash": App("Dash", "dash==4.4.1", "requirements: [dash==4.4.1]\n", files={"app.py": DASH}),
    "web-py": App("web.py", "web.py==0.76", "requirements: [web.py==0.76]\n", files={"code.py": WEB_PY}),
    "klaus": App(
        "WSGI",
        "klaus==3.0.1",
        "app: {package: klaus==3.0.1}\n"
        "wsgi: klaus.contrib.wsgi_autoreloading:make_autoreloading_app('/var/lib/app', 'repositories')\n"
        "packages: [git]\n",
    ),
    "wsgidav": App(
        "WSGI",
        "wsgidav==4.4.0",
        files={
            "requirements.txt": "wsgidav==4.4.0\n",
            "wsgi.py": "from wsgidav.wsgidav_app import WsgiDAVApp\n\n"
                       "shares = {'/': '/var/lib/app'}\n"
                       "users = {'user_mapping': {'*': True}}\n"
                       "application = WsgiDAVApp({'provider_mapping': shares, 'simple_dc': users})\n",
        },
    ),
    "radicale": App(
        "WSGI",
        "Radicale==3.9.0",
        "env: {RADICALE_CONFIG: radicale.ini}\ncheck: {health: /.web/}\n",
        files={
            "requirements.txt": "Radicale==3.9.0\n",
            "wsgi.py": "from radicale import application\n",
            "radicale.ini": "[storage]\nfilesystem_folder = /var/lib/app/collections\n[auth]\ntype = none\n",
        },
    ),
}  # fmt: skip


def make(app, folder, work):
    """The app's folder, as its author would have it."""
    if app.inside:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", work]
        subprocess.run([*pip, "--no-binary", app.takes.partition("==")[0], app.takes], check=True)
        (archive,) = work.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter="data")
        shutil.copytree(work / archive.name.removesuffix(".tar.gz") / app.inside, folder)
    folder.mkdir(exist_ok=True)
    if app.starts:
        # A virtualenv of uv's own, thrown away.
        subprocess.run([uv.find_uv_bin(), "tool", "run", "--from", app.takes, *app.starts], cwd=folder, check=True)
    for name, text in app.files.items():
        path = folder / name.removeprefix("+")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if name.startswith("+") else "w") as stream:
            stream.write(text)
    if app.recipe:
        (folder / "bake.yaml").write_text(app.recipe)


@pytest.mark.parametrize("name", APPS)
def test_family(name, tmp_path, bake):
    app = APPS[name]
    make(app, tmp_path / name, tmp_path)
    called = bake("image", tmp_path / name)
    assert called.code == 0, called.stderr
    image = Path(called.stdout.strip())
    facts = json.loads(image.with_suffix(".json").read_text())
    assert image.stat().st_size == facts["size"]
    assert facts["checks"] > 90
    row = {
        "app": name, "takes": app.takes, "family": app.family, "lines": len(app.recipe.splitlines()),
        "seconds": round(sum(facts["seconds"].values())), "mb": round(facts["size"] / 1e6), "checks": facts["checks"],
    }  # fmt: skip
    print(row)
    if "BAKE_FAMILIES" in os.environ:
        with Path(os.environ["BAKE_FAMILIES"]).open("a") as rows:
            rows.write(f"{json.dumps(row)}\n")
