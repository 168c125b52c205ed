"""Check upgrades, logs, accounts and packages."""

import pytest

from bake.verify.replaced_files import replaced


def test_no_conffile_is_changed(host):
    # dpkg lists the digests of conffiles. A changed conffile would hold back an upgrade.
    command = "dpkg-query -W -f='${Conffiles}\\n' | awk 'NF == 2 {print $2 \"  \" $1}' | md5sum --quiet -c - 2>&1"
    assert host.run(command).stdout == ""


def test_security_updates_come_by_themselves(host):
    configuration = host.run("apt-config dump").stdout
    for line in (
        'APT::Periodic::Update-Package-Lists "1";',
        'APT::Periodic::Unattended-Upgrade "1";',
        'Unattended-Upgrade::Automatic-Reboot "true";',
        'DPkg::Post-Invoke:: "touch /run/reboot-required";',
    ):
        assert line in configuration


def test_installed_updates_are_in_use_an_hour_later(host):
    seconds = int(host.run("echo $(($(date +%s) - $(stat -c %Y /var/lib/dpkg/status)))").stdout)
    # A login or a job may use a replaced file until the machine reboots in the following night.
    is_scheduled = host.run("test -e /run/systemd/shutdown/scheduled").rc == 0
    if seconds > 3600 and not is_scheduled:
        assert replaced(host.run("cat /proc/[0-9]*/maps 2> /dev/null").stdout) == set()


def test_visitors_cannot_fill_the_journal_of_others(host):
    host.run("curl -s http://127.0.0.1/seen-by-the-journal; sleep 2; journalctl --sync")
    assert "seen-by-the-journal" in host.run("journalctl --namespace=nginx -q -t nginx").stdout
    assert "seen-by-the-journal" not in host.run("journalctl -q -b -t nginx").stdout


def test_the_app_cannot_fill_the_journal_of_others(host):
    # A pasted machine has no room for this setting before its first push.
    if not host.file("/run/systemd/system/app.service.d/60-journal.conf").exists:
        pytest.skip("the release is not from a bundle")
    for unit in ("app.service", "app-next.service", "app-job@any.service", "app-process@any.service"):
        if host.run("systemctl show --value --property LoadState %s", unit).stdout.strip() == "loaded":
            assert host.run("systemctl show --value --property LogNamespace %s", unit).stdout.strip() == "app"
    # A program of the app may write to journald's socket itself.
    process = host.run("systemctl show --value --property MainPID app.service").stdout.strip()
    host.run("nsenter --target %s --mount logger --tag app-alone seen; sleep 1; journalctl --sync", process)
    assert host.run("journalctl --namespace=app -q -b -t app-alone").stdout
    assert host.run("journalctl -q -b -t app-alone").stdout == ""
    assert host.run("nsenter --target %s --mount ls /run/systemd/journal.nginx/dev-log", process).rc != 0
    # journald reads no file of journald.conf.d for it.
    assert "\nForwardToWall=no\n" in host.run("systemd-analyze cat-config systemd/journald@app.conf").stdout


def test_a_small_machine_has_compressed_swap(host):
    memory = int(host.run("awk '/^MemTotal:/ {print $2}' /proc/meminfo").stdout)
    if memory >= 900 << 10 or not host.file("/run/systemd/system/app-zram.service").exists:
        pytest.skip("the machine has enough memory, or its document had no room")
    assert "/dev/zram0" in host.run("swapon --noheadings --show=NAME").stdout.split()


def test_the_app_is_the_first_that_the_kernel_kills(host):
    command = "systemctl show --value --property OOMScoreAdjust %s"
    app, nginx = (int(host.run(command, unit).stdout) for unit in ("app.service", "nginx.service"))
    assert app >= 500 > nginx


def test_a_job_has_a_bound_of_memory_and_dies_before_the_site(host):
    if set(host.run("ls /srv/app/current/settings/jobs").stdout.split()) <= {"author"}:
        pytest.skip("the app has no jobs")
    shown = host.run("systemctl show --property OOMScoreAdjust --property MemoryMax app-job@any.service").stdout
    assert "OOMScoreAdjust=700\n" in shown and "MemoryMax=infinity" not in shown


def test_a_stop_of_the_firewall_keeps_its_rules(host):
    assert host.run("systemctl show --value --property ExecStop nftables.service").stdout.strip() == ""


def test_the_kernel_has_debian_s_defaults_and_those_of_the_image(host):
    image = host.file("/etc/sysctl.d/60-app.conf")
    if not image.exists:
        pytest.skip("the machine is not from an image of bake, or from an older one")
    # 0 is the kernel's own value. Debian's is 1 or 2, but Debian 13 has it in a package that systemd only recommends.
    for name in ("hardlinks", "symlinks", "regular", "fifos"):
        assert host.file(f"/proc/sys/fs/protected_{name}").content_string.strip() in "12"
    settings = [line.split(" = ") for line in image.content_string.splitlines() if line[:1] not in "#"]
    assert len(settings) >= 7
    for name, value in settings:
        # An interface may have appeared after the settings, so its defaults count.
        path = "/proc/sys/" + name.replace(".", "/").replace("*", "default")
        assert host.file(path).content_string.strip() == value, name


def test_nothing_holds_updates_back(host):
    assert host.run("apt-mark showhold").stdout == ""
    assert host.run("dpkg --audit").stdout == ""


def test_logs_are_bounded_and_kept(host):
    configuration = host.run("systemd-analyze cat-config systemd/journald.conf").stdout
    assert "SystemMaxUse=200M" in configuration
    # Else each program can write to the terminals of all who are logged in.
    assert "\nForwardToWall=no\n" in configuration
    assert host.file("/var/log/journal").is_directory


def test_no_account_has_a_password(host):
    shadow = host.file("/etc/shadow").content_string
    assert [line.split(":")[0] for line in shadow.splitlines() if line.split(":")[1][:1] not in "!*"] == []


def test_passwords_do_not_log_in(host):
    configuration = host.run("sshd -T").stdout
    assert "\npasswordauthentication no\n" in configuration
    assert "\nkbdinteractiveauthentication no\n" in configuration


def test_the_app_cannot_log_in_nor_keep_others_from_it(host):
    # The app can write keys into its home.
    configuration = host.run("sshd -T").stdout
    assert "\ndenyusers app\n" in configuration
    assert "\npersourcemaxstartups 9\n" in configuration


def test_the_app_s_user_owns_its_data_alone(host):
    user = host.user("app")
    assert (user.uid, user.shell) == (800, "/usr/sbin/nologin")
    data = host.file("/var/lib/app")
    assert (data.user, data.mode) == ("app", 0o750)
    # No file of a release belongs to the app or to the user that unpacked its wheels, and none is set-uid.
    # Only the links to what it writes do.
    others = host.run("find /srv/app /etc/app /usr/lib/app -not -type l '(' -not -user root -o -perm /6022 ')'").stdout
    assert others == ""


def test_the_boot_loader_s_upgrades_reach_the_disk(host):
    # Without this file, grub-cloud-amd64 skips grub-install, and new modules do not match the old core.
    assert host.run("test ! -e /usr/share/doc/grub-cloud-amd64 || test -x /etc/grub.d/enable_cloud").rc == 0
