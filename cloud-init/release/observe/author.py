"""Ask the app as its author runs it, while an image is made.

The record of its answers, AUTHOR, is part of the image: the proof, and `bake check` of a machine, compare with it.
"""

import http.client
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from step import command, say, write

#: {"release": digest, "command": what was run, "seconds": for how long, "records": [a crawl, the same pages again],
#: "log": why there are none}.
AUTHOR = Path("/var/lib/app-author.json")
UNIT = "app-job@author.service"
PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
#: Seconds for the server to answer, and for each of two crawls.
PATIENCE, SECONDS = 60, 30
#: Ports that frameworks choose, before others that a program may open.
USUAL = (5000, 8000, 8080, 6543)
LISTENING = "0A"


def ask(release: Path, recipe: dict) -> bool:
    """Run the author's server, and write AUTHOR; return whether it answered."""
    check = recipe.get("check") or {}
    if check.get("author", "off") == "off":
        return False
    begin = time.monotonic()
    command("systemctl", "start", "--no-block", UNIT)
    found: list[dict] = []
    log = ""
    try:
        place = _await()
        if place:
            found = _crawls(release, check, place, recipe.get("domains") or [])
        else:
            log = command("journalctl", "-b", "-o", "cat", "-n", "100", "-u", UNIT)
    finally:
        command("systemctl", "stop", UNIT)
    seconds = round(time.monotonic() - begin, 1)
    facts = {
        "release": release.name, "command": check["author"], "records": found, "log": log, "seconds": seconds,
    }  # fmt: skip
    write(AUTHOR, json.dumps(facts) + "\n")
    count = sum(len(record["answers"]) for record in found)
    say(f"the author's server gave {count} answers")
    return bool(found)


def _await() -> tuple[str, int] | None:
    """Return the address and port at which the server answers; None where it ended, or does not in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for place in listening(_group()):
            try:
                status(place, "", deadline - time.monotonic())
                return place
            except (OSError, http.client.HTTPException):
                pass
        if subprocess.run(["systemctl", "is-active", UNIT], capture_output=True, text=True).stdout.strip() in (
            "failed",
            "inactive",
        ):
            return None
        time.sleep(0.3)
    return None


def _group() -> str:
    return command("systemctl", "show", "--value", "-p", "ControlGroup", UNIT).strip().lstrip("/")


def status(place: tuple[str, int], host: str, seconds: float) -> int:
    """Return the status of the front page."""
    connection = http.client.HTTPConnection(*place, timeout=max(seconds, 1))
    try:
        connection.request("GET", "/", headers={"Host": host} if host else {})
        return connection.getresponse().status
    finally:
        connection.close()


def listening(group: str) -> list[tuple[str, int]]:
    """Return the TCP addresses and ports at which the processes of a control group listen, the usual ports first."""
    inodes = set(_sockets(group))
    places = set()
    for table, address in (("tcp", "127.0.0.1"), ("tcp6", "::1")):
        # proc_net_tcp in the kernel's documentation: local address, state and inode are fields 1, 3 and 9.
        for line in (PROC / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                places.add((address, int(fields[1].rpartition(":")[2], 16)))
    return sorted(places, key=lambda place: (place[1] not in USUAL, place[1], place[0]))


def _sockets(group: str) -> Iterator[str]:
    """Yield the inodes of the sockets that a control group's processes have open."""
    try:
        pids = (GROUPS / group / "cgroup.procs").read_text().split()
    except OSError:
        return
    for pid in pids:
        for descriptor in (PROC / pid / "fd").glob("*"):
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
            except OSError:
                continue
            if found:
                yield found[1]


def _crawls(release: Path, check: dict, place: tuple[str, int], domains: list[str]) -> list[dict]:
    """Return two crawls of the server. What differs between them varies by itself."""
    # Some frameworks answer to named hosts alone.
    hosts = ["", *(name for name in domains[:1] if not name.startswith("*"))]
    host = next((name for name in hosts if status(place, name, PATIENCE) != 400), "") or "localhost"
    where = {"url": f"http://{host}:{place[1]}", "connect": place, "seconds": SECONDS}
    first = crawl(release, {**where, **pages(check)})
    paths = list(dict.fromkeys(answer["path"] for answer in first["answers"] if answer.get("method") == "GET"))
    return [first, crawl(release, {**where, "paths": paths})]


def pages(check: dict) -> dict:
    """Return what a crawl begins with, and, where the recipe ends it there, all that it asks for."""
    named = [page if isinstance(page, str) else page["path"] for page in check.get("pages") or []]
    seeds = list(dict.fromkeys(["/", *([check["health"]] if check.get("health") else []), *named]))
    return {"seeds": seeds, "paths": None if check.get("crawl", True) else seeds}


def crawl(release: Path, argument: dict) -> dict:
    """Run the crawler as a user that owns nothing."""
    nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    return json.loads(command(*nobody, "python3", release / "settings/crawl.py", json.dumps(argument)))
