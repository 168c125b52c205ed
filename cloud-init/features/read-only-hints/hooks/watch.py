"""Print a hint when the app writes to a read-only path. It is part of bundles; wsgi.py runs it."""

import os
import sys
from pathlib import Path

#: Python's audit events that change files, with the positions of their path arguments.
CHANGES = {"os.mkdir": (0,), "os.remove": (0,), "os.rename": (0, 1), "os.rmdir": (0,), "sqlite3.connect": (0,)}
#: Folders that the app may write to, and folders for temporary files.
OPEN = ("/var/lib/app/", "/var/cache/app/", "/tmp/", "/var/tmp/", "/dev/", "/proc/", "/run/")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Watch:
    """Print each read-only folder that the app writes to, once. The app's own error seldom contains the path."""

    def __init__(self, source: Path) -> None:
        """Watch an app whose folder is `source`."""
        self.source = os.path.realpath(source) + os.sep
        self.hinted: set[str] = set()

    def __call__(self, event: str, values: tuple) -> None:
        """Handle an event as Python's audit hook, which runs before the file is opened."""
        places = CHANGES.get(event, ())
        if event == "open" and isinstance(values[2], int) and values[2] & WRITING:
            places = (0,)
        for place in places:
            # SQLite's databases in memory have names like ":memory:" or "file:…".
            if isinstance(values[place], str | bytes | os.PathLike):
                path = os.fsdecode(values[place])
                real = os.path.realpath(path)
                if not path.startswith((":", "file:")) and not real.startswith(OPEN) and "__pycache__" not in real:
                    self.tell(real)

    def tell(self, path: str) -> None:
        """Print a hint about a path that is read-only in the app's sandbox."""
        name = path.removeprefix(self.source)
        folder = str(Path(name).parent) if os.sep in name.strip(os.sep) else name
        if folder in self.hinted:
            return
        self.hinted.add(folder)
        why = "only /var/lib/app is writable. Change the app's setting."
        if path != name:
            why = f"the app's folder is read-only. To keep it, write into bake.yaml:  writable: [{folder}]"
        print(f"<4>app: {name} cannot be written: {why}", file=sys.stderr, flush=True)


# During a bake, the app first runs on a writable copy, and needs no hints.
if __name__.startswith("uwsgi_file") and not os.access(".", os.W_OK):
    sys.addaudithook(Watch(Path.cwd()))
