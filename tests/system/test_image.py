"""One command bakes the example, boots it and proves it."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: Bytes; the target is 250 MB.
LARGEST_IMAGE = 350 * 1000**2
#: CPU seconds that an unchanged bake may take, on a computer that is twice as slow as usual. Time on a clock would
#: count what else runs.
UNCHANGED = 6.0


def cpu_seconds_of_children():
    """The CPU seconds of all child processes that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def processes(word):
    """The pids of running programs whose command line holds `word`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_the_path_alone_is_printed(baked, where):
    _, image, called = baked
    assert called.stdout == f"{image}\n"
    assert image == where / "dist" / "flask-hello" / "flask-hello.qcow2"
    assert image.is_file()


def test_the_summary_says_what_was_made(baked):
    _, image, called = baked
    facts = json.loads(image.with_suffix(".json").read_text())
    assert facts["sha256"] in called.stderr
    assert f"{facts['checks']} passed" in called.stderr
    assert facts["checks"] >= 85
    assert facts["observed"] == {"data": {"starts": False}, "fresh": ["words"], "refused": []}
    assert "writable: starts is kept in /var/lib/app" in called.stderr
    assert "writable: words resets with each release" in called.stderr
    # Its pages are those of `python app.py`.
    assert facts["app"].startswith("compared, ") and "fault" not in facts["app"]
    assert f"app      {facts['app']}" in called.stderr
    assert set(facts["seconds"]) >= {"bundle", "bake", "seal", "proof"}


def test_the_image_is_small_and_compressed(baked):
    _, image, _ = baked
    assert image.stat().st_size < LARGEST_IMAGE
    shown = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", image]))
    assert shown["format-specific"]["data"]["compression-type"] == "zstd"
    assert subprocess.run(["qemu-img", "check", "-q", image], check=False).returncode == 0


def test_the_same_disk_raw(baked, bake):
    folder, image, _ = baked
    called = bake("image", "--format", "raw", folder)
    raw = Path(called.stdout.strip())
    assert (called.code, raw) == (0, image.with_suffix(".raw"))
    same = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, raw]
    assert subprocess.run(same, check=False, capture_output=True).returncode == 0
    facts = json.loads(raw.with_name("flask-hello.raw.json").read_text())
    assert facts["sha256"] in called.stderr and facts["size"] == raw.stat().st_size
    # Its holes are holes.
    assert raw.stat().st_blocks * 512 < raw.stat().st_size / 2
    raw.unlink()


def test_nothing_changed_answers_at_once(baked, bake):
    folder, image, _ = baked
    before = image.stat()
    started = cpu_seconds_of_children()
    called = bake("image", folder)
    assert cpu_seconds_of_children() - started < UNCHANGED
    assert "nothing has changed since then" in called.stderr
    assert called.stdout == f"{image}\n"
    assert (image.stat().st_ino, image.stat().st_mtime) == (before.st_ino, before.st_mtime)


def test_a_changed_output_is_made_good_again(baked, bake):
    folder, image, _ = baked
    with image.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"somebody booted it in place")
    assert bake("image", folder).code == 0
    assert json.loads(image.with_suffix(".json").read_text())["sha256"] == sha256(image)


def sha256(path):
    return subprocess.check_output(["sha256sum", path], text=True).split()[0]


def started_bake(folder, where):
    """A bake of `folder` under way, with its machine running; the process."""
    # A shell starts its background jobs deaf to SIGINT; a terminal's are not.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "bake", "image", str(folder)]
    process = subprocess.Popen(
        command, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 600
    while not processes("qemu-system-x86_64\0-") and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.2)
    return process


@pytest.mark.parametrize(
    ("sign", "code"),
    [
        (signal.SIGKILL, -signal.SIGKILL),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, 130, marks=pytest.mark.long),
    ],
)
def test_an_interrupted_bake_leaves_nothing(baked, app, where, bake, sign, code):
    folder, write = app
    write("extra.py", f"# {os.urandom(8).hex()}\n")
    process = started_bake(folder, where)
    time.sleep(3)
    process.send_signal(sign)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert stdout == b""
    deadline = time.monotonic() + 20
    while (processes("qemu-system-x86_64\0-") or processes("packer\0build")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes("qemu-system-x86_64\0-") == []
    assert processes("packer\0build") == []
    assert not (where / "dist" / "small-app" / "small-app.qcow2").exists()
    # The next start finds no lock in its way, and takes away what was left.
    known, _, _ = baked
    assert bake("image", known).code == 0
    cache = Path(os.environ.get("BAKE_CACHE") or Path.home() / ".cache" / "bake")
    assert list((cache / "work").iterdir()) == []
