"""A baked machine, broken on purpose, and one whose boot loader is upgraded."""

import json
import time
from pathlib import Path

import pytest
from conftest import AWAIT_BOOT, STAND_INS

from bake.host import remote_scripts
from bake.verify import proof
from bake.vm import qemu

pytestmark = pytest.mark.long

OVMF = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
#: A sandbox with its doors open, and an app that is not started again.
OPEN = "[Service]\\nPrivateUsers=no\\nNoNewPrivileges=no\\nRestart=no\\nCapabilityBoundingSet=~\\nProtectSystem=no\\n"
#: What is done to the machine, and the check that must see it.
BREAKAGES = {
    "systemctl stop certbot.timer": "test_unit_is_active[ssh://machine-certbot.timer]",
    "systemctl disable nftables.service": "test_unit_is_enabled[ssh://machine-nftables.service]",
    "systemd-run --unit broken false": "test_no_unit_failed",
    "nft add rule inet app input tcp dport 8000 accept": "test_the_firewall_drops_other_ports",
    "nft flush chain inet app output; systemctl set-property --runtime app.service IPAddressDeny=": (
        "test_the_app_reaches_no_metadata_service[ssh://machine-168.63.129.16]"
    ),
    "echo 'my site' > /etc/app/domains; systemctl reload app-configure": (
        "test_no_line_of_the_machine_s_settings_is_wrong"
    ),
    "systemd-run python3 -m http.server 8000": "test_only_ssh_and_web_listen_to_the_world",
    "echo '# mine' >> /etc/nginx/nginx.conf": "test_no_conffile_is_changed",
    "apt-mark hold nginx": "test_nothing_holds_updates_back",
    "echo root:secret | chpasswd": "test_no_account_has_a_password",
    "sed -i /DenyUsers/d /etc/ssh/sshd_config.d/50-app.conf": "test_the_app_cannot_log_in_nor_keep_others_from_it",
    "nft flush chain inet app from": (
        "test_visitors_and_the_app_cannot_fill_the_table_of_connections[ssh://machine-from-dport]"
    ),
    "mkdir -p /run/systemd/system/app.service.d; printf '[Service]\nReadOnlyPaths=\nInaccessiblePaths=\n' > "
    "/run/systemd/system/app.service.d/z.conf; systemctl daemon-reload; systemctl restart app": (
        "test_the_app_cannot_lock_the_files_of_updates[ssh://machine-/var/lib/apt]"
    ),
    "chmod 777 /srv/app": "test_the_app_s_user_owns_its_data_alone",
    "chmod 644 /run/app/placeholder/privkey.pem": "test_the_private_key_is_root_s_alone",
    "chmod -x /etc/grub.d/enable_cloud": "test_the_boot_loader_s_upgrades_reach_the_disk",
    "rm /etc/systemd/journald.conf.d/50-app.conf": "test_logs_are_bounded_and_kept",
    "sed -i s/journal.nginx/journal/ /usr/lib/app/nginx/nginx.conf; systemctl reload nginx": (
        "test_visitors_cannot_fill_the_journal_of_others"
    ),
    "mkdir /run/systemd/system/nftables.service.d; printf '[Service]\nExecStop=true\n' > "
    "/run/systemd/system/nftables.service.d/x.conf; systemctl daemon-reload": (
        "test_a_stop_of_the_firewall_keeps_its_rules"
    ),
    "cp /lib/x86_64-linux-gnu/libc.so.6 /lib/new; mv /lib/new /lib/x86_64-linux-gnu/libc.so.6; "
    "touch -d '2 hours ago' /var/lib/dpkg/status": "test_installed_updates_are_in_use_an_hour_later",
    "rm /etc/apt/apt.conf.d/52app": "test_security_updates_come_by_themselves",
    "ln -sf /dev/null /etc/resolv.conf": "test_names_are_looked_up_through_resolved",
    "sed -i 's/ no$/ yes/' /usr/lib/app/keys-only.conf": "test_passwords_do_not_log_in",
    "echo PerSourcePenalties no > /etc/ssh/sshd_config.d/0-x.conf": "test_tries_of_passwords_are_limited",
    "sed -i 's/server_tokens off/server_tokens on/; s/TLSv1.2 TLSv1.3/TLSv1.3/' /usr/lib/app/nginx/nginx.conf": (
        "test_the_server_header_has_no_version"
    ),
    "sed -i 's/\\$transport_security/max-age=9/' /usr/lib/app/nginx/server.conf": (
        "test_hsts_only_with_a_trusted_certificate"
    ),
    "sed -i '/X-Frame-Options/d' /usr/lib/app/nginx/server.conf": (
        "test_security_headers[ssh://machine-x-frame-options]"
    ),
    "sed -i 's/HTTP_X_REAL_IP .*/HTTP_X_REAL_IP $http_x_real_ip;/' /usr/lib/app/nginx/server.conf": (
        "test_a_visitor_cannot_forge_where_they_come_from"
    ),
    "sed -i 's/client_max_body_size .*;/client_max_body_size 0;/' /srv/app/current/settings/nginx/limits.conf": (
        "test_a_body_over_the_limit_is_refused"
    ),
    "sed -i 's/expires 1h;//' /srv/app/current/settings/nginx/static.conf": "test_static_files_come_from_nginx",
    f"mkdir /run/systemd/system/app.service.d; printf '{OPEN}' > /run/systemd/system/app.service.d/x.conf; "
    "systemctl daemon-reload": "test_sandbox[ssh://machine-app.service]",
    "sed -i 's/^harakiri.*/harakiri = 600/' /srv/app/current/settings/uwsgi.ini": (
        "test_the_app_s_server_gives_up_before_nginx_does"
    ),
    "sed -i 's/^APP_WORKERS.*/APP_WORKERS=9/' /run/app/env": "test_workers_fit_the_machine",
    "systemctl stop app-tick.timer": "test_the_app_s_timers_wait_for_their_time",
    "touch /run/systemd/system/app-old.timer": "test_no_timer_is_left_of_another_release",
    "rm /srv/app/current/source/instance; mkdir /srv/app/current/source/instance": (
        "test_the_app_s_data_is_outside_of_its_release"
    ),
    "curl -s http://127.0.0.1/vain?folder=elsewhere": "test_the_app_writes_to_no_read_only_folder",
    "sed -i 's/uwsgi_pass .*/return 200 \"Werkzeug Debugger\";/' /usr/lib/app/nginx/server.conf": (
        "test_a_page_that_is_missing_shows_no_debug_page[ssh://machine-http]"
    ),
    "sed -i '0,/location/s//location = \\/ { return 404; } location/' /usr/lib/app/nginx/server.conf": (
        "test_each_page_answers_as_it_does_with_the_author_s_server"
    ),
    "touch /etc/app/secrets.env": "test_secrets_are_root_s_alone[ssh://machine-/etc/app/secrets.env]",
    "echo false > /srv/app/current/settings/jobs/setup; systemctl restart app-job@setup": (
        "test_the_steps_before_the_start_succeeded"
    ),
    "mkdir -p /run/systemd/system/app.service.d; printf '[Service]\nOOMScoreAdjust=0\n' > "
    "/run/systemd/system/app.service.d/y.conf; systemctl daemon-reload": (
        "test_the_app_is_the_first_that_the_kernel_kills"
    ),
    "mkdir -p /run/systemd/system/app-job@.service.d; printf '[Service]\nMemoryMax=infinity\n' > "
    "/run/systemd/system/app-job@.service.d/y.conf; systemctl daemon-reload": (
        "test_a_job_has_a_bound_of_memory_and_dies_before_the_site"
    ),
    "mkdir -p /run/systemd/system/app-job@.service.d; printf '[Service]\nLogNamespace=\n' > "
    "/run/systemd/system/app-job@.service.d/z.conf; systemctl daemon-reload": (
        "test_the_app_cannot_fill_the_journal_of_others"
    ),
    "systemctl reload nginx": "test_current_versions_are_spoken[ssh://machine--tls1_2]",
}


def test_uefi_boots(baked, tmp_path):
    if not OVMF.is_file():
        pytest.skip("Debian's package ovmf, a UEFI for QEMU, is not installed")
    _, image, _ = baked
    key = tmp_path / "key"
    qemu.make_key(key, "case")
    booted = proof.start(image, tmp_path / "vm", key, options=qemu.VmOptions(firmware=OVMF))
    try:
        booted.await_ssh()
        assert booted.ssh("test -d /sys/firmware/efi && echo by UEFI").stdout == "by UEFI\n"
        assert "lsm=landlock" in booted.ssh("cat /proc/cmdline").stdout
    finally:
        booted.stop()


def test_a_stop_soon_after_a_start_does_not_wait_for_workers_that_load(machine):
    """systemd would kill them after 75 s."""
    machine.ssh("sudo systemctl restart app")
    begun = time.monotonic()
    machine.ssh("sudo systemctl stop app")
    assert time.monotonic() - begun < 40
    machine.ssh("sudo systemctl start app")


#: Forty visitors, eight at once, who ask the app for their own number. Prints the answers as JSON.
ASK = """
import concurrent.futures, json, urllib.request
def ask(number):
    return json.load(urllib.request.urlopen(f"http://127.0.0.1/import/{number}", timeout=60))
with concurrent.futures.ThreadPoolExecutor(8) as visitors:
    print(json.dumps(list(visitors.map(ask, range(40)))))
"""


def test_threads_sockets_and_databases_of_the_import_work_in_each_worker(machine):
    machine.ssh("sudo sh -s", stdin=remote_scripts.text("await-workers.sh"), timeout=300)

    def ask():
        return json.loads(machine.ssh("python3 -", stdin=ASK, timeout=300).stdout)

    answers, later = ask(), ask()
    assert [answer["answers"] for answer in answers] == [[str(number)] * 2 for number in range(40)]
    workers = {answer["pid"] for answer in answers}
    assert len(workers) >= 2
    assert all(answer["pid"] == answer["imported by"] for answer in answers)
    # Each worker's own thread goes on.
    for pid in workers & {answer["pid"] for answer in later}:
        ticks = [max(answer["ticks"] for answer in group if answer["pid"] == pid) for group in (answers, later)]
        assert 0 < ticks[0] < ticks[1]


def test_steps_jobs_and_data(machine):
    def read(name):
        return machine.ssh(f"sudo cat /var/lib/app/instance/{name}", check=False).stdout.splitlines()

    assert len(read("steps")) == 1
    deadline = time.monotonic() + 90
    while not read("ticks") and time.monotonic() < deadline:
        time.sleep(2)
    assert read("ticks")
    # An app's own error seldom names the folder, and never the key.
    machine.ssh("curl -s http://127.0.0.1/vain?folder=uploads")
    said = machine.ssh("sudo journalctl --namespace=* -q -b -u app").stdout
    assert "uploads cannot be written" in said and "writable: [uploads]" in said
    before = len(read("ticks"))
    machine.reboot()
    machine.ssh(AWAIT_BOOT, check=False, timeout=900)
    assert len(read("steps")) == 2
    assert len(read("ticks")) >= before
    # The stand-ins came with the seed: without it, and without real secrets, the machine says what is missing.
    machine.ssh(
        "sudo rm /run/app-check/env; sudo systemctl stop app.socket app; sudo systemctl start app-setup", check=False
    )
    said = machine.ssh("sudo journalctl -q -b -u app-setup").stdout
    assert "missing secrets: SECRET_KEY, SPARE_KEY" in said
    assert "This site waits for its settings." in machine.ssh("curl -s http://127.0.0.1/").stdout
    for name in ("SECRET_KEY", "SPARE_KEY"):
        machine.ssh(f"sudo app-secret {name}", stdin=f'{name} is "kept" $here\n')
    assert machine.ssh("sudo systemctl start app-setup && curl -s http://127.0.0.1/steps").stdout


#: A wrong line in each file that people write, with a right one; and the fault that is reported of each.
WRONG = {
    "domains": "shop.example\nshop, the other one\n",
    "env": "MOOD=good\nexport MOOD=bad\n",
    "secrets.env": 'SPARE="a\nSPARE_TWO="b c"\n',
    "email": "me at shop.example\n",
}
FAULTS = (
    "/etc/app/domains, line 2: not a domain name", "/etc/app/email, line 1: not an address",
    "/etc/app/env, line 2: not NAME=value", "/etc/app/secrets.env, line 1: not NAME=value",
)  # fmt: skip


def checked(name):
    """The check in a name of pytest's."""
    return name.rpartition("::")[2].replace("[ssh://machine]", "")


def test_wrong_settings_leave_the_site_up_also_after_a_reboot(machine, tmp_path):
    for name, text in WRONG.items():
        machine.ssh(f"sudo install -m 600 /dev/stdin /etc/app/{name}", stdin=text)
    ask = "curl -sk -o /dev/null -w '%{http_code}' --resolve shop.example:443:127.0.0.1 https://shop.example/"
    for boot in (1, 2):
        machine.ssh("sudo systemctl start app-setup", timeout=300)
        assert machine.ssh(ask).stdout == "200"
        environment = machine.ssh("sudo cat /proc/$(pgrep -o -u app uwsgi)/environ").stdout.split("\0")
        assert {"MOOD=good", "SPARE_TWO=b c"} <= set(environment)
        assert not any(line.startswith("SPARE=") for line in environment)
        journal = machine.ssh("sudo journalctl -q -b -o cat -p err").stdout
        for fault in FAULTS:
            assert f"{fault}, so ignored" in journal
            assert machine.tail(10_000).count(fault) >= boot
        # No value of a secret is told.
        assert '"a' not in journal
        if boot == 1:
            machine.reboot()
            machine.ssh(AWAIT_BOOT, check=False, timeout=900)
    failures = proof.run_checks(machine, ["machine"], tmp_path).failures
    assert [checked(name) for name, _ in failures] == ["test_no_line_of_the_machine_s_settings_is_wrong"], failures
    assert all(fault in failures[0][1] for fault in FAULTS)


def test_limits_are_what_the_recipe_says(machine):
    """Large cookies, big uploads, long requests, server-sent events, memory that is written and then run."""

    def ask(path, *options):
        words = " ".join(options)
        return machine.ssh(f"curl -sk {words} https://127.0.0.1{path}", check=False, timeout=200).stdout

    # What browsers send at most, of one site: some 50 cookies, of 4 KiB each; servers take less. Here 15 KiB.
    machine.ssh("python3 -c \"print('Cookie: ' + 'c=' + 'x' * 15000)\" > /tmp/cookies")
    assert ask("/cookies", "-H @/tmp/cookies") == "15002"
    machine.ssh("truncate -s 39M /tmp/upload")
    assert ask("/upload", "-X POST -T /tmp/upload") == str(39 << 20)
    machine.ssh("truncate -s 41M /tmp/upload")
    assert ask("/upload", "-X POST -T /tmp/upload -o /dev/null -w '%{http_code}'") == "413"
    # Longer than the 60 s there are without a word in the recipe.
    assert ask("/slow") == "at last"
    # The first event is there long before the last.
    assert ask("/events", "-N --max-time 8").startswith("data: 0\n\ndata: 1\n\n")
    assert ask("/jit") == "written and run"
    machine.ssh("sudo sh -s", stdin="rm /run/systemd/system/app*.service.d/60-allow.conf; systemctl daemon-reload")
    machine.ssh("sudo systemctl restart app", timeout=200)
    assert ask("/jit", "-o /dev/null -w '%{http_code}'") == "500"


def test_the_checks_see_what_is_broken(machine, tmp_path):
    assert proof.run_checks(machine, ["machine"], tmp_path).failures == ()
    for breakage in BREAKAGES:
        machine.ssh("sudo sh -s", stdin=breakage, check=False)
    failed = {checked(name) for name, _ in proof.run_checks(machine, ["machine"], tmp_path).failures}
    assert set(BREAKAGES.values()) - failed == set()


def test_a_kernel_and_grub_upgrade_still_boots(machine, tmp_path):
    # What apt does for an upgrade, it does for a reinstallation: initramfs, grub.cfg, boot sectors.
    packages = (
        "grub-pc-bin grub-efi-amd64-signed shim-signed $(dpkg-query -W -f '${Package}\\n' 'linux-image-6*-cloud-amd64')"
    )
    # A network that looks into TLS has an authority of its own; this host knows it, the machine does not.
    authorities = Path("/etc/ssl/certs/ca-certificates.crt").read_text()
    machine.ssh("cat > /tmp/authorities.crt", stdin=authorities)
    apt = "apt-get -q -y -o Acquire::https::CAInfo=/tmp/authorities.crt"
    script = f"export DEBIAN_FRONTEND=noninteractive; {apt} update && {apt} install --reinstall {packages}"
    said = machine.ssh("sudo sh -es", stdin=script, timeout=1500).stdout
    assert "Installing for i386-pc platform" in said
    assert "Installation finished. No error reported." in said
    machine.reboot()
    serves = f"{AWAIT_BOOT}; systemctl is-active app; cat /proc/cmdline"
    assert machine.ssh(serves, timeout=300).stdout.startswith("active\nBOOT_IMAGE=")
    machine.ssh("sync")
    machine.stop()
    if not OVMF.is_file():
        pytest.skip("Debian's package ovmf, a UEFI for QEMU, is not installed: BIOS alone was tried")
    upgraded = tmp_path / "vm" / "overlay.qcow2"
    again = proof.start(upgraded, tmp_path / "uefi", tmp_path / "key", STAND_INS, qemu.VmOptions(firmware=OVMF))
    try:
        again.await_ssh()
        assert again.ssh(f"test -d /sys/firmware/efi && {serves}", timeout=300).stdout.startswith("active\n")
    finally:
        again.stop()
