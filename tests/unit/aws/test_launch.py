"""What a launch says about the age of its AMI, before it starts an instance."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bake.aws.instances import inventory, launch
from bake.aws.instances.plan import LaunchOptions, Plan
from bake.aws.session import Cloud
from bake.host import paths
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.image import archive_comparison, manifest
from bake.image.manifest import ImageManifest


class Stop(Exception):
    """The test has seen enough."""


@pytest.mark.parametrize(
    ("days", "digest", "lines"),
    [
        (9, "ab", ["ami-1 is 9 days old; `bake ami` makes a new one", "the image lacks security updates of nginx"]),
        (9, "another", ["ami-1 is 9 days old; `bake ami` makes a new one"]),
        (0, "ab", []),
    ],
)
def test_a_launch_says_how_old_its_ami_is_and_what_it_lacks(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch, days: int, digest: str, lines: list[str]
) -> None:
    """The cache knows the packages of the image "ab"."""
    path = paths.cache() / "image/key" / manifest.FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_text(ImageManifest(sha256="ab", packages={"nginx": "1"}, security_url="http://127.0.0.1:9").to_json())
    monkeypatch.setattr(archive_comparison, "_index", lambda suite: "Package: nginx\nArchitecture: amd64\nVersion: 2\n")
    created = datetime.now(UTC) - timedelta(days=days, hours=1)
    image: Any = {
        "CreationDate": created.strftime("%Y-%m-%dT%H:%M:%S.000Z"), "ImageId": "ami-1", "Name": "shop",
        "Tags": [{"Key": inventory.IMAGE, "Value": digest}],
    }  # fmt: skip
    plan = Plan(LaunchOptions(), image, {}, None, None, None, {})

    def start(*words: object) -> None:
        raise Stop

    monkeypatch.setattr(launch, "make_plan", lambda *words: plan)
    monkeypatch.setattr(launch, "_start", start)
    console = io.StringIO()
    report = Reporter(Terminal(file=console, width=300))
    with pytest.raises(Stop):
        launch.launch("ami-1", LaunchOptions(), None, Cloud(None, "eu-central-1", "launch", None), report)
    said = console.getvalue()
    assert all(line in said for line in lines), said
    assert said.count("days old") == bool(lines) and said.count("lacks") == len(lines) // 2
