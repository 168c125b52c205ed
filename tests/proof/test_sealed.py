"""Check that a sealed image contains no residue of the bake. Read the disk directly, before its first boot.

docs/explanation/decisions/0064-residue.md defines the classes and their numbers.
"""

import os
import re
import subprocess

import pytest

#: The root file system in the syntax of libext2fs: path?offset=bytes.
DISK = os.environ["BAKE_DISK"]


#: A line of debugfs's `ls -p`: inode, mode, name. A name may contain any character except a slash, also line ends.
ENTRY = re.compile(r"^/(\d+)/(\d+)/\d+/\d+/([^/]+)/\d*/$", re.MULTILINE)


def debugfs(command):
    """Run a command of debugfs and return its output; None if the file does not exist."""
    result = subprocess.run(["/usr/sbin/debugfs", "-R", command, DISK], capture_output=True, check=True)
    return os.fsdecode(result.stdout) if b"File not found" not in result.stderr else None


def read(path):
    """Return the content of a file; None if it does not exist."""
    return debugfs(f"cat {path}")


def entries(folder):
    """Return the (inode, mode, name) of a folder's entries. `folder` is a path or <inode>, and may be missing."""
    rows = (match.groups() for match in ENTRY.finditer(debugfs(f"ls -p {folder}") or ""))
    return [row for row in rows if row[2] not in (".", "..")]


def names(path):
    """Return the names in a folder; an empty set if it does not exist."""
    return {name for _, _, name in entries(path)}


def walk(path, inode=None):
    """Yield every path below a folder, files and folders."""
    # debugfs cannot read names with quotes, so read folders by their inodes.
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
    # What the next machine's sshd agrees with its clients. Packer's client would refuse it.
    assert "MACs hmac-sha2-" in (read("/etc/ssh/sshd_config.d/60-algorithms.conf") or "")


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
    # wtmp exists and is empty, because programs append to it only if it exists.
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
    credentials = [path for path in walk("/srv") if re.search(r"/(\.aws|\.netrc|\.env|\.git|pip\.conf)$", path)]
    assert credentials == []
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


def test_16_data_of_the_app():
    assert names("/var/lib/app") == set()


@pytest.mark.parametrize("path", ["/srv/app/current", "/usr/lib/app/setup", "/boot/grub/grub.cfg"])
def test_debugfs_reads_the_disk(path):
    """The other checks expect absent files. This one fails if they read the wrong disk."""
    assert debugfs(f"stat {path}")
