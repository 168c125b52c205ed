"""Run the author's server during a bake, and record its answers.

The record, AUTHOR, is part of the image. The proof and `bake check` compare the machine's answers with it.
"""

import http.client
import ipaddress
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from step import command, say, write

#: {"release": digest, "command": the author's command, "seconds": duration, "records": [a crawl, a crawl of the same
#: pages], "log": the end of the server's log if it did not answer}.
AUTHOR = Path("/var/lib/app-author.json")
UNIT = "app-job@author.service"
PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
#: Placeholder values for the environment during a bake.
STAND_INS = Path("/run/app-check/env")
#: Seconds for the server to start, for one answer, for each of two crawls, and for the server to stop: less than 180 s
#: in total.
PATIENCE, ANSWER, SECONDS, MERCY = 60, 10, 30, 5
#: The state of a unit that has ended.
ENDED = ("failed", "inactive")
#: The shortest values, in characters, that are removed from the log, and from the record if they look like a key.
SHORTEST, KEY = 4, 16
#: Replaces such a key. bake/verify/rules.py treats it like any other token.
TOKEN = "0" * 8
#: Default ports of frameworks. They are tried before other open ports.
USUAL = (5000, 8000, 8080, 6543)
LISTENING = "0A"


def ask(release: Path, recipe: dict) -> bool:
    """Run the author's server, and write AUTHOR; return whether it answered."""
    check = recipe.get("check") or {}
    if check.get("author", "off") == "off":
        return False
    begin = time.monotonic()
    command("systemctl", "start", "--no-block", UNIT)
    records: list[dict] = []
    log = ""
    try:
        place = _await()
        crawled = _crawls(release, check, place, recipe.get("domains") or []) if place else []
        if any(answer.get("status") for record in crawled for answer in record["answers"]):
            records = crawled
        else:
            log = command("journalctl", "--namespace=*", "-b", "-o", "cat", "-n", "100", "-u", UNIT)
    finally:
        _end()
    values = stand_ins()
    records = [concealed(record, values) for record in records]
    facts = {
        "release": release.name, "command": check["author"], "seconds": round(time.monotonic() - begin, 1),
        "records": records, "log": redacted(log, values),
    }  # fmt: skip
    write(AUTHOR, json.dumps(facts) + "\n")
    count = sum(len(record["answers"]) for record in records)
    say(f"recorded {count} responses of the author's server")
    return bool(records)


def _await() -> tuple[str, int] | None:
    """Return the address and port at which the server answers; None if it ended, or does not answer in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for place in listening(_group()):
            # The program may have other sockets, which accept connections but do not answer.
            if status(place, "", min(ANSWER, deadline - time.monotonic())):
                return place
        if _state() in ENDED:
            return None
        time.sleep(0.3)
    return None


def _end() -> None:
    """Stop the server, which may ignore the request to end."""
    command("systemctl", "stop", "--no-block", UNIT)
    deadline = time.monotonic() + MERCY
    while _state() not in ENDED:
        if time.monotonic() > deadline:
            subprocess.run(["systemctl", "kill", "--signal=KILL", UNIT], check=False)
            break
        time.sleep(0.2)
    command("systemctl", "stop", UNIT)


def _state() -> str:
    return subprocess.run(["systemctl", "is-active", UNIT], capture_output=True, text=True).stdout.strip()


def _group() -> str:
    return command("systemctl", "show", "--value", "-p", "ControlGroup", UNIT).strip().lstrip("/")


def status(place: tuple[str, int], host: str, seconds: float) -> int:
    """Return the status of the front page; 0 if there is no HTTP response."""
    connection = http.client.HTTPConnection(*place, timeout=max(seconds, 1))
    try:
        connection.request("GET", "/", headers={"Host": host} if host else {})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def listening(group: str) -> list[tuple[str, int]]:
    """Return the TCP addresses and ports at which the processes of a control group listen, the usual ports first."""
    inodes = set(_sockets(group))
    places = set()
    for table in ("tcp", "tcp6"):
        # proc_net_tcp in the kernel's documentation: local address, state and inode are fields 1, 3 and 9.
        for line in (PROC / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                places.add((_address(address), int(port, 16)))
    return sorted(places, key=lambda place: (place[1] not in USUAL, place[1], place[0]))


def _address(text: str) -> str:
    """Return the address in a table of the kernel: words of 4 bytes in the machine's order.

    For the unspecified address, return the loopback address.
    """
    words = [bytes.fromhex(text[begin : begin + 8]) for begin in range(0, len(text), 8)]
    data = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    address = ipaddress.ip_address(data)
    return str(address) if int(address) else {4: "127.0.0.1", 6: "::1"}[address.version]


def _sockets(group: str) -> Iterator[str]:
    """Yield the inodes of the sockets that a control group's processes have open."""
    try:
        pids = (GROUPS / group / "cgroup.procs").read_text().split()
    except OSError:
        return
    for pid in pids:
        for descriptor in (PROC / pid / "fd").glob("*"):
            try:
                match = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
            except OSError:
                continue
            if match:
                yield match[1]


def _crawls(release: Path, check: dict, place: tuple[str, int], domains: list[str]) -> list[dict]:
    """Return two crawls of the server. Their differences are not faults, but vary from request to request."""
    # Some frameworks answer only to certain host names.
    hosts = ["", *(name for name in domains[:1] if not name.startswith("*"))]
    host = next((name for name in hosts if status(place, name, ANSWER) not in (0, 400)), "") or "localhost"
    where = {"url": f"http://{host}:{place[1]}", "connect": place, "seconds": SECONDS}
    first = crawl(release, {**where, **pages(check)})
    paths = list(dict.fromkeys(answer["path"] for answer in first["answers"] if answer.get("method") == "GET"))
    return [first, crawl(release, {**where, "paths": paths})]


def pages(check: dict) -> dict:
    """Return the first pages of a crawl, as `seeds`. If the recipe turns crawling off, they are also all `paths`."""
    named = [page if isinstance(page, str) else page["path"] for page in check.get("pages") or []]
    seeds = list(dict.fromkeys(["/", *([check["health"]] if check.get("health") else []), *named]))
    return {"seeds": seeds, "paths": None if check.get("crawl", True) else seeds}


def crawl(release: Path, argument: dict) -> dict:
    """Run the crawler as a user that owns nothing."""
    nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    program = release / "settings/crawl.py"
    (record,) = json.loads(command(*nobody, "python3", program, json.dumps([argument]), patience=2 * SECONDS))
    return record


def stand_ins() -> dict[str, str]:
    """Return the values in STAND_INS by their names."""
    text = STAND_INS.read_text() if STAND_INS.exists() else ""
    pairs = re.findall(r'^(\w+)="((?:\\.|[^"\\])*)"$', text, re.M | re.S)
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.S) for name, value in pairs}


def concealed(record: dict, values: dict[str, str]) -> dict:
    """Return a record without the keys among `values`, because an image must not contain them.

    They can be in a page's title, in its links, or in a redirect to a login service.
    """
    keys = {value for value in values.values() if len(value) >= KEY and re.search(r"\d", value)}
    forms = {form for key in keys for form in (key, quote(key), quote(key, ""))}
    if not forms:
        return record
    pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))

    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {name: clean(each) for name, each in value.items()}
        if isinstance(value, list):
            return [clean(each) for each in value]
        return pattern.sub(TOKEN, value) if isinstance(value, str) else value

    return {**record, "answers": clean(record["answers"])}


def redacted(log: str, values: dict[str, str]) -> str:
    """Return a log in which `[NAME]` replaces each value, each line of a value, and the password in a URL."""
    names: dict[str, str] = {}
    for name, value in values.items():
        passwords = re.findall(r"://[^:/@\s]{0,100}:([^@/\s]{1,200})@", value)
        for part in (value, repr(value)[1:-1], *value.splitlines(), *passwords):
            if len(part.strip()) >= SHORTEST:
                names.setdefault(part.strip(), name)
    if not names:
        return log
    pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(pattern, lambda match: f"[{names[match[0]]}]", log)
