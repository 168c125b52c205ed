"""Generate the files of a release, in addition to source, lock and wheels, that depend only on the app."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from bake.app import project_metadata
from bake.config import contract, field_types
from bake.config.contract_files import MachineRecipe
from bake.config.providers import AWS_METADATA_SERVICES
from bake.config.recipe import Recipe
from bake.config.sections import OPTIONS, Django, Limits, Process, Updates
from bake.host import paths
from bake.host.templates import render

#: Optional parts of a release: folders of cloud-init/features, the most important first. A document without enough room
#: omits them.
EXTRAS = ("certificate", "updates", "limit", "exchange")
#: Parts that only bundles contain, because someone reads the result of a bake or a push.
BUNDLE_FEATURES = ("hints", "observe", "steps")
#: The script that starts the author's server. `observe` runs it.
AUTHOR = "settings/jobs/author"
#: A line of entry_points.txt that defines a command.
COMMAND = re.compile(
    r"\s*(?P<name>[\w-][\w.-]*)\s*=\s*(?P<module>[\w.]+)\s*:\s*(?P<call>(?P<first>\w+)[\w.]*)\s*(\[.*)?"
)


@dataclass(frozen=True)
class File:
    """A text file of a release: its content and its mode."""

    text: str
    mode: int = 0o644


def files(folder: Path, recipe: Recipe, source_paths: list[Path]) -> dict[str, File]:
    """Return the files of a release by path. `source_paths` are the paths of the app's folder in the release."""
    metadata = {} if recipe.package else distribution(folder, source_paths)
    settings = {
        "env": environment(
            {**flask(recipe.wsgi or ""), **preload(recipe), **django(recipe), **place(recipe), **recipe.env}
        ),
        "nginx/http.conf": http(recipe) if recipe.is_http else "",
        "nginx/proxy.conf": proxy(recipe) if recipe.proxy else "",
        "health.conf": health(recipe) if recipe.proxy else "",
        "exchange.py": render("release/exchange.py.j2") if recipe.is_http and "exchange" in extras(recipe) else "",
        "nginx/limits.conf": limits(recipe),
        "nginx/redirect.conf": redirect(recipe) if recipe.redirects else "",
        "uwsgi.ini": uwsgi(recipe),
        "role.nft": role_rules() if uses_role(recipe) else "",
        "nginx/static.conf": static(recipe),
        "static-location": collected_static(recipe) if isinstance(recipe.django, Django) else "",
        **{f"jobs/{name}": text for name, text in jobs(recipe).items()},
        **{
            f"processes/{name}": render("release/processes/process.sh.j2", command=process.run)
            for name, process in process_instances(recipe).items()
        },
        **{f"units/{name}": text for name, text in units(recipe).items()},
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
        **{f"settings/bin/{name}": File(text, 0o755) for name, text in commands(entry_points).items()},
        **{f"source/{name}": File(text) for name, text in metadata.items()},
    }


def extras(recipe: Recipe) -> tuple[str, ...]:
    """Return the EXTRAS that suit an app.

    Two programs cannot listen at one port, so nothing can be exchanged there. Only uWSGI needs the hook for its limit.
    """
    unsuitable = {"exchange": recipe.port, "limit": recipe.is_http}
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
        "processes": recipe.processes,
        "django": django,
        "random-secrets": recipe.random_secrets,
        "aws": aws,
        "swap": recipe.swap,
    }
    return (*(name for name, value in needed.items() if value), *recipe.certificate.options)


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


def uses_role(recipe: Recipe) -> bool:
    """Return whether the app can get the credentials of the instance's role."""
    return recipe.aws is not None and recipe.aws.role


def role_rules() -> str:
    """Return the firewall rules that open EC2's metadata service to the app."""
    return render("release/role.nft.j2", uid=contract.UID, addresses=AWS_METADATA_SERVICES)


def limits(recipe: Recipe) -> str:
    """Return nginx's limits for the app, or "" if they equal those in the main file, which has none for HTTP."""
    app_limits, defaults = recipe.limits, Limits()
    if not recipe.is_http and (app_limits.body, app_limits.request) == (defaults.body, defaults.request):
        return ""
    protocol, timeout = "proxy" if recipe.is_http else "uwsgi", app_limits.request + contract.TIMEOUT_MARGIN
    return render("release/nginx/limits.conf.j2", body=app_limits.body, protocol=protocol, timeout=timeout)


def server_settings(recipe: Recipe) -> str:
    """Return the machine's server.conf. With `proxy`, the facts about the visitor are those that proxy.conf sets."""
    text = (paths.rootfs() / "usr/lib/app/nginx/server.conf").read_text()
    if recipe.proxy:
        text = re.sub(r"\$(scheme|https|port)\b", r"$app_\1", text)
    if recipe.proxy and recipe.proxy.is_cloudflare:
        text = text.replace('HTTP_CF_CONNECTING_IP ""', "HTTP_CF_CONNECTING_IP $remote_addr")
    return text


def http(recipe: Recipe) -> str:
    """Return nginx's locations for a server of HTTP. The headers are those that server.conf sets or drops for uWSGI."""
    parameters = re.findall(r"uwsgi_param HTTP_(\w+) (.+);", server_settings(recipe))
    values = {
        "door": contract.DOOR, "socket": contract.SOCKET,
        "headers": {name.replace("_", "-").title(): value for name, value in parameters},
        "is_buffered": not recipe.run, "is_proxied": recipe.proxy is not None,
    }  # fmt: skip
    return render("release/nginx/http.conf.j2", **values)


def proxy(recipe: Recipe) -> str:
    """Return nginx's settings for trusted proxies. For a WSGI app, they have a copy of the machine's location."""
    match = re.search(r"location @app \{\n(.*?)\n\}\n", server_settings(recipe), re.DOTALL)
    lines = [line for line in match[1].splitlines() if line.strip() and "#" not in line] if match else []
    networks = recipe.proxy.trust if recipe.proxy else ()
    return render(
        "release/nginx/trusted-proxies.conf.j2", networks=networks, is_http=recipe.is_http, app="\n".join(lines)
    )


def redirect(recipe: Recipe) -> str:
    """Return nginx's redirects between names with and without `www.`."""
    return render("release/nginx/redirect.conf.j2", names=recipe.redirects, is_proxied=recipe.proxy is not None)


def health(recipe: Recipe) -> str:
    """Return nginx's location of the health page in the server for other names than the machine's."""
    networks = recipe.proxy.trust if recipe.proxy else ()
    path = unquote((recipe.check.health or "/").partition("?")[0])
    return render("release/health.conf.j2", networks=networks, path=path)


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


def static(recipe: Recipe) -> str:
    """Return nginx's locations for static files. If nginx does not have a file or cannot read it, the app responds."""
    folders = {prefix: f"{contract.CURRENT}/source/{path}" for prefix, path in (recipe.static or {}).items()}
    return "".join(location(recipe, prefix, folder) for prefix, folder in sorted(folders.items()))


def location(recipe: Recipe, prefix: str, folder: str) -> str:
    """Return nginx's location for the files of a folder."""
    values = {
        "prefix": prefix, "folder": folder,
        "server": "http" if recipe.is_http else "proxied" if recipe.proxy else "app",
        "is_collected": folder == contract.COLLECTED_STATIC, "is_proxied": recipe.proxy is not None,
    }  # fmt: skip
    return render("release/nginx/location.conf.j2", **values)


def collected_static(recipe: Recipe) -> str:
    """Return nginx's location for Django's static files. The machine replaces the URL when it knows it."""
    return location(recipe, contract.STATIC_URL, contract.COLLECTED_STATIC)


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


def process_instances(recipe: Recipe) -> dict[str, Process]:
    """Return the app's processes by the instance of their unit, such as queue-1 and queue-2."""
    processes = (recipe.processes or {}).items()
    return {f"{name}-{number}": process for name, process in processes for number in range(1, process.count + 1)}


def steps(commands: Iterable[str]) -> str:
    """Return a script that prints and runs each command."""
    return render("release/jobs/steps.sh.j2", commands=tuple(commands))


def units(recipe: Recipe) -> dict[str, str]:
    """Return systemd units: the app's timers, exceptions from its sandbox, and the folder to keep certificates in."""
    texts = {
        f"app-{name}.timer": render(
            "release/units/job.timer.j2", name=name, when=field_types.in_zone(job.when, recipe.timezone)
        )
        for name, job in recipe.timers.items()
    }
    if texts:
        wants = render("release/units/60-timers.conf.j2", timers=tuple(texts))
        texts[f"{contract.SERVICE}.service.d/60-timers.conf"] = wants
    if recipe.swap:
        program = f"{contract.CURRENT}/settings/swap"
        values = {"program": program, "file": contract.SWAP_FILE, "size": recipe.swap, "check": contract.CHECK}
        texts[f"{contract.SWAP}.service"] = render("release/units/swap.service.j2", **values)
        texts[f"{contract.SERVICE}.service.d/60-swap.conf"] = render(
            "release/units/60-swap.conf.j2", unit=contract.SWAP
        )
    for unit, seconds in job_limits(recipe).items():
        texts[f"{unit}.service.d/60-limit.conf"] = render("release/units/60-limit.conf.j2", seconds=seconds)
    for name, process in process_instances(recipe).items():
        if process.memory or process.stop:
            text = render("release/units/60-process.conf.j2", memory=process.memory, stop=process.stop)
            texts[f"{contract.PROCESS}{name}.service.d/60-process.conf"] = text
    if recipe.updates != Updates():
        reboot = render("release/units/60-reboot.conf.j2", time=recipe.updates.reboot)
        texts["apt-daily-upgrade.service.d/60-reboot.conf"] = reboot
    drop_ins = app_drop_ins(recipe).items()
    texts |= {f"{unit}.service.d/{name}": text for unit in app_units(recipe) for name, text in drop_ins}
    keep = recipe.certificate.keep
    if keep and keep.startswith("/"):
        texts[f"{contract.KEEP}.service.d/60-place.conf"] = render("release/units/60-place.conf.j2", folder=keep)
    return texts


def app_drop_ins(recipe: Recipe) -> dict[str, str]:
    """Return the settings of each unit that runs as the app's user, by file name."""
    drop_ins: dict[str, str] = {}
    if recipe.sandbox.allow:
        drop_ins["60-allow.conf"] = render("release/units/60-allow.conf.j2", allow=recipe.sandbox.allow)
    # /tmp is in memory on Debian 13, and frameworks keep large uploads there.
    if recipe.limits.body > contract.BODY:
        drop_ins["60-tmp.conf"] = render("release/units/60-tmp.conf.j2")
    if uses_role(recipe):
        drop_ins["60-role.conf"] = render("release/units/60-role.conf.j2", addresses=AWS_METADATA_SERVICES)
    return drop_ins


def app_units(recipe: Recipe) -> list[str]:
    """Return the units of an app that run as its user. Only an app with processes has a unit for them."""
    return [unit for unit in contract.APP_UNITS if unit != contract.PROCESS or recipe.processes]


def job_limits(recipe: Recipe) -> dict[str, int]:
    """Return the limits in seconds that differ from those of the units: of the app's jobs, and of app-setup."""
    limits = {f"app-job@{name}": job.limit for name, job in recipe.timers.items() if job.limit}
    if steps := recipe.limits.steps:
        # app-setup waits for both, and has an hour for all else.
        limits |= {"app-job@setup": steps, "app-job@release": steps, contract.SETUP: 2 * steps + 3600}
    return limits


def distribution(folder: Path, source_paths: list[Path]) -> dict[str, str]:
    """Return a project's metadata for `importlib.metadata`: its name, version and entry points.

    The values come from the project's files. Omits a computed version, because a build would run the
    app's code. Returns {} if the app's folder has an *.egg-info folder with the metadata.
    """
    project = project_metadata.find(folder)
    has_egg_info = any(path.parent == folder and path.suffix == ".egg-info" for path in source_paths)
    if project is None or not project.name or has_egg_info:
        return {}
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in sorted(targets.items()))])
        for group, targets in sorted(project.entry_points.items())
        if targets
    ]
    if not project.version and not groups:
        return {}
    dist_info = f"{canonicalize_name(project.name).replace('-', '_')}-{project.version or 'unknown'}.dist-info"
    version = f"Version: {project.version}\n" if project.version else ""
    return {
        f"{dist_info}/METADATA": f"Metadata-Version: 2.1\nName: {project.name}\n{version}",
        f"{dist_info}/entry_points.txt": "\n\n".join(groups) + "\n",
    }


def commands(entry_points: Iterable[str]) -> dict[str, str]:
    """Return the commands in texts of entry_points.txt. The app is not a wheel, so no installer creates them."""
    scripts = {}
    for text in entry_points:
        group = ""
        for line in text.splitlines():
            if line.startswith("["):
                group = line.strip()
            elif group == "[console_scripts]" and (match := COMMAND.fullmatch(line)):
                scripts[match["name"]] = render(
                    "release/bin/command.py.j2", module=match["module"], name=match["first"], callable=match["call"]
                )
    return scripts
