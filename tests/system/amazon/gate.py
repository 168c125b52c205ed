"""A gate between boto3 and moto: it forwards, writes down what was asked for, and fails as it is told.

From another process: GET /-/calls answers the calls as JSON; POST /-/faults takes a list of
{"service": …, "action": …, "nth": [1, 2], "fault": "throttle"}, where what is left out means any.
"""

import contextlib
import http.client
import http.server
import json
import re
import socket
import sys
import threading
import time
import traceback
import urllib.parse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import servers

from . import faults
from .account import Refused
from .ours import Rules

#: Of one connection only, or said anew by who writes the answer (RFC 9110, 7.6.1).
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade", "date", "server"}
SCOPE = re.compile(r"(?:Credential=|X-Amz-Credential=)[^/]+/\d{8}/([^/]+)/([^/]+)/aws4_request")
EBS = [
    ("StartSnapshot", "POST", r"/snapshots"),
    ("CompleteSnapshot", "POST", r"/snapshots/completion/(?P<SnapshotId>[^/]+)"),
    ("PutSnapshotBlock", "PUT", r"/snapshots/(?P<SnapshotId>[^/]+)/blocks/(?P<BlockIndex>[^/]+)"),
    ("GetSnapshotBlock", "GET", r"/snapshots/(?P<SnapshotId>[^/]+)/blocks/(?P<BlockIndex>[^/]+)"),
    ("ListSnapshotBlocks", "GET", r"/snapshots/(?P<SnapshotId>[^/]+)/blocks"),
    ("ListChangedBlocks", "GET", r"/snapshots/(?P<SecondSnapshotId>[^/]+)/changedblocks"),
]
#: S3's permissions, which have other names than its calls: by method, and whether a key is named.
S3 = {
    ("GET", False): "ListBucket", ("HEAD", False): "ListBucket", ("PUT", False): "CreateBucket",
    ("DELETE", False): "DeleteBucket", ("POST", False): "DeleteObject", ("GET", True): "GetObject",
    ("HEAD", True): "GetObject", ("PUT", True): "PutObject", ("POST", True): "PutObject",
    ("DELETE", True): "DeleteObject",
}  # fmt: skip
#: What a call needs a permission for besides its own, by a parameter (Service Authorization Reference).
BESIDES = {
    "ec2": [("TagSpecification", ("ec2", "CreateTags")), ("IamInstanceProfile", ("iam", "PassRole"))],
    "ssm": [("Tags", ("ssm", "AddTagsToResource"))],
}


@dataclass
class Call:
    """A request: what it is called by IAM, where, and its parameters (flat, as they were sent)."""

    service: str
    action: str
    region: str
    method: str
    path: str
    headers: http.client.HTTPMessage
    body: bytes
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[str, str]:
        return self.service, self.action


def read(method, path, headers, body):
    """A request as a Call."""
    place, _, query = path.partition("?")
    asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    scope = SCOPE.search(headers.get("Authorization") or urllib.parse.unquote(query))
    region, service = scope.groups() if scope else ("", "")
    call = Call(service, f"{method} {place}", region, method, path, headers, body, asked)
    if service == "ebs":
        for action, wanted, pattern in EBS:
            found = re.fullmatch(pattern, place)
            if found and method == wanted:
                call.action, call.params = action, asked | found.groupdict()
        if call.action == "StartSnapshot":
            call.params = json.loads(body)
    elif service == "s3":
        bucket, _, key = place.lstrip("/").partition("/")
        call.action = S3.get((method, bool(key)), call.action) if bucket else "ListAllMyBuckets"
        if method == "DELETE" and "uploadId" in asked:
            call.action = "AbortMultipartUpload"
        for part in ("tagging", "acl", "policy", "versioning", "location", "encryption", "lifecycle"):
            if part in asked:
                verb = {"PUT": "Put", "DELETE": "Delete"}.get(method, "Get")
                call.action = f"{verb}{'Object' if key else 'Bucket'}{part.capitalize()}"
    elif headers.get("X-Amz-Target"):
        call.action, call.params = headers["X-Amz-Target"].rpartition(".")[2], json.loads(body or b"{}")
    else:
        form = dict(urllib.parse.parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        if "Action" in (form | asked):
            call.params = form | asked
            call.action = call.params["Action"]
    return call


class Gate:
    """Stands at AWS_ENDPOINT_URL. A test sets `fault` and `after`, and reads `calls`."""

    def __init__(self, upstream, folder, delay=1.0):
        """In front of `upstream` (moto's address); blocks of snapshots go into `folder`. `delay` is in seconds."""
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        self.delay = delay
        #: (service, action, nth) -> None or one of faults.KINDS; `nth` counts calls of that action, from 1.
        self.fault: Callable[[str, str, int], str | None] = lambda service, action, nth: None
        self.ours = Rules(Path(folder) / "blocks", self.forward)
        self.url = ""
        self._lock = threading.Lock()
        self.clear()

    def clear(self):
        """Forget calls, faults of another process, and whom to call back."""
        self.requests: list[Call] = []
        self.orders: list[dict[str, Any]] = []
        self._counts = Counter[tuple[str, str]]()
        self._after: dict[tuple[int, bool], Callable[[], object]] = {}

    def reset(self):
        """Empty moto, what we know of its snapshots, and all the above."""
        with contextlib.closing(http.client.HTTPConnection(self.upstream)) as connection:
            connection.request("POST", "/moto-api/reset")
            assert connection.getresponse().status == 200
        self.fault = lambda service, action, nth: None
        self.ours.clear()
        self.clear()

    @property
    def calls(self):
        """(service, action) of each call, in their order."""
        return [call.pair for call in list(self.requests)]

    @property
    def needs(self):
        """The permissions that these calls need, those included that are no calls of their own."""
        besides = {
            need
            for call in list(self.requests)
            for prefix, need in BESIDES.get(call.service, ())
            # Packer names an instance profile always, an empty one.
            if any(name.startswith(prefix) and value for name, value in call.params.items())
        }
        return set(self.calls) | besides

    def asked(self, action):
        """The parameters of each call of that action."""
        return [call.params for call in list(self.requests) if call.action == action]

    def write(self, path):
        """The calls, a line each: `service:Action`."""
        Path(path).write_text("".join(f"{service}:{action}\n" for service, action in self.calls))

    def after(self, n, callback, *, sent=False):
        """Call back once the nth call of all (from 1) has been done by moto; before its answer is sent, or after."""
        self._after[n, sent] = callback

    @contextlib.contextmanager
    def open(self):
        """Stand open at `url`."""
        with servers.serve(_Server(self)) as port:
            self.url = f"http://127.0.0.1:{port}"
            yield self

    def forward(self, call, body=None, headers=None):
        """Ask moto; status, headers (pairs), body."""
        given = {name: value for name, value in call.headers.items() if name.lower() not in HOP} | (headers or {})
        body = call.body if body is None else body
        with contextlib.closing(http.client.HTTPConnection(self.upstream, timeout=120)) as connection:
            connection.request(call.method, call.path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def answer(self, call: Call):
        """What is to be sent: status, headers, body, and the number of the call; no status where nothing is sent."""
        if call.path.startswith("/moto-api"):
            return (*self.forward(call), 0)
        with self._lock:
            self.requests.append(call)
            number = len(self.requests)
            self._counts[call.pair] += 1
            nth = self._counts[call.pair]
            kind = self.fault(*call.pair, nth) or self._ordered(call, nth)
        if kind not in (None, *faults.KINDS):
            raise ValueError(f"no such fault: {kind}")
        if kind == "drop":
            return 0, [], b"", number
        if kind in faults.ANSWERED:
            return (*faults.answer(kind, call), number)
        if kind == "delay":
            time.sleep(self.delay)
        try:
            status, headers, body = self.ours.answer(call)
        except Refused as refused:
            status, headers, body = faults.error(call, refused.status, refused.code, refused.message, refused.reason)
        return (0 if kind == "drop-after" else status), headers, body, number

    def _ordered(self, call, nth):
        for order in self.orders:
            right = (
                order.get("service", call.service) == call.service and order.get("action", call.action) == call.action
            )
            if right and nth in order.get("nth", [nth]):
                return order["fault"]
        return None

    def call_back(self, number, sent):
        """Do what was asked for by `after`."""
        callback = self._after.pop((number, sent), None)
        if callback:
            callback()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, gate):
        self.gate = gate
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request, client_address):
        """A client that was killed on purpose is no news; a mistake of ours is."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # An answer in two packets would wait 40 ms for the first one's acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = 1 << 20

    def do_GET(self):
        gate, body = self.server.gate, self._body()
        if self.path.startswith("/-/"):
            self._send(*self._admin(body))
            return
        status, headers, content, number = gate.answer(read(self.command, self.path, self.headers, body))
        gate.call_back(number, sent=False)
        if not status:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(status, headers, content)
        gate.call_back(number, sent=True)

    def handle_expect_100(self):
        """Say so at once: boto3 waits a second for it."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_GET

    def _body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _admin(self, body):
        gate = self.server.gate
        if self.path == "/-/faults" and self.command == "POST":
            gate.orders = json.loads(body)
            return 204, [], b""
        if self.path == "/-/calls":
            return 200, [("Content-Type", "application/json")], json.dumps(gate.calls).encode()
        return 404, [], b""

    def _send(self, status, headers, content):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in HOP:
                self.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        if status != 204:
            self.send_header("Content-Length", (self.command == "HEAD" and length) or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *words):
        pass
