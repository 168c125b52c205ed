"""Generate the files of a release, in addition to source, lock and wheels, that depend only on the app."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from bake.app import project_metadata
from bake.config.providers import AWS_METADATA_SERVICES
from bake.config.recipe import Recipe
from bake.config.sections import OPTIONS, Django, Limits
from bake.host import paths

#: The keys of a recipe that a machine and its checks need. An image does not contain the others, which may be private.
KEPT = (
    "wsgi",
    "domains",
    "static",
    "secrets",
    "writable",
    "setup",
    "release",
    "timers",
    "packages",
    "django",
    "limits",
    "email",
    "aws",
)
#: Optional parts of a release: folders of cloud-init/features, the most important first. A document without enough room
#: omits them.
EXTRAS = ("certificate", "exchange")
#: Parts that only bundles contain, because someone reads the result of a bake or a push.
BUNDLED = ("hints", "observe", "steps")
#: The script that starts the author's server. `observe` runs it.
AUTHOR = "settings/jobs/author"
#: Seconds that nginx waits longer than uWSGI's limit for a request, so that uWSGI reports the timeout.
PATIENCE = 5
#: The folder of the static files that Django collects.
COLLECTED = "/var/cache/app/static"
#: The record of the releases whose `release` steps have changed the app's data. It is part of that data.
UNLESS_DONE = 'if grep -qsxF "$APP_RELEASE" /var/lib/app/.released; then exit; fi\n'
DONE = 'echo "$APP_RELEASE" >> /var/lib/app/.released\n'
#: The lines of a unit that turn off parts of the sandbox, for `sandbox: {allow: …}`.
ALLOWED = {"jit": "MemoryDenyWriteExecute=no\n"}
#: Rules that open EC2's metadata service in the firewall and in the app's units, for `aws: {role: true}`.
ROLE_RULES = "".join(
    f"meta skuid 800 {'ip6' if ':' in address else 'ip'} daddr {address} tcp dport 80 accept\n"
    for address in AWS_METADATA_SERVICES
)
ROLE_UNIT = f"IPAddressAllow={' '.join(AWS_METADATA_SERVICES)}\n"
#: A line of entry_points.txt that defines a command.
COMMAND = re.compile(
    r"\s*(?P<name>[\w-][\w.-]*)\s*=\s*(?P<module>[\w.]+)\s*:\s*(?P<call>(?P<first>\w+)[\w.]*)\s*(\[.*)?"
)


@dataclass(frozen=True)
class File:
    """A text file of a release: its content and its mode."""

    text: str
    mode: int = 0o644


def files(folder: Path, recipe: Recipe, kept: list[Path]) -> dict[str, File]:
    """Return the files of a release by path. `kept` are the paths of the app's folder in the release's source."""
    said = recipe.model_dump(
        mode="json",
        include={**dict.fromkeys(KEPT, True), "check": {"health", "pages", "crawl", "author"}},
        exclude_defaults=True,
        exclude_none=True,
    )
    said |= {**recipe.certificate.model_dump(), "packages": recipe.debian_packages}
    dump = json.dumps({key: value for key, value in said.items() if value}, indent=1, sort_keys=True)
    about = {} if recipe.package else distribution(folder, kept)
    settings = {
        "env": environment({**flask(recipe.wsgi or ""), **django(recipe), **recipe.env}),
        "nginx/limits.conf": limits(recipe.limits),
        "uwsgi.ini": uwsgi(recipe),
        "role.nft": ROLE_RULES if uses_role(recipe) else "",
        "nginx/static.conf": static(recipe),
        "static-location": location("STATIC_URL", COLLECTED) if isinstance(recipe.django, Django) else "",
        **{f"jobs/{name}": text for name, text in jobs(recipe).items()},
        **{f"units/{name}": text for name, text in units(recipe).items()},
    }
    points = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in kept
        if path.name == "entry_points.txt" and path.parent.suffix == ".egg-info"
        if path.parent.parent in (folder, folder / "src")
    ]
    points += [text for name, text in about.items() if name.endswith("/entry_points.txt")]
    return {
        "recipe.json": File(dump + "\n"),
        **{path: file for name in (*EXTRAS, *BUNDLED, *asked(recipe)) for path, file in extra(name).items()},
        **{f"settings/{name}": File(text) for name, text in settings.items() if text},
        **{f"settings/bin/{name}": File(text, 0o755) for name, text in commands(points).items()},
        **{f"source/{name}": File(text) for name, text in about.items()},
    }


def asked(recipe: Recipe) -> tuple[str, ...]:
    """Return the folders of cloud-init/features that an app needs."""
    aws = recipe.aws is not None or (recipe.certificate.keep or "").startswith("s3://")
    django = isinstance(recipe.django, Django)
    steps = any((recipe.writable.paths, recipe.secrets, recipe.setup, recipe.release, django))
    return ("steps",) * steps + ("django",) * django + ("aws",) * aws + recipe.certificate.options


def keys(recipe: Recipe) -> dict[str, str]:
    """Return the secrets that only root can read on the machine: the name of each, and its file in /etc/app."""
    return {OPTIONS[name].key: OPTIONS[name].file for name in recipe.certificate.options}


def extra(name: str) -> dict[str, File]:
    """Return the files of a folder of cloud-init/features, by their path in a release."""
    folder = paths.features() / name
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {
        f"settings/{path.relative_to(folder)}": File(
            text := path.read_text(), 0o755 if text.startswith("#!") else 0o644
        )
        for path in found
    }


def environment(values: dict[str, str]) -> str:
    """Return an EnvironmentFile (systemd.exec(5)): values in double quotes, with special characters escaped."""
    quoted = {name: re.sub(r'(["\\$`])', r"\\\1", value) for name, value in sorted(values.items())}
    return "".join(f'{name}="{value}"\n' for name, value in quoted.items())


def flask(wsgi: str) -> dict[str, str]:
    """Return the environment that selects the app for the command `flask` in setup steps and timers."""
    return {"FLASK_APP": wsgi} if re.fullmatch(r"[\w.]+:\w+(\(\))?", wsgi) else {}


def django(recipe: Recipe) -> dict[str, str]:
    """Return the environment that makes a Django project use bake's settings, which import its own."""
    if not isinstance(recipe.django, Django):
        return {}
    # nginx cannot read the app's data, so the app serves folders of uploads.
    media = recipe.django.media or any(folder in recipe.writable.paths for folder in (recipe.static or {}).values())
    return {
        "DJANGO_SETTINGS_MODULE": "app_settings",
        "APP_DJANGO_SETTINGS": recipe.django.settings,
        **({"APP_DJANGO_MEDIA": "1"} if media else {}),
    }


def uses_role(recipe: Recipe) -> bool:
    """Return whether the app can get the credentials of the instance's role."""
    return recipe.aws is not None and recipe.aws.role


def limits(wanted: Limits) -> str:
    """Return nginx's limits for the app, or "" if they equal those in the main file."""
    usual = Limits()
    if (wanted.body, wanted.request) == (usual.body, usual.request):
        return ""
    patience = wanted.request + PATIENCE
    return (
        f"client_max_body_size {wanted.body};\n"
        f"uwsgi_read_timeout {patience}s;\n"
        f"uwsgi_send_timeout {patience}s;\n"
    )  # fmt: skip


def uwsgi(recipe: Recipe) -> str:
    """Return uWSGI's settings that differ from the main file. The machine computes the number of workers."""
    wanted, usual = recipe.limits, Limits()
    lines = ["lazy-apps = false"] * (recipe.preload is True)
    lines += [f"threads = {wanted.threads}"] * (wanted.threads != usual.threads)
    lines += [f"harakiri = {wanted.request}"] * (wanted.request != usual.request)
    return "\n".join(["[uwsgi]", *lines, ""]) if lines else ""


def static(recipe: Recipe) -> str:
    """Return nginx's locations for static files. If nginx does not have a file or cannot read it, the app responds."""
    folders = {prefix: f"/srv/app/current/source/{inside}" for prefix, inside in (recipe.static or {}).items()}
    return "".join(location(prefix, folder) for prefix, folder in sorted(folders.items()))


def location(prefix: str, folder: str) -> str:
    """Return nginx's location for the files of a folder."""
    # If only one of location and alias ended with a slash, visitors could leave the folder.
    return (
        f"location ^~ {prefix}/ {{\n"
        "    include /usr/lib/app/nginx/redirect.conf;\n"
        f"    alias {folder}/;\n"
        "    expires 1h;\n"
        "    error_page 403 404 = @app;\n"
        "    recursive_error_pages on;\n"
        "}\n"
    )


def jobs(recipe: Recipe) -> dict[str, str]:
    """Return the scripts of the app's jobs by name, such as `setup` and the timers of bake.yaml."""
    once = steps(recipe.release or ())
    # nginx must be able to read the collected files. The app's other files are private.
    # -P keeps the modules in the program's folder out of sys.path, because they are not the app's.
    collect = "umask 022\npython -P /srv/app/current/settings/collect.py\n" if isinstance(recipe.django, Django) else ""
    author = recipe.check.author
    as_author = "export APP_DJANGO_AUTHOR=1\n" if isinstance(recipe.django, Django) else ""
    return {
        "setup": steps(recipe.setup),
        "release": f"{UNLESS_DONE}{once}{DONE}" if once else "",
        "static": collect,
        "author": f"{as_author}{author}\n" if author not in (None, "off") else "",
        **{name: f"{job.run}\n" for name, job in recipe.timers.items()},
    }


def steps(commands: Iterable[str]) -> str:
    """Return a script that prints and runs each command."""
    lines = tuple(commands)
    return "".join(
        f"echo 'step {number} of {len(lines)}:' {shlex.quote(line)}\n{line}\n" for number, line in enumerate(lines, 1)
    )


def units(recipe: Recipe) -> dict[str, str]:
    """Return systemd units: the app's timers, exceptions from its sandbox, and the folder to keep certificates in."""
    found = {
        f"app-{name}.timer": (
            f"[Unit]\nDescription=Schedule of the app's job {name}\nAfter=app.service\n\n"
            f"[Timer]\nOnCalendar={job.when}\nPersistent=yes\nUnit=app-job@{name}.service\n"
        )
        for name, job in recipe.timers.items()
    }
    allowed = "".join(ALLOWED[name] for name in recipe.sandbox.allow)
    if found:
        found["app.service.d/60-timers.conf"] = f"[Unit]\nWants={' '.join(found)}\n"
    # These addresses override the ones that the sandbox denies.
    role = ROLE_UNIT * uses_role(recipe)
    for service in ("app", "app-next", "app-job@"):
        for name, text in (("allow", allowed), ("role", role)):
            if text:
                found[f"{service}.service.d/60-{name}.conf"] = f"[Service]\n{text}"
    keep = recipe.certificate.keep
    if keep and keep.startswith("/"):
        found["app-keep.service.d/60-place.conf"] = (
            f"[Unit]\nRequiresMountsFor={keep}\n\n[Service]\nReadWritePaths=-{keep}\n"
        )
    return found


def distribution(folder: Path, kept: list[Path]) -> dict[str, str]:
    """Return a project's metadata for `importlib.metadata`: its name, version and entry points.

    The values come from the project's files. Omits a computed version, because a build would run the
    app's code. Returns {} if the app's folder has an *.egg-info folder with the metadata.
    """
    said = project_metadata.find(folder)
    if said is None or not said.name or any(path.parent == folder and path.suffix == ".egg-info" for path in kept):
        return {}
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in sorted(points.items()))])
        for group, points in sorted(said.entry_points.items())
        if points
    ]
    if not said.version and not groups:
        return {}
    place = f"{canonicalize_name(said.name).replace('-', '_')}-{said.version or 'unknown'}.dist-info"
    version = f"Version: {said.version}\n" if said.version else ""
    return {
        f"{place}/METADATA": f"Metadata-Version: 2.1\nName: {said.name}\n{version}",
        f"{place}/entry_points.txt": "\n\n".join(groups) + "\n",
    }


def commands(points: Iterable[str]) -> dict[str, str]:
    """Return the commands in texts of entry_points.txt. The app is not a wheel, so no installer creates them."""
    found = {}
    for text in points:
        group = ""
        for line in text.splitlines():
            if line.startswith("["):
                group = line.strip()
            elif group == "[console_scripts]" and (said := COMMAND.fullmatch(line)):
                found[said["name"]] = (
                    "#!/usr/bin/env python\nimport sys\n\n"
                    f"from {said['module']} import {said['first']}\n\nsys.exit({said['call']}())\n"
                )
    return found
