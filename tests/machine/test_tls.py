"""HTTPS, as Mozilla's guidelines 6.0 (intermediate) want it, asked of the running server by openssl."""

import re
import ssl

import pytest


def connect(host, name, *options):
    """`openssl s_client` to the machine itself; its output."""
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


def test_key_exchange_is_safe_from_tomorrow(host, name):
    if int(host.run("openssl version | sed 's/OpenSSL \\([0-9]*\\)\\.\\([0-9]*\\).*/\\1\\2/'").stdout) < 35:
        pytest.skip("X25519MLKEM768 came with OpenSSL 3.5")
    assert "X25519MLKEM768" in connect(host, name, "-groups", "X25519MLKEM768")


def test_the_private_key_is_root_s_alone(host):
    path = host.run("sed -n 's/^ssl_certificate_key \\(.*\\);/\\1/p' /run/app/nginx/certificate.conf").stdout.strip()
    key = host.file(host.run("readlink -f %s", path).stdout.strip())
    assert key.user == "root"
    assert key.mode & 0o077 == 0


def test_the_certificate_is_renewed_in_time(host, trusted):
    """certbot renews after two thirds of a life: less than a sixth means that it has failed for long."""
    if not trusted:
        pytest.skip("the placeholder is this machine's own")
    said = host.run("openssl x509 -noout -dates -in /etc/letsencrypt/live/app/fullchain.pem").stdout
    begin, end = (ssl.cert_time_to_seconds(text) for text in re.findall("=(.* GMT)", said))
    left = end - int(host.run("date +%s").stdout)
    assert left > (end - begin) / 6, f"{left / 86400:.1f} of {(end - begin) / 86400:.1f} days are left"


def test_names_without_a_certificate_are_looked_at(host, covers):
    """Until each name has its certificate, the timer is on; `bake` and its proof are the exception."""
    names = host.run("cat /run/app/names").stdout.split()
    if not names or host.file("/run/app-check").exists:
        pytest.skip("no names, or a machine that is only checked")
    if not host.file("/run/systemd/system/app-look.timer").exists:
        pytest.skip("a document that had no room for it: `bake push` brings it")
    used = host.run("sed -n 's/^ssl_certificate \\(.*\\);/\\1/p' /run/app/nginx/certificate.conf").stdout.strip()
    said = host.run("openssl x509 -noout -ext subjectAltName -in %s", used).stdout
    covered = "/live/" in used and all(covers(said, name) for name in names)
    assert covered or host.run("systemctl is-active app-look.timer").stdout.strip() == "active"
