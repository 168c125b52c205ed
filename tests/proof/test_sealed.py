"""What must not be in an image, read from the disk itself before it was ever booted again.

The classes and their numbers are those of docs/explanation/decisions/0064-residue.md.
"""

import os
import re
import subprocess

import pytest

#: As libext2fs names a file system inside a disk: path?offset=bytes.
DISK = os.environ["BAKE_DISK"]


#: A line of debugfs's `ls -p`: inode, mode, name. A name may hold anything but a slash, a line's end too.
ENTRY = re.compile(r"^/(\d+)/(\d+)/\d+/\d+/([^/]+)/\d*/$", re.MULTILINE)


def debugfs(command):
    """Return what debugfs prints; None where there is no such file."""
    done = subprocess.run(["/usr/sbin/debugfs", "-R", command, DISK], capture_output=True, check=True)
    return os.fsdecode(done.stdout) if b"File not found" not in done.stderr else None


def read(path):
    """A file's content; None where there is no such file."""
    return debugfs(f"cat {path}")


def entries(folder):
    """The (inode, mode, name) of what is in a folder, given as a path or as <inode>; none where there is no folder."""
    found = (entry.groups() for entry in ENTRY.finditer(debugfs(f"ls -p {folder}") or ""))
    return [entry for entry in found if entry[2] not in (".", "..")]


def names(path):
    """The names in a folder; an empty set where there is none."""
    return {name for _, _, name in entries(path)}


def walk(path, inode=None):
    """Every path below a folder, files and folders."""
    # debugfs takes no quotes inside of a name: folders are read by their inodes.
    for number, mode, name in entries(f"<{inode}>" if inode else path):
        below = f"{path.rstrip('/')}/{name}"
        yield below
        if mode.startswith("04"):
            yield from walk(below, number)


def test_1_machine_id():
    assert read("/etc/machine-id") in ("", "uninitialized\n")
    assert "machine-id" not in names("/var/lib/dbus")


def test_2_ssh_keys():
    assert not [name for name in names("/etc/ssh") if name.startswith("ssh_host_")]
    assert ".ssh" not in names("/root")
    assert names("/home") == set()


def test_3_random_seed():
    assert not {"random-seed", "credential.secret"} & names("/var/lib/systemd")


def test_4_host_name():
    assert not {"hostname", "machine-info", "mailname"} & names("/etc")


def test_5_cloud_init_and_network():
    assert names("/var/lib/cloud") == set()
    assert names("/etc/netplan") == set()
    assert not list(walk("/var/lib/dhcp"))
    assert "127.0.1.1" not in read("/etc/hosts")


def test_6_package_manager():
    assert names("/var/lib/apt/lists") <= {"partial", "lock", "auxfiles"}
    assert names("/var/cache/apt/archives") <= {"partial", "lock"}
    assert not names("/var/lib/apt/lists/partial")
    settings = "".join(read(f"/etc/apt/apt.conf.d/{name}") for name in names("/etc/apt/apt.conf.d"))
    assert not re.search(r"^\s*Acquire::.*[Pp]roxy", settings, re.MULTILINE)
    assert "passwords.dat" not in names("/var/cache/debconf")


def test_7_logs_and_spools():
    # wtmp is there, and empty: programs append to it only where it exists.
    files = [path for path in walk("/var/log") if debugfs(f"stat {path}").split("Type: ")[1].startswith("regular")]
    assert [path for path in files if read(path)] == []
    for spool in ("/var/mail", "/var/spool/cron/crontabs", "/var/spool/cron/atjobs"):
        assert names(spool) == set()


def test_8_histories():
    for name in names("/root"):
        assert not re.fullmatch(r"\..*_history|\.viminfo|\.lesshst|\.wget-hsts|\.gitconfig|\.cache", name)


def test_9_backups():
    assert not {"passwd-", "shadow-", "group-", "gshadow-", "subuid-", "subgid-"} & names("/etc")


def test_10_temporary_files():
    assert names("/tmp") == names("/var/tmp") == set()
    assert names("/root") <= {".bashrc", ".profile"}
    assert not names("/var/crash")


def test_11_certificates():
    assert not {"accounts", "live", "archive", "keys", "csr"} & names("/etc/letsencrypt")
    assert names("/etc/ssl/private") == set()


def test_12_credentials():
    found = [path for path in walk("/srv") if re.search(r"/(\.aws|\.netrc|\.env|\.git|pip\.conf)$", path)]
    assert found == []
    assert not {".aws", ".netrc"} & names("/root")


def test_13_accounts():
    assert not re.search(r"^debian:", read("/etc/passwd"), re.MULTILINE)
    assert names("/etc/sudoers.d") <= {"README"}
    shadow = [line.split(":") for line in read("/etc/shadow").splitlines()]
    assert [row[0] for row in shadow if row[1][:1] not in "!*"] == []
    assert {row[0]: row[1] for row in shadow}["root"].startswith("!") or {r[0]: r[1] for r in shadow}["root"] == "*"


def test_14_timer_stamps():
    assert names("/var/lib/systemd/timers") == set()
    assert not names("/var/lib/logrotate")


def test_16_what_the_app_wrote():
    assert names("/var/lib/app") == set()


@pytest.mark.parametrize("path", ["/srv/app/current", "/usr/lib/app/setup", "/boot/grub/grub.cfg"])
def test_the_reader_reads(path):
    """The checks above look for absent things: this one shows that they look at the right disk."""
    assert debugfs(f"stat {path}")
