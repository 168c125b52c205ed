"""Serve a Django project as a machine does, without one: its settings, hook and static files; print answers as JSON.

Arguments: the project's folder, the machine's domains. The folder `app_settings` names as the machine's are replaced
by folders beside the project's.
"""

import importlib
import io
import json
import os
import re
import sys
from pathlib import Path

RELEASE = Path(__file__).parents[2] / "cloud-init/features/django"


def main(project, domains):
    """Set up Django around the project and ask its pages."""
    beside = project.parent
    own = {"/srv/app/current/source": project, "/var/lib/app": beside / "data", "/var/cache/app": beside / "cache"}

    def text(path):
        content = (RELEASE / path).read_text()
        for machine, folder in own.items():
            content = content.replace(machine, str(folder))
        return content

    for folder in (beside / "modules", beside / "data/media", beside / "cache"):
        folder.mkdir(parents=True)
    (beside / "modules/app_settings.py").write_text(text("django/app_settings.py"))
    (beside / "data/media/picture.txt").write_text("uploaded")
    sys.path[:0] = [str(beside / "modules"), str(project)]
    os.environ.update(
        DJANGO_SETTINGS_MODULE="app_settings", APP_DJANGO_SETTINGS="site1.settings", APP_DOMAINS=domains,
        SECRET_KEY="from the machine", APP_DJANGO_MEDIA="1",
    )  # fmt: skip
    exec(text("hooks/settings.py"), {"__name__": "uwsgi_file_wsgi"})
    # It sets up Django, before models may be imported.
    application = importlib.import_module("site1.wsgi").application
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.management import call_command

    sys.stdout = sys.stderr
    call_command("migrate", verbosity=0)
    exec(text("collect.py"), {"__name__": "__main__"})
    User.objects.create_superuser("ada", "", "secret")

    def ask(path, host, scheme="http", body=None, cookies=()):
        content = (body or "").encode()
        environ = {
            "REQUEST_METHOD": "GET" if body is None else "POST", "PATH_INFO": path, "QUERY_STRING": "",
            "SERVER_NAME": "machine", "SERVER_PORT": "80", "HTTP_HOST": host, "wsgi.url_scheme": scheme,
            "HTTP_X_FORWARDED_PROTO": scheme, "HTTP_COOKIE": "; ".join(cookies), "wsgi.errors": sys.stderr,
            "wsgi.input": io.BytesIO(content), "CONTENT_LENGTH": str(len(content)),
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "HTTP_ORIGIN": f"{scheme}://{host}", "HTTP_REFERER": f"{scheme}://{host}/",
        }  # fmt: skip
        heads = []
        answer = application(environ, lambda status, headers, *problem: heads.append((status, headers)))
        page = b"".join(answer).decode()
        status, headers = heads[-1]
        return int(status.split()[0]), [value for name, value in headers if name == "Set-Cookie"], page

    def log_in(host, scheme):
        """Log in as a browser does, which drops Secure cookies that come over HTTP, and ask for the admin's page."""
        _, first, page = ask("/admin/login/", host, scheme)
        token = re.search('csrfmiddlewaretoken" value="(.*?)"', page)
        form = f"username=ada&password=secret&csrfmiddlewaretoken={token[1] if token else ''}"
        kept = [cookie for cookie in first if scheme == "https" or "Secure" not in cookie]
        status, second, _ = ask("/admin/login/", host, scheme, form, [cookie.partition(";")[0] for cookie in kept])
        kept = [cookie for cookie in second if scheme == "https" or "Secure" not in cookie]
        inside, _, page = ask("/admin/", host, scheme, None, [cookie.partition(";")[0] for cookie in kept])
        secure = ["Secure" in cookie for cookie in (*first, *second)]
        return {"posted": status, "inside": inside, "name": "ada" in page, "secure": sorted(set(secure))}

    hosts = domains.split() or ["203.0.113.5", "127.0.0.1:8080", "any.example"]
    return {
        "settings": settings.SETTINGS_MODULE, "debug": settings.DEBUG,
        "database": settings.DATABASES["default"]["NAME"],
        "log in": {f"{scheme}://{host}": log_in(host, scheme) for host in hosts for scheme in ("http", "https")},
        "stranger": ask("/admin/login/", "stranger.example")[0],
        "styled": ask("/styled/", hosts[0])[::2],
        "missing": ask("/missing", hosts[0])[::2],
        "media": {name: ask(f"/media/{name}", hosts[0])[0] for name in ("picture.txt", "none", "../db.sqlite3", "")},
        "uploaded": ask("/media/picture.txt", hosts[0])[2],
        "url": (beside / "cache/static-url").read_text(),
        "collected": (beside / "cache/static/admin/css/base.css").exists(),
    }  # fmt: skip


if __name__ == "__main__":
    printed = sys.stdout
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])), file=printed)
