"""HTTPS, as Mozilla's guidelines 6.0 (intermediate) want it, asked of the running server by openssl."""

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
