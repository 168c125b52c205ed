"""Check HTTPS against Mozilla's guidelines 6.0 (intermediate), with openssl and the running server."""

import re
import ssl

import pytest


def connect(host, name, *options):
    """Run `openssl s_client` on the machine, connect to the machine itself, and return the output."""
    words = " ".join(options)
    return host.run(f"openssl s_client -connect 127.0.0.1:443 -servername %s {words} </dev/null 2>&1", name).stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_current_versions_are_spoken(host, name, version):
    assert "Cipher is (NONE)" not in connect(host, name, version)


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(host, name, version):
    assert "Cipher is (NONE)" in connect(host, name, version, "-cipher", "ALL:@SECLEVEL=0")


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(host, name, cipher):
    assert "Cipher is (NONE)" in connect(host, name, "-tls1_2", "-cipher", cipher)


def test_the_key_exchange_is_post_quantum(host, name):
    if int(host.run("openssl version | sed 's/OpenSSL \\([0-9]*\\)\\.\\([0-9]*\\).*/\\1\\2/'").stdout) < 35:
        pytest.skip("OpenSSL supports X25519MLKEM768 since version 3.5")
    assert "X25519MLKEM768" in connect(host, name, "-groups", "X25519MLKEM768")


def test_the_private_key_is_root_s_alone(host):
    path = host.run("sed -n 's/^ssl_certificate_key \\(.*\\);/\\1/p' /run/app/nginx/certificate.conf").stdout.strip()
    key = host.file(host.run("readlink -f %s", path).stdout.strip())
    assert key.user == "root"
    assert key.mode & 0o077 == 0


def test_the_certificate_is_renewed_in_time(host, trusted):
    """certbot renews after two thirds of the lifetime. If less than a sixth is left, renewals have failed for long."""
    if not trusted:
        pytest.skip("the machine has only its placeholder certificate")
    dates = host.run("openssl x509 -noout -dates -in /etc/letsencrypt/live/app/fullchain.pem").stdout
    begin, end = (ssl.cert_time_to_seconds(text) for text in re.findall("=(.* GMT)", dates))
    remaining = end - int(host.run("date +%s").stdout)
    assert remaining > (end - begin) / 6, f"{remaining / 86400:.1f} of {(end - begin) / 86400:.1f} days are left"


def test_app_look_is_active_until_each_name_has_a_certificate(host, covers):
    """app-look.timer runs until each name has its certificate, except during a bake and its proof."""
    names = host.run("cat /run/app/names").stdout.split()
    if not names or host.file("/run/app-check").exists:
        pytest.skip("the machine has no names, or is only checked")
    if not host.file("/run/systemd/system/app-look.timer").exists:
        pytest.skip("the document had no room for certificates: `bake push` adds them")
    path = host.run("sed -n 's/^ssl_certificate \\(.*\\);/\\1/p' /run/app/nginx/certificate.conf").stdout.strip()
    alternative_names = host.run("openssl x509 -noout -ext subjectAltName -in %s", path).stdout
    covered = "/live/" in path and all(covers(alternative_names, name) for name in names)
    assert covered or host.run("systemctl is-active app-look.timer").stdout.strip() == "active"
