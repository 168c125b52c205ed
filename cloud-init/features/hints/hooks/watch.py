"""Print a hint when the app writes to a read-only path. Part of releases that are baked or pushed; wsgi.py runs it."""

import os
import sys
from pathlib import Path

#: Audit events (Python's own list of them) that change files, by the places of their paths.
CHANGES = {"os.mkdir": (0,), "os.remove": (0,), "os.rename": (0, 1), "os.rmdir": (0,), "sqlite3.connect": (0,)}
#: Where an app may write, and where programs do without meaning to keep anything.
OPEN = ("/var/lib/app/", "/var/cache/app/", "/tmp/", "/var/tmp/", "/dev/", "/proc/", "/run/")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Watch:
    """Names the folder, once, when the app writes where it may not: the app's own error seldom does."""

    def __init__(self, source: Path) -> None:
        """`source` is the app's folder."""
        self.source = os.path.realpath(source) + os.sep
        self.told: set[str] = set()

    def __call__(self, event: str, values: tuple) -> None:
        """Python's audit hook: sees files before they are opened."""
        places = CHANGES.get(event, ())
        if event == "open" and isinstance(values[2], int) and values[2] & WRITING:
            places = (0,)
        for place in places:
            # SQLite's databases in memory have names of their own: ":memory:", "file:…".
            if isinstance(values[place], str | bytes | os.PathLike):
                path = os.fsdecode(values[place])
                real = os.path.realpath(path)
                if not path.startswith((":", "file:")) and not real.startswith(OPEN) and "__pycache__" not in real:
                    self.tell(real)

    def tell(self, path: str) -> None:
        """Tell about a path that the app's sandbox keeps closed."""
        name = path.removeprefix(self.source)
        folder = str(Path(name).parent) if os.sep in name.strip(os.sep) else name
        if folder in self.told:
            return
        self.told.add(folder)
        why = "only /var/lib/app is writable. Change the app's setting."
        if path != name:
            why = f"the app's folder is read-only. To keep it, write into bake.yaml:  writable: [{folder}]"
        print(f"<4>app: {name} cannot be written: {why}", file=sys.stderr, flush=True)


# While an image is made, the app first runs on a copy that it owns.
if __name__.startswith("uwsgi_file") and not os.access(".", os.W_OK):
    sys.addaudithook(Watch(Path.cwd()))
