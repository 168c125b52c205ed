"""Compare static files with the answers of nginx; print the differences as a JSON list.

It runs on the machine, `python3 -c PROGRAM ARGUMENT`, so that no file content leaves the machine. The argument is JSON:
{"name": the site's name, "port": the port of HTTPS, "data": [folder that the app writes to], "folders": {URL prefix:
folder}}.
"""

import http.client
import json
import os
import re
import socket
import ssl
import sys
from pathlib import Path
from urllib.parse import quote

#: Files compared in a folder, and entries of the folder that are read to choose them.
SAMPLE, ENTRIES = 60, 20_000
#: Bytes compared in all. The beginning of each file is compared even when the files before it used them up.
BYTES, BEGINNING = 96 << 20, 64 << 10
CHUNK = 256 << 10
#: Seconds for nginx to send the next bytes.
TIMEOUT = 60
#: The header that nginx sends with static files (`expires 1h`); the servers of apps send other values.
CACHE_CONTROL = "max-age=3600"


class Connection(http.client.HTTPSConnection):
    """An HTTPS connection to this machine, without DNS, that accepts any certificate."""

    def __init__(self, name, port):
        # Without a context, http.client loads all certificate authorities of Debian.
        self.any_certificate = ssl._create_unverified_context()
        super().__init__(name, port, timeout=TIMEOUT, context=self.any_certificate)

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.sock = self.any_certificate.wrap_socket(plain, server_hostname=self.host)


def walk(folder, data):
    """Yield (path below the folder, size, whether a link leads to it) for each file, except the app's own data.

    The app may change its data at any time. Its folders are links inside the release.
    """
    pending: list[tuple[Path, bool, tuple[Path, ...]]] = [(folder, False, ())]
    entries = 0
    while pending:
        current, linked, above = pending.pop()
        for path in sorted(current.iterdir()):
            if (entries := entries + 1) > ENTRIES:
                return
            real = Path(os.path.realpath(path))
            if not real.exists() or any(map(real.is_relative_to, data)):
                continue
            by_link = linked or path.is_symlink()
            # A link may lead back to a folder above it.
            if real.is_dir() and real not in above:
                pending.append((path, by_link, (*above, real)))
            elif real.is_file():
                yield path.relative_to(folder), real.stat().st_size, by_link


def kinds(path, size, linked):
    """Return the properties that can break serving a file: special characters, its suffix, no content, a link."""
    name = os.fsencode(path)
    properties = {character for character in re.findall(rb"[^\w/.~-]", name) if character.isascii()}
    properties |= {part[0] for part in path.parts if part[0] in "-."}
    if not name.isascii():
        try:
            name.decode()
            properties.add("UTF-8")
        except UnicodeDecodeError:
            properties.add("another encoding")
    return properties | {path.suffix.lower(), "empty" if size == 0 else "", "linked" if linked else ""}


def sample(folder, data, ignored):
    """Return (path, size) of the largest file, of the one with the longest name, one of each kind, and of others."""
    chosen: dict[str, tuple[Path, int]] = {}
    others: list[tuple[Path, int]] = []
    largest = longest = None
    for path, size, linked in walk(folder, data):
        if any(path.is_relative_to(other) for other in ignored):
            continue
        largest = max(largest or (path, size), (path, size), key=lambda file: file[1])
        longest = max(longest or (path, size), (path, size), key=lambda file: len(str(file[0])))
        for kind in kinds(path, size, linked):
            chosen.setdefault(kind, (path, size))
        if len(others) < SAMPLE:
            others.append((path, size))
    return list(dict.fromkeys([largest, longest, *chosen.values(), *others]))[:SAMPLE] if others else []


def difference(connection, url, file, size, limit):
    """Return the difference between the answer for a URL and its file; None if status, header, length and bytes match.

    Compare at most `limit` bytes.
    """
    connection.request("GET", url)
    answer = connection.getresponse()
    if answer.status != 200:
        return f"status {answer.status}"
    if answer.getheader("Cache-Control") != CACHE_CONTROL:
        return f"not answered by nginx itself: Cache-Control is {answer.getheader('Cache-Control')}"
    if answer.getheader("Content-Length") != str(size):
        return f"Content-Length is {answer.getheader('Content-Length')}, the file has {size} bytes"
    with file.open("rb") as stream:
        for begin in range(0, min(size, limit), CHUNK):
            served, expected = answer.read(min(CHUNK, size - begin)), stream.read(CHUNK)
            if served != expected:
                return f"other bytes between {begin} and {begin + len(expected)}"
    if size <= limit:
        # http.client needs to read the end of an answer, even of an empty one, before the next request.
        answer.read(1)
    return None


def main(name, port, data, folders):
    """Return the differences, a line each."""
    connection = Connection(name, port)
    budget, differences = BYTES, []
    for prefix, folder in folders.items():
        root = Path(folder)
        # A longer prefix below this one has its own folder.
        ignored = [other[len(prefix) + 1 :] for other in folders if other.startswith(f"{prefix}/")]
        for path, size in sample(root, data, ignored) if root.is_dir() else []:
            limit = max(BEGINNING, budget)
            url = f"{prefix}/{quote(os.fsencode(path))}"
            try:
                problem = difference(connection, url, root / path, size, limit)
            except (OSError, http.client.HTTPException) as error:
                problem = f"no answer: {error!r}"
            if problem:
                differences.append(f"{url}: {problem}")
            if problem or size > limit:
                connection.close()
            budget -= min(size, limit)
    return differences


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
