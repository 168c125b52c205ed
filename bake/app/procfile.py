"""Read an app's Procfile: the web server, the commands of `release`, and the programs that run beside the site."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bake.app import command_line, project_metadata
from bake.config import contract
from bake.errors import RequirementError
from bake.host import foreign_text

NAME = "Procfile"
MAX_CHARACTERS = 2**16
LINE = re.compile(r"^(?P<name>[\w-]+) *: *(?P<command>[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*)$", re.MULTILINE)
#: Launchers of tools that a release does not have: its virtualenv is already on the PATH.
LAUNCHER = re.compile(r"\b(?:poetry|pipenv|pdm|uv|rye|hatch) run (?=\S)")
#: Programs of workers, schedulers and jobs in Python. A release may also have commands and scripts of its own.
PROGRAMS = {
    "celery", "rq", "rqworker", "rqscheduler", "huey_consumer", "huey_consumer.py", "dramatiq", "django-admin", "flask",
    "arq", "taskiq", "procrastinate", "python", "python3", "sh", "bash",
}  # fmt: skip
#: Programs that serve an app by themselves, and those that serve the app that their arguments name.
OWN_SERVERS = {"python", "streamlit", "panel", "bokeh", "sanic", "datasette", "chainlit", "solara", "voila", "marimo"}
APP_SERVERS = {"gunicorn", "uwsgi", "waitress-serve", "uvicorn", "hypercorn", "daphne"}
#: Lines of a Procfile that are for a person, or run once.
OTHER_NAMES = {"console", "shell", "postdeploy", "test", "tests", "dev", "debug"}
#: Words in the command of another web server.
SERVES = re.compile(r"\$\{?PORT\b|\brunserver\b|\bflask run\b|\bhttp\.server\b")
#: Celery's scheduler without a place for its file, which it writes into the app's folder.
BEAT = re.compile(r"\bcelery\b(?!.* (?:-s|--schedule)\b).* (?:beat|-B|--beat)\b")


@dataclass(frozen=True)
class Procfile:
    """The lines of a Procfile: `web` and `release` ("" without them), and the other commands by name."""

    web: str = ""
    release: str = ""
    others: Mapping[str, str] = field(default_factory=dict)


def read(folder: Path) -> Procfile:
    """Return the Procfile in a folder. It is empty if there is none."""
    with suppress(OSError):
        return parse(foreign_text.read(folder / NAME, "replace")[:MAX_CHARACTERS])
    return Procfile()


def parse(text: str) -> Procfile:
    """Return the lines of a Procfile. The last line of a name counts."""
    lines = {
        match["name"]: LAUNCHER.sub("", match["command"].rstrip(" "))
        for match in LINE.finditer(text.replace("\t", " "))
    }
    return Procfile(lines.pop("web", ""), lines.pop("release", ""), lines)


def release(folder: Path, notes: list[str]) -> tuple[str, ...]:
    """Return the commands of `release` in a Procfile, and note why bake does not take one."""
    command = read(folder).release
    if not command or (reason := _refusal(folder, "release", command)):
        notes += [_refusal_note("release", command, reason)] if command else []
        return ()
    return (command,)


def own_server(folder: Path) -> str:
    """Return the command of `web` if it starts a Python program that is a server itself, or ""."""
    command = read(folder).web
    words = command_line.split(command)
    program = re.sub(r"[\d.]+$", "", command_line.program(words))
    return command if program in OWN_SERVERS and "&" not in words else ""


def processes(folder: Path, notes: list[str]) -> dict[str, str]:
    """Return the processes in a Procfile that a machine can run, and note why bake does not take others."""
    commands: dict[str, str] = {}
    for line_name, command in read(folder).others.items():
        name = re.sub("[^a-z0-9]+", "-", line_name.lower()).strip("-")[:63].strip("-")
        if reason := _refusal(folder, line_name, command) or ("" if name else "its name has no letter"):
            notes.append(_refusal_note(line_name, command, reason))
        else:
            schedule = f" -s {contract.DATA}/celerybeat-schedule" if BEAT.search(command) else ""
            commands[name] = command + schedule
    return commands


def _refusal_note(name: str, command: str, reason: str) -> str:
    return f"not taken from the {NAME}: `{name}: {command}` ({reason})"


def _refusal(folder: Path, name: str, command: str) -> str:
    """Return why a line of a Procfile is no process of the app, or ""."""
    if name.lower() in OTHER_NAMES:
        return "it does not run beside the site; if it does, write it under `processes`"
    if SERVES.search(command):
        return "another web server"
    words = command_line.split(command)
    program = command_line.program(words)
    if re.sub(r"[\d.]+$", "", program) in PROGRAMS or program in PROGRAMS | _own_commands(folder):
        return ""
    if "/" in program and (folder / program).is_file() and ".." not in PurePosixPath(program).parts:
        return ""
    return f"`{program}` may not be on the machine; if it is, write it under `processes`"


def unused_options(folder: Path, target: str) -> str:
    """Return the words of the Procfile's web line, without the server's name and the app that bake takes."""
    app = re.sub(r"\(.*", "", target)
    words = command_line.split(read(folder).web)
    if not words or words[0] not in APP_SERVERS:
        return ""
    return " ".join(word for word in words[1:] if re.sub(r"\(.*", "", word) not in (app, app.partition(":")[0]))


def _own_commands(folder: Path) -> set[str]:
    """Return the commands that the project defines."""
    with suppress(RequirementError):
        if project := project_metadata.find(folder):
            return set(project.entry_points.get("console_scripts", {}))
    return set()
