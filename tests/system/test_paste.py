"""A document, pasted where a provider makes a machine of a stock disk, and what can go wrong on its first boot."""

import base64
import gzip
import hashlib
import http.client
import os
import re
import shutil
import signal
import time
from dataclasses import replace

import imitation
import pytest
import servers
import trustme
from conftest import AWAIT_BOOT

from bake.app import detect
from bake.bundle import release_archive
from bake.bundle.app_source import AppSource
from bake.config import loader
from bake.config.providers import PROVIDERS
from bake.document import cloud_config, machine_files, release_source
from bake.host.programs import run
from bake.host.progress import Reporter
from bake.verify import proof
from bake.vm import qemu

#: A small app, as people begin.
APP = {
    "app.py": (
        'from flask import Flask\n\napp = Flask(__name__)\n\n\n@app.route("/")\ndef hello():\n    return "Hello!"\n'
    ),
    "requirements.txt": "flask\n",
}
#: Bytes of a small VPS's disk.
DISK = "6G"
#: Seconds that an emulated first boot may take: it installs nginx, uWSGI and certbot.
PATIENCE = 900


class Pasted:
    """A machine that boots a stock disk with a document, and boots it again after its plug was pulled."""

    def __init__(self, stock, work, document, vendor_data="", size=DISK, more=()):
        self.work, self.more, self.boots, self.document = work, more, 0, document
        work.mkdir(exist_ok=True)
        self.disk = work / "disk.qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", stock, "-F", "qcow2", self.disk, size])
        self.key = work / "key"
        qemu.make_key(self.key, "paste")
        self.vendor_data = vendor_data
        self.booted: qemu.Machine | None = None

    @property
    def machine(self) -> qemu.Machine:
        """The machine as it was booted last."""
        assert self.booted, "it was never switched on"
        return self.booted

    def boot(self, instance="i-1"):
        """Switch it on. Its console is a file of its own each time."""
        self.boots += 1
        place = self.work / f"boot-{self.boots}"
        place.mkdir()
        meta_data = cloud_config.meta_data(instance, "pasted", [qemu.public_key(self.key)])
        files = {
            "meta-data": meta_data,
            "user-data": self.document,
            "vendor-data": self.vendor_data or "#cloud-config\n{}\n",
        }
        seed = qemu.make_seed(place / "seed.iso", files)
        self.port = qemu.free_port()
        self.booted = qemu.boot(
            self.disk, seed, place, self.key, qemu.VmOptions(web={80: self.port}, arguments=self.more)
        )
        self.disk = place / "overlay.qcow2"

    def pull_the_plug(self):
        self.machine.process.kill()
        self.machine.process.wait()

    def page(self):
        """Status and text of the front page; 0 where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())
        except (OSError, http.client.HTTPException):
            return 0, "", {}
        finally:
            connection.close()

    def wait_for(self, there, patience=PATIENCE):
        """Wait until the front page is as `there(status, text)` wants it; all states of it that were seen."""
        deadline, seen = time.monotonic() + patience, list[str]()
        while time.monotonic() < deadline:
            assert self.machine.process.poll() is None, self.machine.tail()
            status, text, headers = self.page()
            state = text.partition("This site ")[2].partition(".")[0] if status == 503 else str(status)
            if state not in seen[-1:]:
                seen.append(state)
                if status == 503:
                    assert headers["Retry-After"] == "10"
            if there(status, text):
                return seen
            time.sleep(0.3)
        raise AssertionError(f"{seen}\n{self.machine.tail(40)}")

    def settle(self):
        """Wait for cloud-init's end; its status' exit code."""
        self.machine.await_ssh()
        return self.machine.ssh(AWAIT_BOOT, check=False, timeout=600).status

    def stop(self):
        if self.booted:
            self.booted.stop()


@pytest.fixture(params=["debian-13", "debian-12"])
def release(request):
    return request.param


@pytest.fixture
def stock(release, tmp_path):
    return imitation.make(release, tmp_path)


@pytest.fixture
def small(tmp_path):
    """The small app's folder."""
    folder = tmp_path / "hello"
    folder.mkdir()
    for name, text in APP.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def paste(stock, tmp_path):
    """Paste a document: paste(text) → Pasted, booting."""
    made: list[Pasted] = []

    def paste(document, **options):
        made.append(Pasted(stock, tmp_path / f"pasted-{len(made)}", document, **options))
        made[-1].boot()
        return made[-1]

    yield paste
    for pasted in made:
        pasted.stop()


def serves(status, text):
    return status == 200


def look(pasted, suites, tmp_path):
    """Failures of suites of checks on a pasted machine."""
    work = tmp_path / "look"
    work.mkdir(exist_ok=True)
    return [name for name, _ in proof.run_checks(pasted.machine, suites, work).failures]


def schema(pasted, bake, folder, release):
    """What the machine's own cloud-init says of every provider's document, and of a launch's settings."""
    words = [("--inline", "--provider", name) for name in PROVIDERS] + [("--launch", "--domain", "a.example")]
    documents = {bake("render", folder, "--release", release, *options).stdout for options in words}
    # Plain, packed, stripped, gzipped, and a launch's settings.
    assert len(documents) >= 5 and "" not in documents
    for document in documents:
        packed = gzip.decompress(base64.b64decode(document)).decode() if document.startswith("H4sI") else document
        pasted.machine.ssh("cat > /tmp/document", stdin=packed)
        said = pasted.machine.ssh("cloud-init schema --config-file /tmp/document 2>&1", check=False)
        assert said.status == 0 and "Valid" in said.stdout, said.stdout


@pytest.mark.long
@pytest.mark.parametrize("release", ["debian-13"])
def test_a_pasted_machine_survives_a_power_cut_and_passes_every_check(release, paste, small, bake, tmp_path):
    called = bake("render", small, "--release", release)
    assert called.code == 0, called.stderr
    assert len(called.stdout.encode()) <= 16384 and "of 16,384 bytes for any provider" in called.stderr
    pasted = paste(called.stdout)
    pasted.wait_for(lambda status, text: "packages" in text or "libraries" in text)
    time.sleep(5)
    pasted.pull_the_plug()
    pasted.boot()
    seen = pasted.wait_for(serves)
    assert any("being set up: step" in state for state in seen), seen
    assert pasted.settle() == 0
    assert look(pasted, ["machine"], tmp_path) == []
    schema(pasted, bake, small, release)
    console = pasted.machine.console.read_text(errors="replace")
    assert "this site is set up; log in: ssh debian@" in console


def early(script):
    """Vendor-data with a script for the beginning of each boot."""
    return f"#cloud-boothook\n#!/bin/sh\n{script}\n"


def failed(pasted, step, patience=PATIENCE):
    """Where a machine has given up, everything says so, and nothing looks healthy; what systemd's status says."""
    state = f"could not be set up: failed at step {step}"
    deadline = time.monotonic() + patience
    while f"this site {state}" not in pasted.machine.tail(1000):
        assert time.monotonic() < deadline and "this site is set up" not in pasted.machine.tail(1000), (
            pasted.machine.tail(40)
        )
        time.sleep(1)
    assert pasted.settle() == 1
    said = pasted.machine.ssh(
        "systemctl status app-setup --no-pager -n 30; systemctl is-active app app.socket", check=False
    )
    assert "(Result: exit-code)" in said.stdout and said.stdout.splitlines()[-2:] == ["inactive", "inactive"]
    if pasted.machine.ssh("test -x /usr/sbin/nginx", check=False).status == 0:
        status, text, headers = pasted.page()
        assert (status, headers["Retry-After"]) == (503, "10") and f"This site {state}." in text
    else:
        assert pasted.page()[0] == 0
    return said.stdout


@pytest.fixture
def document(bake, small, release):
    called = bake("render", small, "--release", release, "--inline")
    assert called.code == 0, called.stderr
    return called.stdout


on_both = pytest.mark.parametrize("release", ["debian-13", "debian-12"])
on_one = pytest.mark.parametrize("release", ["debian-13"])


@pytest.mark.long
@pytest.mark.parametrize("release", ["debian-12"])
def test_pasted_on_debian_12(paste, document, small, bake, release, tmp_path):
    pasted = paste(document)
    pasted.wait_for(serves)
    assert pasted.settle() == 0
    assert look(pasted, ["machine", "proof/test_faults.py"], tmp_path) == []
    schema(pasted, bake, small, release)
    before = pasted.machine.ssh("cat /proc/sys/kernel/random/boot_id").stdout
    pasted.machine.reboot()
    assert pasted.settle() == 0
    assert pasted.machine.ssh("cat /proc/sys/kernel/random/boot_id").stdout != before
    assert pasted.page()[0] == 200


#: Has apt's locks from before the set-up begins until two minutes later.
HOLD = """
import fcntl, os, time
files = [open(f"/var/lib/{name}", "w") for name in ("dpkg/lock-frontend", "apt/lists/lock")]
for file in files: fcntl.lockf(file, fcntl.LOCK_EX)
while not os.path.exists("/run/app/state"): time.sleep(1)
time.sleep(120)
"""


@pytest.mark.long
@on_one
def test_apt_is_busy_for_two_minutes(paste, document):
    hold = f"cat > /run/hold <<'E'\n{HOLD}E\nsystemd-run --no-block --unit=hold python3 /run/hold"
    pasted = paste(document, vendor_data=early(hold))
    pasted.wait_for(serves)
    assert pasted.settle() == 0
    said = pasted.machine.ssh("sudo journalctl -q -b -u app-setup").stdout
    assert "was locked by" in said


@pytest.mark.long
@on_one
def test_a_mirror_refuses_the_first_requests(paste, document):
    server, left = servers.moody_proxy(12)
    with server as port:
        proxy = f'Acquire::http::Proxy "http://{servers.HOST}:{port}";'
        pasted = paste(document, vendor_data=early(f"echo '{proxy}' > /etc/apt/apt.conf.d/99proxy"))
        pasted.wait_for(serves)
        assert left == [0]
        assert pasted.settle() == 0


def made_of(folder, release, work, index=None, script=None, lock=lambda text: text):
    """A document of a folder as `bake render` makes it, with an index or a script of the test's, or another lock."""
    recipe = detect.complete(folder, loader.read(folder)).recipe.model_copy(update={"base": release, "index": None})
    gathered = release_archive.collect(AppSource(folder, recipe), work / "bundle.tar", Reporter()).release

    def changed(member):
        return replace(member, source=lock(member.source.decode()).encode()) if member.name == "lock.txt" else member

    app = replace(gathered, members=tuple(map(changed, gathered.members)))
    recipe = recipe.model_copy(update={"index": index})
    there = frozenset(str(path.relative_to(folder)) for path in folder.rglob("*"))
    parts = release_source.fetched(app, recipe, there, script) if script else release_source.inline(app, recipe)
    return cloud_config.fit([*machine_files.files(recipe.target), *parts], recipe.target, 32768).text


@pytest.mark.long
@on_one
def test_a_wheel_is_another_than_was_locked(paste, small, release, tmp_path):
    other = made_of(small, release, tmp_path, lock=lambda text: re.sub("sha256:....", "sha256:0000", text, count=1))
    assert "DO NOT MATCH" in failed(paste(other), "4 of 6, libraries")


@pytest.mark.long
@on_one
def test_a_document_for_another_release(paste, small, bake):
    other = bake("render", small, "--release", "debian-12", "--inline").stdout
    said = failed(paste(other), "1 of 6, release")
    assert "this document is for debian-12 x86_64, but this machine is debian-13 x86_64" in said


@pytest.mark.long
@on_one
def test_the_document_s_own_files_are_not_whole(paste, small, bake, release):
    plain = bake("render", small, "--release", release, "--inline", "--provider", "gcp").stdout
    assert "Hello!" in plain
    assert "has the digest" in failed(paste(plain.replace("Hello!", "Hallo!")), "1 of 6, release")


@pytest.fixture
def repository(small):
    """The small app's commit, and its repository as a plain web server has it."""
    git = ("git", "-C", small, "-c", "user.name=a", "-c", "user.email=a@app.example")
    run(["git", "init", "-q", small])
    run([*git, "add", "."])
    run([*git, "commit", "-q", "-m", "The app"])
    run([*git, "update-server-info"])
    with servers.files(small) as port:
        yield f"http://{servers.HOST}:{port}/.git", run([*git, "rev-parse", "HEAD"]).stdout.strip()


@pytest.mark.long
@on_one
def test_a_commit_is_fetched(paste, small, release, repository, tmp_path):
    url, commit = repository
    pasted = paste(made_of(small, release, tmp_path, script=release_source.git_script(url, commit)))
    pasted.wait_for(serves)
    assert pasted.settle() == 0
    assert pasted.page()[1] == "Hello!"


@pytest.mark.long
@on_one
def test_a_commit_that_was_never_pushed(paste, small, release, repository, tmp_path):
    url, _ = repository
    pasted = paste(made_of(small, release, tmp_path, script=release_source.git_script(url, "0" * 39 + "1")))
    assert "there is no such commit" in failed(pasted, "3 of 6, source")


@pytest.mark.long
@on_one
@pytest.mark.parametrize("right", [True, False])
def test_an_archive_is_fetched(paste, small, release, tmp_path, right):
    authority, web = trustme.CA(), tmp_path / "web"
    web.mkdir()
    run(["tar", "-C", small.parent, "-czf", web / "hello.tar.gz", small.name])
    digest = hashlib.sha256((web / "hello.tar.gz").read_bytes()).hexdigest() if right else "0" * 64
    trust = f"cat >> /etc/ssl/certs/ca-certificates.crt <<'E'\n{authority.cert_pem.bytes().decode()}E"
    with servers.files(web, authority.issue_cert(servers.HOST)) as port:
        url = f"https://{servers.HOST}:{port}/hello.tar.gz"
        unpack = "tar -C .fetched --no-same-owner -xf .archive"
        script = release_source.archive_script(url, digest, unpack, small.name)
        pasted = paste(made_of(small, release, tmp_path, script=script), vendor_data=early(trust))
        if right:
            pasted.wait_for(serves)
            assert pasted.page()[1] == "Hello!"
        else:
            assert "another archive than was asked for" in failed(pasted, "3 of 6, source")


@pytest.mark.long
@on_one
def test_a_package_is_served(paste, bake, release, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "bake.yaml").write_text(
        "app: {package: httpbin==0.10.4}\nwsgi: httpbin:app\ncheck: {health: /status/200}\n"
    )
    called = bake("render", folder, "--release", release, "--provider", "hetzner")
    assert called.code == 0, called.stderr
    pasted = paste(called.stdout)
    pasted.wait_for(serves)
    assert pasted.settle() == 0
    assert look(pasted, ["machine"], tmp_path) == []


@pytest.mark.long
@on_one
def test_the_index_is_down(paste, small, release, tmp_path):
    pasted = paste(made_of(small, release, tmp_path, index="https://10.0.2.2:1/simple/"))
    # Ten minutes of trying, after an emulated installation.
    failed(pasted, "4 of 6, libraries", 2 * PATIENCE)


@pytest.mark.long
@on_one
def test_a_full_disk(paste, document):
    fill = "[ -e /var/filled ] || { fallocate -l $(($(df --output=avail -B1 / | tail -1) - 60000000)) /var/filled; }"
    # cloud-init lets the root grow after the script: into nothing.
    pasted = paste(document, vendor_data=early(fill), size="2G")
    said = failed(pasted, "2 of 6, packages")
    assert "space" in said
    # With room again, the next boot goes on.
    pasted.machine.ssh("sudo rm /var/filled; sudo touch /var/filled; sync")
    pasted.pull_the_plug()
    pasted.boot()
    pasted.wait_for(serves)
    assert pasted.settle() == 0


@pytest.mark.long
@on_one
def test_the_clock_is_years_behind(paste, document):
    if os.geteuid() != 0:
        pytest.skip("a time server needs root's port")
    folder = "/etc/systemd/timesyncd.conf.d"
    ntp = f"mkdir -p {folder}; printf '[Time]\\nNTP={servers.HOST}\\n' > {folder}/test.conf"
    # It is running already.
    ntp += "; systemctl restart --no-block systemd-timesyncd"
    with servers.clock():
        pasted = paste(document, vendor_data=early(ntp), more=("-rtc", "base=2020-01-01T00:00:00"))
        pasted.wait_for(serves)
        assert pasted.settle() == 0
        assert pasted.machine.ssh("date +%Y").stdout.strip() == str(time.gmtime().tm_year)


@pytest.mark.long
@on_both
def test_a_power_cut_at_any_moment(paste, document, tmp_path):
    """Ten copies of the disk, each as a kill at that moment leaves it; each is booted, and ends healthy."""
    pasted = paste(document)
    started, copies = time.monotonic(), []
    whole = float(os.environ.get("BAKE_TEST_FIRST_BOOT", "200"))
    for number in range(1, 11):
        while time.monotonic() - started < whole * number / 10:
            time.sleep(0.2)
        pasted.machine.process.send_signal(signal.SIGSTOP)
        copies.append(tmp_path / f"cut-{number}.qcow2")
        shutil.copyfile(pasted.disk, copies[-1])
        pasted.machine.process.send_signal(signal.SIGCONT)
    pasted.wait_for(serves)
    pasted.pull_the_plug()
    healed = {}
    for copy in copies:
        pasted.disk = copy
        pasted.boot()
        begun = time.monotonic()
        pasted.wait_for(serves)
        healed[copy.stem] = pasted.settle(), round(time.monotonic() - begun)
        pasted.pull_the_plug()
    print(healed)
    assert {code for code, _ in healed.values()} == {0}, healed


@pytest.mark.long
@on_one
def test_another_document_for_a_new_instance(paste, document, small, bake, release):
    pasted = paste(document)
    pasted.wait_for(serves)
    assert pasted.settle() == 0
    pasted.machine.ssh("sudo systemctl poweroff", check=False)
    pasted.machine.process.wait(timeout=120)
    (small / "app.py").write_text(APP["app.py"].replace("Hello!", "Hello again!"))
    pasted.document = bake("render", small, "--release", release, "--inline").stdout
    pasted.boot(instance="i-2")
    pasted.wait_for(lambda status, text: text == "Hello again!")
    assert pasted.settle() == 0
    # The same document once more, as another instance: nothing is to be done.
    pasted.machine.ssh("sudo systemctl poweroff", check=False)
    pasted.machine.process.wait(timeout=120)
    pasted.boot(instance="i-3")
    pasted.wait_for(serves)
    assert pasted.settle() == 0


@pytest.mark.long
@on_both
def test_nobody_is_locked_out(paste, document, release):
    """A root key and a root password of the console's: the key still logs in, and then the password does not."""
    console = "chpasswd <<'E'\nroot:of-the-console-1\nE\n"
    console += "printf 'disable_root: false\\nssh_pwauth: true\\n' > /etc/cloud/cloud.cfg.d/99_console.cfg"
    pasted = paste(document, vendor_data=early(console))
    pasted.wait_for(serves)
    assert pasted.settle() == 0
    machine = pasted.machine
    assert "passwordauthentication no" in machine.ssh("sudo sshd -T").stdout
    # As a provider without keys has it: the machine's next boot opens passwords again.
    machine.ssh("sudo sh -c 'cp -r ~debian/.ssh /root/; sed -i s/^/#/ ~debian/.ssh/authorized_keys; sync'")
    as_root = replace_user(qemu.ssh_argv(machine.port, machine.private_key, machine.known_hosts, "/usr/lib/app/boot"))
    assert run(as_root, check=False, timeout=120).status == 0
    assert "log in: ssh root@" in machine.console.read_text(errors="replace")
    as_root[-1] = "rm -r /root/.ssh; /usr/lib/app/boot; /usr/sbin/sshd -T"
    assert "\npasswordauthentication yes" in run(as_root, check=False, timeout=120).stdout


def replace_user(argv):
    return [word.replace(f"{qemu.USER}@", "root@") for word in argv]
