"""What the models of EBS and of EC2 share: moto behind them, and what they know that it does not."""

import copy
import re
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: moto's only account.
ACCOUNT = "123456789012"
#: Status, headers and body.
Answer = tuple[int, list[tuple[str, str]], bytes]


class Refused(Exception):
    """A rule was broken: HTTP status, error code, message, and the reason that EBS names."""

    def __init__(self, status, code, message, reason=""):
        super().__init__(message)
        self.status, self.code, self.message, self.reason = status, code, message, reason


@dataclass
class Snapshot:
    """A snapshot: `put` are the digests of its own blocks by index, `blocks` those that it is read as."""

    id: str
    region: str
    size: int
    timeout: int
    touched: float
    said: dict[str, Any]
    lineage: str
    blocks: dict[int, bytes] = field(default_factory=dict)
    put: dict[int, bytes] = field(default_factory=dict)
    status: str = "pending"
    looks: int = 0


class Account:
    """An account at moto, with the state of our own models on top of it."""

    def __init__(self, folder, forward):
        """Blocks go into `folder`, by digest; `forward(call, body, headers)` asks moto."""
        self.folder: Path = folder
        self.forward: Callable[..., Answer] = forward
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self.clear()

    def clear(self):
        """Know of no snapshot, and of the right time."""
        #: Seconds since the epoch; a test may set another clock.
        self.now: Callable[[], float] = time.time
        #: How often DescribeSnapshots says `pending` still, once a snapshot is complete. In AWS it takes minutes.
        self.pending_looks = 0
        #: How often DeleteSecurityGroup says DependencyViolation still, once its machine has ended.
        self.held_looks = 0
        #: How many calls AWS needs to learn of what was just made, or let go of: the first blocks of a snapshot, looks
        #: for an AMI, deletions of a snapshot whose AMI has gone. AWS does not document its number.
        self.lag = 0
        self._lags: dict[str, int] = {}
        self._left_alone: set[str] = set()
        #: Whether the account encrypts by default (EBS user guide, "Encryption outcomes for EBS direct APIs").
        self.encrypts = False
        self.snapshots: dict[str, Snapshot] = {}
        #: What was asked for with a client token, and the answer, by service, region, action and token.
        self.tokens: dict[tuple[str, str, str, str], tuple[dict[str, str], Answer]] = {}
        #: What images were registered with.
        self.images: dict[str, dict[str, str]] = {}
        #: Images that were registered, also those that are gone.
        self.registered: set[str] = set()

    def _is_late(self, what):
        """Whether AWS does not know yet; each question brings it nearer."""
        left = self._lags.setdefault(what, self.lag)
        self._lags[what] = max(0, left - 1)
        return left > 0

    def _find(self, name, region):
        snapshot = self.snapshots.get(name)
        if snapshot is None or snapshot.region != region:
            message = f"The snapshot '{name}' does not exist."
            raise Refused(404, "ResourceNotFoundException", message, "SNAPSHOT_NOT_FOUND")
        if snapshot.status == "pending" and self.now() - snapshot.touched > snapshot.timeout * 60:
            snapshot.status = "error"
        return snapshot

    def _state(self, snapshot):
        return "pending" if snapshot.status == "completed" and snapshot.looks > 0 else snapshot.status

    def _ask(self, call, action, **params):
        """Ask moto's EC2 something else, in the place of who calls."""
        form = {"Action": action, "Version": "2016-11-15", **params}
        asked = copy.copy(call)
        asked.method, asked.path = "POST", "/"
        own = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAMADEUPMADEUPMADE/20260101/"
            f"{call.region}/ec2/aws4_request, SignedHeaders=host, Signature=0",
        }
        asked.headers = {}
        _, _, body = self.forward(asked, urllib.parse.urlencode(form).encode(), own)
        return ET.fromstring(body)

    def _texts(self, call, action, tag, **params):
        """What an answer of moto's says under a name, wherever."""
        return [element.text for element in self._ask(call, action, **params).iter() if element.tag.endswith("}" + tag)]

    def _tag(self, call, made):
        """Give the tags that a call specifies to what it made, by type."""
        for name, kind in call.params.items():
            given = re.fullmatch(r"(TagSpecification\.\d+\.)ResourceType", name)
            if not given:
                continue
            for resource in made.get(kind, ()):
                start = f"{given[1]}Tag."
                tags = {
                    each.replace(start, "Tag."): value for each, value in call.params.items() if each.startswith(start)
                }
                self._ask(call, "CreateTags", **{"ResourceId.1": resource}, **tags)
