"""Read the settings that a person or a launch writes into /etc/app.

A wrong line is left out and reported, and never takes the site down: app-configure lists the faults in
/run/app/faults, app-setup prints them on the console and into the journal, and `bake check` fails with them.
"""

import re
from pathlib import Path

#: What is right in a file: one value a line, and perhaps a comment.
LINE = r"[ \t]*(%s)[ \t\r]*(?:#.*)?(?:\n|$)"
#: RFC 1123 names, ASCII; a wildcard is for one level.
DOMAIN = re.compile(LINE % r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]", re.I)
EMAIL = re.compile(LINE % r"[^@\s]+@[^@\s]+\.[^@\s]+")
#: As systemd.exec(5) reads an EnvironmentFile, where quotes may hold several lines; but nothing follows a closing one,
#: so that a quote without its end spoils no line but its own. No bytes that are no text, and no names that the machine
#: itself gives values to.
ASSIGNMENT = re.compile(
    LINE % r"""(?!.*[\0\ufffd]|APP_(?:RELEASE|WORKERS|NEXT)\b)[A-Za-z_]\w*[ \t]*=[ \t]*"""
    r"""(?:(?:"(?:\\[\s\S]|[^"\\])*"|'[^']*')+|(?:[^\s"'\\]|\\[\s\S])(?:\\[\s\S]|[^\\\n])*|)""",
    re.A,
)


def read(root: Path, name: str, right: re.Pattern, what: str, faults: list[str]) -> list[str] | None:
    """Return what is right of a file in /etc/app, and add the faults; None where there is no file, or nothing is right.

    A fault names the line and not its text, which may be a secret.
    """
    path = root / "etc/app" / name
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as problem:
        if path.exists():
            faults.append(f"/etc/app/{name}: {problem.strerror}")
        return None
    values, wrong, at = [], [], 0
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        if found := right.match(text, at):
            values.append(found[1])
            end = found.end()
        elif text[at:end].strip()[:1] not in ("", "#", ";"):
            number = text.count("\n", 0, at) + 1
            wrong.append(f"/etc/app/{name}, line {number}: not {what}, so ignored")
        at = end
    faults += wrong
    return None if wrong and not values else values
