"""Upgrades, logs, accounts, packages."""


def test_no_conffile_is_changed(host):
    # dpkg's own list of conffiles and their digests: a changed one would hold back an upgrade.
    listed = "dpkg-query -W -f='${Conffiles}\\n' | awk 'NF == 2 {print $2 \"  \" $1}' | md5sum --quiet -c - 2>&1"
    assert host.run(listed).stdout == ""


def test_security_updates_come_by_themselves(host):
    shown = host.run("apt-config dump").stdout
    for line in (
        'APT::Periodic::Update-Package-Lists "1";',
        'APT::Periodic::Unattended-Upgrade "1";',
        'Unattended-Upgrade::Automatic-Reboot "true";',
    ):
        assert line in shown


def test_nothing_holds_updates_back(host):
    assert host.run("apt-mark showhold").stdout == ""
    assert host.run("dpkg --audit").stdout == ""


def test_logs_are_bounded_and_kept(host):
    shown = host.run("systemd-analyze cat-config systemd/journald.conf").stdout
    assert "SystemMaxUse=200M" in shown
    assert host.file("/var/log/journal").is_directory


def test_no_account_has_a_password(host):
    shadow = host.file("/etc/shadow").content_string
    assert [line.split(":")[0] for line in shadow.splitlines() if line.split(":")[1][:1] not in "!*"] == []


def test_passwords_do_not_log_in(host):
    shown = host.run("sshd -T").stdout
    assert "\npasswordauthentication no\n" in shown
    assert "\nkbdinteractiveauthentication no\n" in shown


def test_the_app_s_user_owns_its_data_alone(host):
    user = host.user("app")
    assert (user.uid, user.shell) == (800, "/usr/sbin/nologin")
    data = host.file("/var/lib/app")
    assert (data.user, data.mode) == ("app", 0o750)
    # Nothing of a release is the app's, nor that of the user who unpacked its wheels, nor set-uid.
    others = host.run("find /srv/app /etc/app /usr/lib/app -not -user root -o -perm /6022 -not -type l").stdout
    assert others == ""


def test_the_boot_loader_s_upgrades_reach_the_disk(host):
    # Without it grub-cloud-amd64 skips grub-install, and new modules meet an old core.
    assert host.run("test ! -e /usr/share/doc/grub-cloud-amd64 || test -x /etc/grub.d/enable_cloud").rc == 0
