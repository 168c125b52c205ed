"""Made-up advisories, and a server that answers for OSV and for Debian's security tracker."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

#: Advisories for wheels, as OSV has them: jinja2 is fixed in 2.11.3; no version of shop-forms is.
WHEELS: dict[str, dict[str, Any]] = {
    "PYSEC-2026-1": {
        "aliases": ["CVE-2026-1001"],
        "affected": [{
            "package": {"ecosystem": "PyPI", "name": "jinja2"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.11.3"}]}],
        }],
    },
    "GHSA-shop-form-0001": {
        "affected": [{
            "package": {"ecosystem": "PyPI", "name": "shop-forms"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
        }],
    },
}  # fmt: skip


def trixie(**values: str) -> dict[str, Any]:
    return {"releases": {"trixie": values}}


#: The tracker's data, with what a source package may have.
DEBIAN = {
    "nginx": {
        "CVE-2026-2001": trixie(status="resolved", fixed_version="1.26.3-3+deb13u2", urgency="high"),
        "CVE-2026-2002": trixie(status="resolved", fixed_version="1.26.3-3+deb13u1", urgency="high"),
        "CVE-2026-2003": trixie(status="open", urgency="low"),
        "CVE-2026-2004": trixie(status="open", urgency="unimportant"),
        "CVE-2026-2005": trixie(status="resolved", fixed_version="0", urgency="unimportant"),
        "CVE-2026-2006": {"releases": {"bookworm": {"status": "open"}}},
    },
    "linux": {"CVE-2026-3001": trixie(status="resolved", fixed_version="6.12.50-1")},
    "elsewhere": {"CVE-2026-4001": trixie(status="open")},
}  # fmt: skip


@dataclass
class Advisories:
    """A server at `address`. Its data may be replaced by others, and `asked` has the paths of requests."""

    address: str = ""
    debian: object = field(default_factory=lambda: DEBIAN)
    asked: list[str] = field(default_factory=list)

    @property
    def tracker(self) -> str:
        return f"{self.address}/tracker"


class Handler(http.server.BaseHTTPRequestHandler):
    advisories: Advisories

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        names = [
            query["package"]["name"]
            for query in json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        ]
        self.send([{"vulns": [self.stub(id) for id in WHEELS if self.concerns(id, name)]} for name in names])

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.send(self.advisories.debian if name == "tracker" else {**self.stub(name), **WHEELS[name]})

    def stub(self, name: str) -> dict[str, str]:
        return {"id": name, "modified": "2026-01-01T00:00:00Z"}

    def concerns(self, id: str, name: str) -> bool:
        return any(entry["package"]["name"] == name for entry in WHEELS[id]["affected"])

    def send(self, value: object) -> None:
        self.advisories.asked.append(self.path)
        content = json.dumps({"results": value} if self.path.endswith("querybatch") else value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def served() -> Iterator[Advisories]:
    """Serve the advisories on loopback."""
    made = Advisories()
    handler = type("Bound", (Handler,), {"advisories": made})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()
