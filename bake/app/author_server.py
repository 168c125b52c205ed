"""Propose the command by which an app's author runs it. The proof compares the machine's pages with that server's."""

from __future__ import annotations

import re
import shlex

from bake.app.entry import Entry
from bake.app.name_resolution import App, Reader
from bake.config import contract

#: Serves any WSGI app with Python's standard library: cloud-init/features/author-server/plain.py. -P keeps its folder
#: out of sys.path, because the modules there are not the app's.
PLAIN = f"python -P {contract.CURRENT}/settings/plain.py"
#: Files that usually start an app that another module creates.
STARTERS = ("run.py", "app.py", "main.py", "server.py", "serve.py", "application.py", "wsgi.py")


def command(reader: Reader, app: App | None, entry: Entry) -> str:
    """Return a shell command. If its first part fails, the shell runs the next one.

    It runs in the app's folder, with the machine's environment, which sets FLASK_APP.
    """
    if entry.run:
        return run_command(entry.target)
    if not _is_flask(app) and any(module.settings for module in reader.modules.values()):
        manage = "manage.py" if (reader.folder / "manage.py").is_file() else "-m django"
        return f"python {manage} runserver --noreload 127.0.0.1:8000"
    commands = [f"python {shlex.quote(path)}" for path in _programs(reader, app)[:1]]
    if entry.asgi:
        commands += [uvicorn] if (uvicorn := asgi_command(entry.target)) else []
        return " || ".join(commands) or "off"
    if entry.target.endswith(".ini"):
        commands.append(f"pserve {shlex.quote(entry.target)}")
    commands.append("flask run" if _is_flask(app) else PLAIN)
    return " || ".join(commands)


def run_command(command: str) -> str:
    """Return the command of a program that serves by itself. It runs without the machine's launcher."""
    return f"export PORT=8000; {command}"


def asgi_command(target: str) -> str:
    """Return the command that serves an ASGI app with uvicorn, or "" if its command line cannot name the app."""
    match = re.fullmatch(r"([\w.]+:\w+(?:\.\w+)*)(\(\))?", target)
    return f"python -m uvicorn{' --factory' if match[2] else ''} {match[1]}" if match else ""


def _programs(reader: Reader, app: App | None) -> list[str]:
    """Return the files that serve the app when Python runs them, the most likely one first."""
    app_modules = [app.module, app.root.module] if app else []
    starter_modules = [module for name in STARTERS for module in reader.modules.values() if str(module.path) == name]
    return list(dict.fromkeys(str(module.path) for module in (*app_modules, *starter_modules) if module.serves))


def _is_flask(app: App | None) -> bool:
    """Return whether the command `flask` can load the app."""
    return app is not None and "flask" in app.root.module.imported_packages and not app.inner
