"""Templates of texts that are no HTML."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from conftest import REPOSITORY, Fake

from bake.host.programs import run
from bake.host.templates import render

FOLDER = REPOSITORY / "cloud-init"
TEMPLATES = sorted(FOLDER.rglob("*.j2"))


def test_a_value_stays_as_it_is() -> None:
    values = {"prefix": "/a&b<c", "folder": '/srv/"x"', "server": "app", "root": "/srv", "is_proxied": False}
    text = render("release/nginx/location.conf.j2", **values)
    assert text.startswith("location ^~ /a&b<c/ {\n") and 'alias /srv/"x"/;\n' in text and text.endswith("}\n")


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("release/nginx/location.conf.j2", prefix="/static", server="app")


@pytest.mark.parametrize("name", [str(path.relative_to(FOLDER)) for path in TEMPLATES])
def test_each_template_is_in_use(name: str) -> None:
    sources = [*(REPOSITORY / "bake").rglob("*.py"), *TEMPLATES]
    assert any(f'"{name}"' in source.read_text() for source in sources)


def test_the_bundle_comes_from_the_seed_disk(tmp_path: Path, fake: Fake) -> None:
    seed, incoming = tmp_path / "seed", tmp_path / "incoming"
    script = render("check/copy-bundle.sh.j2", folder=incoming, digest="12ab").replace("/run/app-seed", str(seed))
    fake("mount", f'echo "mount $*" >> {tmp_path}/words; echo bundle > {seed}/bundle.tar')
    fake("umount", f'echo "umount $*" >> {tmp_path}/words; rm {seed}/bundle.tar')
    run(["sh", "-euc", script])
    assert (incoming / "12ab.tar").read_text() == "bundle\n"
    assert (tmp_path / "words").read_text() == f"mount -o ro,noexec LABEL=cidata {seed}\numount {seed}\n"


def test_app_setup_waits_for_the_upload_on_a_builder_instance(tmp_path: Path, fake: Fake) -> None:
    bundle, sleeps, late, result = (tmp_path / name for name in ("12ab.tar", "sleeps", "late.json", "result.json"))
    late.write_text('{"kind": "StepError"}')
    unit = render("check/await-upload.conf.j2", path=bundle, late=late, result=result).splitlines()
    # systemd reads $$ as $.
    command = unit[1].partition("=/bin/sh -c '")[2].removesuffix("'").replace("$$", "$")
    assert unit[0] == "[Service]" and len(unit) == 2 and "'" not in command
    fake("sleep", f'echo "$1" >> {sleeps}; [ "$(wc -l < {sleeps})" != 3 ] || touch {bundle}')
    run(["sh", "-c", command])
    assert sleeps.read_text() == "1\n" * 3
    bundle.unlink()
    assert not result.exists()
    for name in ("sleep", "mkdir"):
        fake(name, "exit 0")
    assert run(["sh", "-c", command], check=False).status == 1
    assert result.read_text() == late.read_text()
