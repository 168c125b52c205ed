"""What a release holds besides source, lock and wheels: finished files of all that depends on the app alone."""

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
from bake.config.recipe import OPTIONS, Django, Limits, Recipe
from bake.host import paths

#: What a machine, and the checks of one, still ask of a recipe. What else is in it is not given away with an image.
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
#: What a release brings besides, and a document leaves out where it has no room: folders of cloud-init/release, the
#: dearest first.
EXTRAS = ("certificate", "exchange")
#: What bundles alone bring: they are what people bake and push, and see the outcome of.
BUNDLED = ("hints", "observe", "steps")
#: Starts the author's server; `observe` runs it.
AUTHOR = "settings/jobs/author"
#: nginx waits this much longer than uWSGI allows a request, so that the app's side speaks first. Seconds.
PATIENCE = 5
#: Where Django collects static files.
COLLECTED = "/var/cache/app/static"
#: The record of the releases whose `release` steps have changed the app's data: it lies with them, as the app's own.
UNLESS_DONE = 'if grep -qsxF "$APP_RELEASE" /var/lib/app/.released; then exit; fi\n'
DONE = 'echo "$APP_RELEASE" >> /var/lib/app/.released\n'
#: What `sandbox: {allow: …}` takes back of the app's sandbox.
ALLOWED = {"jit": "MemoryDenyWriteExecute=no\n"}
#: Opens EC2's metadata service, in the firewall before it rejects and in the app's units: `aws: {role: true}`.
ROLE_RULES = "".join(
    f"meta skuid 800 {'ip6' if ':' in address else 'ip'} daddr {address} tcp dport 80 accept\n"
    for address in AWS_METADATA_SERVICES
)
ROLE_UNIT = f"IPAddressAllow={' '.join(AWS_METADATA_SERVICES)}\n"
#: A line of entry_points.txt that names a command.
COMMAND = re.compile(
    r"\s*(?P<name>[\w-][\w.-]*)\s*=\s*(?P<module>[\w.]+)\s*:\s*(?P<call>(?P<first>\w+)[\w.]*)\s*(\[.*)?"
)


@dataclass(frozen=True)
class File:
    """A text file of a release: content, mode bits."""

    text: str
    mode: int = 0o644


def files(folder: Path, recipe: Recipe, kept: list[Path]) -> dict[str, File]:
    """Path to file. `kept` is what of the app's folder is the release's source."""
    said = recipe.model_dump(
        mode="json",
        include={**dict.fromkeys(KEPT, True), "check": {"health", "pages", "crawl", "author"}},
        exclude_defaults=True,
        exclude_none=True,
    )
    said |= {**recipe.certificate.model_dump(), "packages": recipe.debian}
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
    """The folders of cloud-init/release that an app asks for."""
    aws = recipe.aws is not None or (recipe.certificate.keep or "").startswith("s3://")
    django = isinstance(recipe.django, Django)
    steps = any((recipe.writable.paths, recipe.secrets, recipe.setup, recipe.release, django))
    return ("steps",) * steps + ("django",) * django + ("aws",) * aws + recipe.certificate.asked


def keys(recipe: Recipe) -> dict[str, str]:
    """What root alone has on the machine, never the app: the name of each value, and its file in /etc/app."""
    return {OPTIONS[name].key: OPTIONS[name].file for name in recipe.certificate.asked}


def extra(name: str) -> dict[str, File]:
    """The files of a folder of cloud-init/release, by their path in a release."""
    folder = paths.release() / name
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {
        f"settings/{path.relative_to(folder)}": File(
            text := path.read_text(), 0o755 if text.startswith("#!") else 0o644
        )
        for path in found
    }


def environment(values: dict[str, str]) -> str:
    """An EnvironmentFile (systemd.exec(5)): double quotes, with a backslash before what they would read."""
    quoted = {name: re.sub(r'(["\\$`])', r"\\\1", value) for name, value in sorted(values.items())}
    return "".join(f'{name}="{value}"\n' for name, value in quoted.items())


def flask(wsgi: str) -> dict[str, str]:
    """What tells the command `flask` which app is meant, in setup steps and timers."""
    return {"FLASK_APP": wsgi} if re.fullmatch(r"[\w.]+:\w+(\(\))?", wsgi) else {}


def django(recipe: Recipe) -> dict[str, str]:
    """What makes a Django project use the settings around its own."""
    if not isinstance(recipe.django, Django):
        return {}
    # nginx may not read the app's data; folders of uploads that it is to serve, the app serves.
    media = recipe.django.media or any(folder in recipe.writable.paths for folder in (recipe.static or {}).values())
    return {
        "DJANGO_SETTINGS_MODULE": "app_settings",
        "APP_DJANGO_SETTINGS": recipe.django.settings,
        **({"APP_DJANGO_MEDIA": "1"} if media else {}),
    }


def uses_role(recipe: Recipe) -> bool:
    """Whether the app may ask for the credentials of its machine's role."""
    return recipe.aws is not None and recipe.aws.role


def limits(wanted: Limits) -> str:
    """nginx's limits for one server, where they are not those of its main file."""
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
    """uWSGI's settings that differ from its main file. The machine itself decides how many workers run."""
    wanted, usual = recipe.limits, Limits()
    lines = ["lazy-apps = false"] * (recipe.preload is True)
    lines += [f"threads = {wanted.threads}"] * (wanted.threads != usual.threads)
    lines += [f"harakiri = {wanted.request}"] * (wanted.request != usual.request)
    return "\n".join(["[uwsgi]", *lines, ""]) if lines else ""


def static(recipe: Recipe) -> str:
    """nginx's locations for files that need no Python. The app answers for those that nginx lacks or may not read."""
    folders = {prefix: f"/srv/app/current/source/{inside}" for prefix, inside in (recipe.static or {}).items()}
    return "".join(location(prefix, folder) for prefix, folder in sorted(folders.items()))


def location(prefix: str, folder: str) -> str:
    """Return nginx's location for the files of a folder."""
    # An alias whose slash does not match its location's lets visitors out of the folder.
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
    """Scripts of the app's jobs, by name: bake.yaml's setup and timers."""
    once = steps(recipe.release or ())
    # nginx reads them; the app's own files are nobody else's.
    # -P: modules of ours beside the program are not the app's.
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
    """Return a script that runs commands, and announces each."""
    lines = tuple(commands)
    return "".join(
        f"echo 'step {number} of {len(lines)}:' {shlex.quote(line)}\n{line}\n" for number, line in enumerate(lines, 1)
    )


def units(recipe: Recipe) -> dict[str, str]:
    """Units for systemd: the app's timers, what its sandbox allows, and the folder that certificates are kept in."""
    found = {
        f"app-{name}.timer": (
            f"[Unit]\nDescription=When the app's job {name} runs\nAfter=app.service\n\n"
            f"[Timer]\nOnCalendar={job.when}\nPersistent=yes\nUnit=app-job@{name}.service\n"
        )
        for name, job in recipe.timers.items()
    }
    allowed = "".join(ALLOWED[name] for name in recipe.sandbox.allow)
    if found:
        found["app.service.d/60-timers.conf"] = f"[Unit]\nWants={' '.join(found)}\n"
    # An empty list takes back the addresses that the sandbox denies.
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
    """What `importlib.metadata` should know of an app that is a project: its name, version and entry points.

    As its files say it: without a version that is computed (a build would run the app's code), and
    nothing where a folder *.egg-info of the app's says it already.
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
    """The commands that texts of entry_points.txt name: the app is no wheel, so nothing else makes them."""
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
