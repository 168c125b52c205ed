"""Generate the files of a release, in addition to source, lock and wheels, that depend only on the app."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bake.bundle import release_metadata, release_nginx, release_units
from bake.config import contract
from bake.config.contract_files import MachineRecipe
from bake.config.debian import DEBIAN_12
from bake.config.providers import AWS_METADATA_SERVICES
from bake.config.recipe import Recipe
from bake.config.sections import OPTIONS, Django, Limits, Updates
from bake.host import paths
from bake.host.templates import render

#: Optional parts of a release: folders of cloud-init/features, the most important first. A document without enough room
#: omits them.
EXTRAS = ("certificate", "updates", "ssh-limit", "request-limit", "zero-downtime")
#: Parts that only bundles contain: a document has no room, or nobody reads the result.
BUNDLE_FEATURES = ("read-only-hints", "author-server", "child-signals", "journal", "steps", "web-limit", "zram")
#: The script that starts the author's server. `author-server` runs it.
AUTHOR = "settings/jobs/author"


@dataclass(frozen=True)
class File:
    """A text file of a release: its content and its mode."""

    text: str
    mode: int = 0o644


def files(folder: Path, recipe: Recipe, source_paths: list[Path]) -> dict[str, File]:
    """Return the files of a release by path. `source_paths` are the paths of the app's folder in the release."""
    metadata = {} if recipe.package else release_metadata.distribution(folder, source_paths)
    settings = {
        "env": environment(
            {**flask(recipe.wsgi or ""), **preload(recipe), **django(recipe), **place(recipe), **recipe.env}
        ),
        "nginx/http.conf": release_nginx.http(recipe) if recipe.is_http else "",
        "nginx/proxy.conf": release_nginx.proxy(recipe) if recipe.proxy else "",
        "health.conf": release_nginx.health(recipe) if recipe.proxy else "",
        "exchange.py": render("release/exchange.py.j2") if recipe.is_http and "zero-downtime" in extras(recipe) else "",
        "nginx/limits.conf": release_nginx.limits(recipe),
        "nginx/redirect.conf": release_nginx.redirect(recipe) if recipe.redirects else "",
        "uwsgi.ini": uwsgi(recipe),
        "role.nft": role_rules() if release_units.uses_role(recipe) else "",
        "nginx/static.conf": release_nginx.static(recipe),
        "static-location": release_nginx.collected_static(recipe) if isinstance(recipe.django, Django) else "",
        **{f"jobs/{name}": text for name, text in jobs(recipe).items()},
        **{
            f"processes/{name}": render("release/processes/process.sh.j2", command=process.run)
            for name, process in release_units.process_instances(recipe).items()
        },
        **{f"units/{name}": text for name, text in release_units.units(recipe).items()},
    }
    entry_points = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in source_paths
        if path.name == "entry_points.txt" and path.parent.suffix == ".egg-info"
        if path.parent.parent in (folder, folder / "src")
    ]
    entry_points += [text for name, text in metadata.items() if name.endswith("/entry_points.txt")]
    return {
        contract.RECIPE: File(MachineRecipe.of(recipe).to_json()),
        **{
            path: file
            for name in (*extras(recipe), *BUNDLE_FEATURES, *feature_names(recipe))
            for path, file in feature_files(name).items()
        },
        **{f"settings/{name}": File(text) for name, text in settings.items() if text},
        **{f"settings/bin/{name}": File(text, 0o755) for name, text in release_metadata.commands(entry_points).items()},
        **{f"source/{name}": File(text) for name, text in metadata.items()},
    }


def extras(recipe: Recipe) -> tuple[str, ...]:
    """Return the EXTRAS that suit an app.

    Two programs cannot listen at one port, so nothing can be exchanged there. Only uWSGI needs the hook for its limit.
    Debian 13's sshd limits the tries of passwords itself.
    """
    unsuitable = {
        "zero-downtime": recipe.port,
        "request-limit": recipe.is_http,
        "ssh-limit": recipe.target.name != DEBIAN_12.name,
    }
    return tuple(name for name in EXTRAS if not unsuitable.get(name))


def feature_names(recipe: Recipe) -> tuple[str, ...]:
    """Return the folders of cloud-init/features that an app needs."""
    aws = recipe.aws is not None or (recipe.certificate.keep or "").startswith("s3://")
    django = isinstance(recipe.django, Django)
    servers = {"asgi": recipe.asgi, "run": recipe.run, "wsgi": recipe.server != "uwsgi"}
    needed = {
        "updates": recipe.updates != Updates(),
        "python": recipe.target.has_interpreter,
        **servers,
        "steps": any((recipe.writable.paths, recipe.secrets, recipe.setup, recipe.release, recipe.processes, django)),
        "jobs": any((recipe.setup, recipe.release, recipe.timers, django)),
        "processes": recipe.processes,
        "django": django,
        "random-secrets": recipe.random_secrets,
        "aws": aws,
        "swap": recipe.swap,
    }
    return (*(name for name, value in needed.items() if value), *certificate_features(recipe))


def certificate_features(recipe: Recipe) -> tuple[str, ...]:
    """Return the folders of cloud-init/features that an app's options of `certificate` need."""
    return tuple(f"certificate-{name}" for name in recipe.certificate.options)


def keys(recipe: Recipe) -> dict[str, str]:
    """Return the secrets that only root can read on the machine: the name of each, and its file in /etc/app."""
    return {OPTIONS[name].key: OPTIONS[name].file for name in recipe.certificate.options}


def feature_files(name: str) -> dict[str, File]:
    """Return the files of a folder of cloud-init/features, by their path in a release."""
    folder = paths.features() / name
    file_paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {
        f"settings/{path.relative_to(folder)}": File(
            text := path.read_text(), 0o755 if text.startswith("#!") else 0o644
        )
        for path in file_paths
    }


def environment(values: dict[str, str]) -> str:
    """Return an EnvironmentFile (systemd.exec(5)): values in double quotes, with special characters escaped."""
    escaped_values = {name: re.sub(r'(["\\$`])', r"\\\1", value) for name, value in sorted(values.items())}
    return "".join(f'{name}="{value}"\n' for name, value in escaped_values.items())


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
        contract.DJANGO_SETTINGS: recipe.django.settings,
        **({contract.DJANGO_MEDIA: "1"} if media else {}),
    }


def preload(recipe: Recipe) -> dict[str, str]:
    """Return the environment that makes another server than uWSGI load the app once, for all workers."""
    return {contract.PRELOAD: "1"} if recipe.is_http and recipe.preload else {}


def place(recipe: Recipe) -> dict[str, str]:
    """Return the environment with the app's time zone and locale."""
    values = {"TZ": recipe.timezone, "LANG": recipe.locale}
    return {name: value for name, value in values.items() if value}


def role_rules() -> str:
    """Return the firewall rules that open EC2's metadata service to the app."""
    return render("release/role.nft.j2", uid=contract.UID, addresses=AWS_METADATA_SERVICES)


def uwsgi(recipe: Recipe) -> str:
    """Return uWSGI's settings that differ from the main file. The machine computes the number of workers."""
    app_limits, defaults = recipe.limits, Limits()
    if recipe.is_http:
        return ""
    options: dict[str, object] = {}
    if recipe.preload is True:
        options["lazy-apps"] = "false"
    if app_limits.threads != defaults.threads:
        options["threads"] = app_limits.threads
    if app_limits.request != defaults.request:
        options["harakiri"] = app_limits.request + contract.SERVER_MARGIN
    return render("release/uwsgi.ini.j2", options=options) if options else ""


def jobs(recipe: Recipe) -> dict[str, str]:
    """Return the scripts of the app's jobs by name, such as `setup` and the timers of bake.yaml."""
    release_steps = steps(recipe.release or ())
    is_django = isinstance(recipe.django, Django)
    author = recipe.check.author
    author_environment = f"export {contract.DJANGO_AUTHOR}=1\n" if is_django else ""
    return {
        "setup": steps(recipe.setup),
        "release": render("release/jobs/release.sh.j2", steps=release_steps) if release_steps else "",
        "static": render("release/jobs/static.sh.j2") if is_django else "",
        "author": f"{author_environment}{author}\n" if author not in (None, "off") else "",
        **{name: f"{job.run}\n" for name, job in recipe.timers.items()},
    }


def steps(commands: Iterable[str]) -> str:
    """Return a script that prints and runs each command."""
    return render("release/jobs/steps.sh.j2", commands=tuple(commands))
