"""A baked machine that is brought wheels which anybody may have made."""

import base64
import hashlib
import io
import json
import tarfile
import zipfile

import pytest

from bake.bundle import release_archive
from bake.bundle.app_source import AppSource
from bake.host.progress import Reporter
from bake.verify import proof

pytestmark = pytest.mark.long

METADATA = {
    "thing-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: thing\nVersion: 1\n",
    "thing-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
#: Any Python that reads it at its start notes by whom it runs, where the app may write; root may, everywhere.
MARK = "import os; os.umask(0); open('/var/lib/app/ran', 'a').write(f'{os.getuid()}\\n')\n"


def wheel(files):
    """Return a wheel's bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in {**files, **METADATA}.items():
            archive.writestr(name, text)
        record = [*files, *METADATA, "thing-1.dist-info/RECORD"]
        archive.writestr(record[-1], "".join(f"{name},,\n" for name in record))
    return content.getvalue()


def with_wheel(path, content):
    """Return a bundle's bytes with one wheel more, which no lock knows: only hosts look at locks."""
    made = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as new:
        for member in old:
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
        info = tarfile.TarInfo("wheels/thing-1-py3-none-any.whl")
        info.size = len(content)
        new.addfile(info, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def bring(baked, machine, tmp_path):
    """Have the machine serve the example with one wheel more; app-setup's exit status and words."""
    report = Reporter()
    source = AppSource.read(baked[0], report)
    parcel = release_archive.collect(source, tmp_path / "bundle.tar", report)

    def call(content):
        made = with_wheel(parcel.path, content)
        digest = hashlib.sha256(made).hexdigest()
        place = f"/var/lib/app-incoming/{digest}.tar"
        machine.ssh(f"base64 -d | sudo tee {place} > /dev/null", stdin=base64.b64encode(made).decode())
        stanza = json.loads(machine.ssh("cat /etc/app/source.json").stdout)
        machine.ssh("sudo tee /etc/app/source.json > /dev/null", stdin=json.dumps({**stanza, "bundle": digest}))
        done = machine.ssh("sudo systemctl start app-setup", check=False, timeout=600)
        return done.status, machine.ssh("sudo journalctl -q -b -o cat -u app-setup").stdout

    return call


def test_no_code_of_a_wheel_runs_as_root(machine, bring, tmp_path):
    status, said = bring(wheel({"evil.pth": MARK, "sitecustomize.py": MARK, "thing.py": MARK}))
    assert status == 0, said
    # It does run, in the app's own sandbox.
    uids = machine.ssh("sudo sort -u /var/lib/app/ran").stdout.split()
    assert uids == ["800"]
    assert machine.ssh("sudo find /srv/app -not -user root").stdout == ""
    assert proof.run_checks(machine, ["machine"], tmp_path).failures == ()


@pytest.mark.parametrize(
    "name", ["../../../../../../escaped", "/etc/cron.d/escaped", "thing-1.data/data/../../escaped"]
)
def test_a_wheel_writes_nothing_outside_of_its_release(machine, bring, name):
    before = machine.ssh("readlink /srv/app/current").stdout
    status, said = bring(wheel({name: "* * * * * root touch /ran\n"}))
    assert status == 1 and "is outside its folder" in said
    assert machine.ssh("sudo find / -xdev -name escaped").stdout == ""
    # The release before serves on.
    assert machine.ssh("readlink /srv/app/current").stdout == before
    assert machine.ssh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/").stdout == "200"
