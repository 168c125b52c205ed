"""A Django project as its author means it, with the machine's settings around it: real Django, without a machine."""

import json
import subprocess
from pathlib import Path

import pytest
import uv

COMPRESSOR = "django-compressor==4.6.0"
SITE = Path(__file__).with_name("django_site.py")
#: What authors' settings have, and what used to win over the machine's.
SETTINGS = """
DEBUG = True
ALLOWED_HOSTS = ["only.example"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = True
MEDIA_URL = "/media/"
MEDIA_ROOT = BASE_DIR / "media"
STATIC_URL = "/" + "assets/"
DJANGO_APPS, INSTALLED_APPS = INSTALLED_APPS, []
INSTALLED_APPS: list[str] = DJANGO_APPS + []
"""
URLS = """
from django.conf import settings
from django.conf.urls.static import static
if settings.DEBUG:
    urlpatterns += static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT)
"""
#: django-compressor as its documentation has it, with pages whose files are compressed beforehand.
COMPRESSED = """
INSTALLED_APPS.append("compressor")
COMPRESS_OFFLINE = True
STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.AppDirectoriesFinder", "compressor.finders.CompressorFinder"]
STATIC_ROOT = BASE_DIR / "collected"
TEMPLATES[0]["DIRS"] = [BASE_DIR / "templates"]
"""
STYLED = """
from django.urls import path
from django.views.generic import TemplateView
urlpatterns.append(path("styled/", TemplateView.as_view(template_name="styled.html")))
"""
PAGE = """
{% load compress static %}
{% compress css %}<link rel="stylesheet" href="{% static 'admin/css/base.css' %}">{% endcompress %}
"""


@pytest.fixture(scope="module", params=[pytest.param("4.2.27", marks=pytest.mark.long), "5.2.9"])
def python(request, tmp_path_factory):
    """Return a Python that has a Django."""
    place = tmp_path_factory.mktemp("python")
    program = uv.find_uv_bin()
    subprocess.run([program, "venv", "--quiet", place], check=True)
    subprocess.run(
        [
            program,
            "pip",
            "install",
            "--quiet",
            "--python",
            place / "bin/python",
            f"django=={request.param}",
            COMPRESSOR,
        ],
        check=True,
    )
    return place / "bin/python"


@pytest.fixture
def serve(python, tmp_path):
    """Serve a new project, whose wsgi.py assigns its settings; `off` takes lines out of its settings."""

    def answers(domains="", off="", urls=""):
        project = tmp_path / "project"
        project.mkdir()
        words = [python, "-m", "django", "startproject", "site1", project]
        subprocess.run(words, check=True)
        wsgi = project / "site1/wsgi.py"
        assigned = wsgi.read_text().replace(
            "environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')",
            "environ['DJANGO_SETTINGS_MODULE'] = 'site1.settings'",
        )
        wsgi.write_text(assigned)
        assert "environ['" in assigned
        for name, more in {"settings": SETTINGS + off, "urls": URLS + urls}.items():
            with (project / f"site1/{name}.py").open("a") as stream:
                stream.write(more)
        (project / "templates").mkdir()
        (project / "templates/styled.html").write_text(PAGE)
        done = subprocess.run([python, SITE, project, domains], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return answers


def test_a_project_works_at_its_address_at_the_printed_url_and_at_any_name(serve):
    found = serve()
    assert (found["settings"], found["debug"]) == ("app_settings", False)
    assert found["database"].endswith("/data/db.sqlite3")
    assert len(found["log in"]) == 6
    for url, visit in found["log in"].items():
        secure = [url.startswith("https")]
        assert visit == {"posted": 302, "inside": 200, "name": True, "secure": secure}, url
    status, page = found["missing"]
    assert status == 404 and "DEBUG" not in page
    assert (found["url"], found["collected"]) == ("/assets", True)
    assert found["media"] == {"picture.txt": 200, "none": 404, "../db.sqlite3": 400, "": 404}
    assert found["uploaded"] == "uploaded"


def test_a_project_with_domains_works_there_alone(serve):
    found = serve("shop.example www.shop.example")
    assert {visit["inside"] for visit in found["log in"].values()} == {200}
    assert found["stranger"] == 400


def test_a_project_without_staticfiles_has_none_collected(serve):
    found = serve(off="INSTALLED_APPS.remove('django.contrib.staticfiles')\n")
    assert (found["url"], found["collected"]) == ("", False)


def test_a_project_that_compresses_beforehand_has_its_pages(serve):
    status, page = serve(off=COMPRESSED, urls=STYLED)["styled"]
    assert status == 200 and "/assets/CACHE/css/" in page
