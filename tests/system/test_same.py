"""A pasted machine and a baked one, file by file, unit by unit, package by package."""

import json
import re

import imitation
import pytest
from conftest import AWAIT_BOOT, STAND_INS
from test_paste import Pasted, serves

from bake.document import cloud_config
from bake.document.machine_files import File
from bake.verify import proof
from bake.vm import qemu

pytestmark = pytest.mark.long

#: What differs between the two, and why.
REASONS = {
    "file": {
        "/srv/app/releases/RELEASE/settings/hooks/watch.py": "helps an author: a document has no room for it",
        r"/srv/app/releases/RELEASE/settings/(author|crawl|memory|observe|plain).py": "of use where an image is made",
        "/srv/app/releases/RELEASE/settings/jobs/author": "of use where an image is made",
        r"/srv/app/releases/RELEASE/(given/words/.*|source/(starts|words(/.*)?))": "the bake saw the app write there",
        "/srv/app/releases/RELEASE/worker-memory": "is measured where memory.py is",
        r"/srv/app/releases/RELEASE/venv/.*/RECORD": "holds digests of scripts that name their release",
        r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?": "accounts were made in another order",
        r"/etc/(machine-id|hostname|hosts|ssh/ssh_host_.*)": "each machine's own",
        "/etc/app/(secrets.env|source.json)": "what this case gives each: secrets, and a bundle or parts",
        "/etc/ssh/sshd_config.d/60-algorithms.conf": "the seal makes it",
        "/etc/sudoers.d/90-cloud-init-users": "cloud-init writes the time into it",
        r"/etc/(ssl/certs|ca-certificates|alternatives|ld\.so).*": "made by packages, of the provider's packages too",
    },
    "unit": {
        "unattended-upgrades.service": "only waits for a shutdown: the base leaves it out of the boot",
        "systemd-(sysusers|update-done|journal-catalog-update).service": "done in the base already",
        "systemd-fsck-root.service": "in the base, the initrd has checked the root",
    },
    "package": {"lz4": "packs the base's initrd", "python3-typing-extensions": "apt's choice among alternatives"},
}
#: Prints a machine as JSON. The release's digest is in paths and scripts: it is called RELEASE.
DESCRIBE = r"""
import hashlib, json, os, pathlib, subprocess
current = pathlib.Path("/srv/app/current")
release = current.resolve().name if current.exists() else "none at all"
files, settings = {}, {}
for top in ("/etc", "/usr/lib/app", "/srv/app"):
    for folder, folders, names in os.walk(top):
        if "__pycache__" in folder: continue
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for path in (os.path.join(folder, name) for name in [*names, *links]):
            if os.path.islink(path): said = "-> " + os.readlink(path)
            elif not os.path.isfile(path): continue
            else:
                content, status = pathlib.Path(path).read_bytes().replace(release.encode(), b"RELEASE"), os.stat(path)
                if "/settings/" in path: settings[path.replace(release, "RELEASE")] = content.decode()
                said = f"{hashlib.sha256(content).hexdigest()} {status.st_mode & 0o7777:o} {status.st_uid}"
            files[path.replace(release, "RELEASE")] = said.replace(release, "RELEASE")
def rows(*words):
    return [line.split() for line in subprocess.run(words, capture_output=True, text=True).stdout.splitlines()]
quiet, kinds = ("--no-legend", "--plain"), (".service", ".socket", ".timer")
units = {row[0]: row[1] for row in rows("systemctl", "list-unit-files", *quiet) if "@" not in row[0]}
active = {row[0]: row[2] for row in rows("systemctl", "list-units", "--all", *quiet) if row[0].endswith(kinds)}
packages = dict(rows("dpkg-query", "-W", "-f", "${Package} ${Version}\n"))
print(json.dumps({"file": files, "unit": units, "active": active, "package": packages, "settings": settings}))
"""


def describe(machine):
    return json.loads(machine.ssh("sudo python3", stdin=DESCRIBE, timeout=300).stdout)


def active(told, name):
    """A unit's state; one that nothing has loaded is as inactive as one that is."""
    return told["active"].get(name, "inactive")


def is_uncommented(path, pasted, baked):
    """Whether a file of the release's settings is the same but for what a document removes: comments, for example."""
    texts = [machine["settings"].get(path) for machine in (pasted, baked)]
    return None not in texts and texts[0] == cloud_config.minified(File(path, 0o644, texts[1].encode())).text


def unexplained(kind, found):
    return sorted(name for name in found if not any(re.fullmatch(known, name) for known in REASONS[kind]))


@pytest.mark.parametrize("release", ["debian-13"])
def test_a_pasted_machine_is_a_baked_one(release, baked, bake, tmp_path):
    folder, image, _ = baked
    values = {"SECRET_KEY": "a", "SPARE_KEY": "b"}
    called = bake("render", folder, "--inline", "--with-secrets", "--provider", "openstack", **values)
    assert called.code == 0 and "; packed" in called.stderr, called.stderr
    stock = imitation.make(release, tmp_path)
    told = {}
    for name, document in (("stock", "#cloud-config\n{}\n"), ("pasted", called.stdout)):
        stood = Pasted(stock, tmp_path / name, document)
        stood.boot()
        try:
            if name == "pasted":
                stood.wait_for(serves)
            assert stood.settle() == 0
            told[name] = describe(stood.machine)
        finally:
            stood.stop()
    qemu.make_key(tmp_path / "key", "case")
    machine = proof.start(image, tmp_path / "baked", tmp_path / "key", STAND_INS)
    try:
        machine.await_ssh()
        assert machine.ssh(AWAIT_BOOT, check=False, timeout=900).status == 0
        told["baked"] = describe(machine)
    finally:
        machine.stop()
    before, pasted, baked_ = told["stock"], told["pasted"], told["baked"]
    ours = [path for path in baked_["file"] if path.startswith(("/usr/lib/app/", "/srv/app/"))]
    changed = [path for path, said in pasted["file"].items() if before["file"].get(path) != said]
    different = {path for path in {*ours, *changed} if pasted["file"].get(path) != baked_["file"].get(path)}
    different = {path for path in different if not is_uncommented(path, pasted, baked_)}
    installed = {name for name in pasted["package"] if name not in before["package"]}
    odd = {name for name in installed if pasted["package"][name] != baked_["package"].get(name)}
    # What the provider's image has besides stays; what it lacks of ours was installed.
    odd |= set(baked_["package"]) - set(pasted["package"])
    both = set(pasted["unit"]) & set(baked_["unit"])
    units = {name for name in both if pasted["unit"][name] != baked_["unit"][name] != before["unit"].get(name)}
    running = {name for name in both if active(pasted, name) != active(baked_, name)}
    # What the base masks for the sake of the boot's seconds, a provider's image may run.
    quick = {name for name, said in baked_["unit"].items() if said == "masked"}
    report = {
        "file": unexplained("file", different), "package": unexplained("package", odd),
        "unit": unexplained("unit", (units | running) - quick),
    }  # fmt: skip
    assert report == {"file": [], "package": [], "unit": []}, json.dumps(
        {
            kind: {name: [(told[who][kind].get(name), told[who]["active"].get(name)) for who in told] for name in names}
            for kind, names in report.items()
        },
        indent=1,
    )
