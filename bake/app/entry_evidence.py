"""Find the files in an app's folder that tell which app other servers serve: a Procfile, a Dockerfile, FLASK_APP."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from bake.app import procfile, project_metadata
from bake.errors import RequirementError
from bake.host import foreign_text

#: The maximum number of characters to read of a file.
MAX_CHARACTERS = 2**16
#: The maximum depth of commands in commands: sh -c, and scripts.
MAX_DEPTH = 2
#: The options of gunicorn, waitress-serve, uvicorn, hypercorn and daphne without a value. All others have one.
FLAGS = {
    "--preload", "--reload", "--daemon", "-D", "--capture-output", "--enable-stdio-inheritance", "--spew", "-R",
    "--check-config", "--print-config", "--no-sendfile", "--call", "--no-expose-tracebacks", "--expose-tracebacks",
    "--ipv4", "--no-ipv4", "--ipv6", "--no-ipv6", "--clear-untrusted-proxy-headers",
    "--factory", "--proxy-headers", "--no-proxy-headers", "--access-log", "--no-access-log", "--use-colors",
    "--no-use-colors", "--server-header", "--no-server-header", "--date-header", "--no-date-header", "--debug",
    "--reset-contextvars",
}  # fmt: skip
#: An app as the servers take it: module:expression, or a module.
APP = re.compile(r"([A-Za-z_][\w.]*)(?::(.+))?")
#: The files in which `fastapi run` looks for the app.
FASTAPI_FILES = [f"{folder}{name}.py" for folder in ("", "app/") for name in ("main", "app", "api")]
#: uWSGI's options that name the module or the file of the app.
UWSGI_OPTIONS = {"module", "wsgi", "w", "wsgi-file", "file", "mount"}


@dataclass(frozen=True)
class Evidence:
    """The app that a file names. `expression` is "" if the file names only its module.

    `folder` is the one in which the command runs, below the app's folder. `is_script`: the command runs the module as a
    program. `asgi`: its server serves ASGI apps.
    """

    source: str
    module: str
    expression: str = ""
    folder: str = ""
    is_script: bool = False
    asgi: bool = False

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the possible dotted names of the module in the app's folder."""
        prefix = ".".join(part for part in PurePosixPath(self.folder).parts if part not in ("/", ".", ".."))
        return (f"{prefix}.{self.module}", self.module) if prefix else (self.module,)


def find(folder: Path) -> Iterator[Evidence]:
    """Yield the evidence in an app's folder, the strongest first."""
    for name, read in SOURCES.items():
        if text := _text(folder / name):
            yield from read(folder, name, text)


def scripts(folder: Path) -> Iterator[Evidence]:
    """Yield the modules of the programs that the project installs. They only decide between several apps."""
    with suppress(RequirementError):
        project = project_metadata.find(folder)
        for target in project.entry_points.get("console_scripts", {}).values() if project else ():
            yield Evidence(f"{project.file}: scripts" if project else "", target.partition(":")[0], is_script=True)


def django_settings(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the files that set DJANGO_SETTINGS_MODULE for a host, the strongest first, each with a value."""
    for name in SOURCES:
        text = _text(folder / name).replace("\\\n", " ")
        if name == "Dockerfile":
            # A build step may use other settings.
            text = "\n".join(re.findall(r"^[ \t]*(?:ENV|CMD|ENTRYPOINT)\s.+$", text, re.M))
        for match in re.finditer(r"\bDJANGO_SETTINGS_MODULE\W+(?:value\W+)?([A-Za-z_][\w.]*)", text):
            yield name, match[1]


def _text(path: Path) -> str:
    """Return the beginning of a file, or "" if it cannot be read."""
    with suppress(OSError):
        return foreign_text.read(path, "replace")[:MAX_CHARACTERS]
    return ""


def _command(folder: Path, source: str, command: str, depth: int = 0) -> Iterator[Evidence]:
    """Yield the apps that the first server in a line serves, also one in a shell script of the app."""
    with suppress(ValueError):
        words = shlex.split(command, comments=True)
        chdir = words[words.index("cd") + 1] if "cd" in words[:-1] else ""
        for index, word in enumerate(words):
            program, arguments = PurePosixPath(word).name, words[index + 1 :]
            apps: list[Evidence] = []
            if program in ("-c", "-lc") and arguments and depth < MAX_DEPTH:
                apps += _command(folder, source, arguments[0], depth + 1)
            elif read := PROGRAMS.get(re.sub(r"[\d.]+$", "", program)):
                apps += read(source, arguments, chdir)
            elif word.endswith(".sh") and ".." not in word and depth < MAX_DEPTH:
                # In an image, the script may be in another folder.
                path = next((path for path in (folder / word.lstrip("/"), folder / program) if path.is_file()), folder)
                for line in _text(path).replace("\\\n", " ").splitlines():
                    apps += _command(folder, f"{source}, {program}", line, depth + 1)
            if apps:
                yield from apps
                return


def _gunicorn(source: str, arguments: list[str], chdir: str) -> Iterator[Evidence]:
    """Yield the app in the arguments of gunicorn or waitress-serve."""
    # gunicorn serves ASGI apps with uvicorn's workers.
    yield from _server(source, arguments, chdir, any("uvicorn" in word for word in arguments))


def _asgi_server(source: str, arguments: list[str], chdir: str) -> Iterator[Evidence]:
    """Yield the app in the arguments of uvicorn, hypercorn or daphne."""
    yield from _server(source, arguments, chdir, True)


def _server(source: str, arguments: list[str], chdir: str, asgi: bool) -> Iterator[Evidence]:
    """Yield the app in the arguments of a server."""
    pending = list(arguments)
    is_call = not {"--call", "--factory"}.isdisjoint(pending)
    while pending:
        word = pending.pop(0)
        if word in ("&&", "||", ";", "|", "&"):
            return
        if word.startswith(("--chdir", "--app-dir")):
            chdir = word.partition("=")[2] or (pending.pop(0) if pending else "")
        elif word.startswith("-"):
            has_own_value = "=" in word or word in FLAGS or (len(word) > 2 and not word.startswith("--"))
            if not has_own_value and pending:
                pending.pop(0)
        elif match := APP.fullmatch(word):
            expression = (match[2] or "") + "()" * (is_call and bool(match[2]))
            yield Evidence(source, match[1], expression, chdir, asgi=asgi)
            return


def _fastapi(source: str, arguments: list[str], chdir: str) -> Iterator[Evidence]:
    """Yield the app in the arguments of `fastapi run`: a file, or the usual files."""
    if arguments[:1] in (["run"], ["dev"]):
        name = next((value for option, value in pairwise(arguments) if option == "--app"), "")
        files = [word for word in arguments if word.endswith(".py")] or FASTAPI_FILES
        for file in files:
            yield Evidence(source, _module(file), name, chdir, is_script=True, asgi=True)


def _uwsgi(source: str, arguments: list[str], chdir: str) -> Iterator[Evidence]:
    options = {
        word.lstrip("-").partition("=")[0]: word.partition("=")[2] or following
        for word, following in zip(arguments, [*arguments[1:], ""], strict=True)
        if word.startswith("-")
    }
    yield from _uwsgi_options(source, options, chdir)


def _uwsgi_options(source: str, options: dict[str, str], chdir: str) -> Iterator[Evidence]:
    """Yield the app that uWSGI's options name."""
    folder = re.sub(r"^(%d|/\w+/?(?=$|%))", "", options.get("chdir", chdir))
    for name in sorted(UWSGI_OPTIONS & options.keys()):
        value = options[name].rpartition("=")[2].strip()
        expression = options.get("callable", "")
        if value.endswith(".py"):
            value = _module(value)
        if match := APP.fullmatch(value):
            yield Evidence(source, match[1], match[2] or expression, folder)


def _flask(source: str, arguments: list[str], chdir: str) -> Iterator[Evidence]:
    for option, value in pairwise(arguments):
        if option in ("--app", "-A"):
            yield from _flask_app(source, value, chdir)


def _flask_app(source: str, value: str, chdir: str = "") -> Iterator[Evidence]:
    """Yield the app in the value of FLASK_APP: a module or a file, and perhaps an expression."""
    name, _, expression = value.strip("\"' ").partition(":")
    module = _module(name)
    if APP.fullmatch(module):
        yield Evidence(source, module, expression, chdir, is_script=not expression)


def _python(source: str, arguments: list[str], chdir: str) -> Iterator[Evidence]:
    match arguments:
        case ["-u" | "-O", *others]:
            yield from _python(source, others, chdir)
        case ["-m", "flask", *others]:
            yield from _flask(source, others, chdir)
        case ["-m", "gunicorn" | "waitress", *others]:
            yield from _gunicorn(source, others, chdir)
        case ["-m", "uvicorn" | "hypercorn" | "daphne", *others]:
            yield from _asgi_server(source, others, chdir)
        case ["-m", "fastapi", *others]:
            yield from _fastapi(source, others, chdir)
        case [file, *_] if file.endswith(".py") and PurePosixPath(file).name != "manage.py":
            yield Evidence(source, _module(file), "", chdir, is_script=True)


def _module(path: str) -> str:
    """Return the dotted name of a file, or of a module."""
    inner_path = re.sub(r"^(\./|/(app|code|src|srv|usr/src/app)/)", "", path).removesuffix(".py")
    return inner_path.strip("/").replace("/", ".")


PROGRAMS: dict[str, Callable[[str, list[str], str], Iterator[Evidence]]] = {
    "gunicorn": _gunicorn, "waitress-serve": _gunicorn, "uwsgi": _uwsgi, "flask": _flask, "python": _python,
    "uvicorn": _asgi_server, "hypercorn": _asgi_server, "daphne": _asgi_server, "fastapi": _fastapi,
}  # fmt: skip


def _procfile(folder: Path, name: str, text: str) -> Iterator[Evidence]:
    yield from _command(folder, name, procfile.parse(text).web)


def _dockerfile(folder: Path, name: str, text: str) -> Iterator[Evidence]:
    """Yield the app of the last CMD or ENTRYPOINT, and that of FLASK_APP."""
    lines = text.replace("\\\n", " ").splitlines()
    instructions = dict(re.findall(r"^[ \t]*(CMD|ENTRYPOINT)\s+(.+)$", "\n".join(lines), re.M))
    entrypoint, command = (_words(instructions.get(name, "")) for name in ("ENTRYPOINT", "CMD"))
    yield from _command(folder, name, " ".join([*entrypoint, *command]))
    for match in re.finditer(r"\bFLASK_APP[= ]+(\S+)", "\n".join(lines)):
        yield from _flask_app(f"{name}: FLASK_APP", match[1])


def _words(command: str) -> list[str]:
    """Return the words of a CMD or an ENTRYPOINT, quoted for a shell. Not only a JSON list is valid."""
    with suppress(ValueError):
        words = foreign_text.from_json(command)
        if isinstance(words, list):
            return [shlex.quote(str(word)) for word in words]
    return [command]


def _yaml(folder: Path, name: str, text: str) -> Iterator[Evidence]:
    """Yield the apps of the commands in Render's and App Engine's files."""
    with suppress(yaml.YAMLError, RecursionError):
        for key, value in _pairs(yaml.load(text, foreign_text.YamlLoader)):
            if key in ("startCommand", "entrypoint", "dockerCommand", "run_command"):
                yield from _command(folder, f"{name}: {key}", value)


def _toml(folder: Path, name: str, text: str) -> Iterator[Evidence]:
    """Yield the apps of the commands in Fly's and Railway's files."""
    with suppress(ValueError):
        for key, value in _pairs(foreign_text.from_toml(text)):
            if key in ("startCommand", "app", "web", "cmd"):
                yield from _command(folder, f"{name}: {key}", value)


def _json(_folder: Path, name: str, text: str) -> Iterator[Evidence]:
    """Yield the app of FLASK_APP in Heroku's file."""
    with suppress(ValueError):
        match foreign_text.from_json(text):
            case {"env": {"FLASK_APP": {"value": str(value)} | str(value)}}:
                yield from _flask_app(f"{name}: FLASK_APP", value)


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the texts in nested mappings and lists, with their keys."""
    if isinstance(value, dict):
        for key, child in value.items():
            if isinstance(child, str):
                yield str(key), child
            else:
                yield from _pairs(child)
    elif isinstance(value, list):
        for child in value:
            yield from _pairs(child)


def _gunicorn_settings(_folder: Path, name: str, text: str) -> Iterator[Evidence]:
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        for node in ast.parse(text).body:
            match node:
                case ast.Assign(targets=[ast.Name(id="wsgi_app")], value=ast.Constant(value=str(value))):
                    if match := APP.fullmatch(value):
                        yield Evidence(f"{name}: wsgi_app", match[1], match[2] or "")


def _ini(_folder: Path, name: str, text: str) -> Iterator[Evidence]:
    pairs = re.findall(r"^[ \t]*([\w-]+)[ \t]*=(.+)$", text, re.M)
    options = {name: value.strip() for name, value in pairs if value.strip()}
    yield from _uwsgi_options(name, options, "")


def _environment(_folder: Path, name: str, text: str) -> Iterator[Evidence]:
    for match in re.finditer(r"^[ \t]*(?:export\s+)?FLASK_APP\s*=\s*(\S+)", text, re.M):
        yield from _flask_app(f"{name}: FLASK_APP", match[1])


def _pyproject(_folder: Path, name: str, text: str) -> Iterator[Evidence]:
    """Yield the app that FastAPI's command serves."""
    with suppress(ValueError, AttributeError):
        entrypoint = foreign_text.from_toml(text).get("tool", {}).get("fastapi", {}).get("entrypoint", "")
        if match := APP.fullmatch(str(entrypoint)):
            yield Evidence(f"{name}: [tool.fastapi]", match[1], match[2] or "", asgi=True)


SOURCES: dict[str, Callable[[Path, str, str], Iterator[Evidence]]] = {
    procfile.NAME: _procfile, "render.yaml": _yaml, "app.yaml": _yaml, "app.yml": _yaml, ".do/app.yaml": _yaml,
    "fly.toml": _toml, "railway.toml": _toml, "gunicorn.conf.py": _gunicorn_settings, "uwsgi.ini": _ini,
    "Dockerfile": _dockerfile, ".flaskenv": _environment, "app.json": _json, "pyproject.toml": _pyproject,
}  # fmt: skip
