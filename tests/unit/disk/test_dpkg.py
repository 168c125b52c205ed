"""The status file of dpkg: binary packages, and the sources that they were built from."""

from __future__ import annotations

from bake.disk import dpkg

STATUS = """\
Package: nginx
Status: install ok installed
Version: 1.26.3-3+deb13u1
Description: web server
 that serves: pages

Package: libssl3t64
Status: install ok installed
Source: openssl
Version: 3.5.1-1

Package: libc6
Status: hold ok installed
Source: glibc (2.41-12)
Version: 2.41-12+b1

Package: linux-image-6.12.48-cloud-amd64
Status: install ok installed
Source: linux-signed-amd64 (6.12.48+1)
Version: 6.12.48-1
Built-Using: linux (= 6.12.48-1)

Package: age
Status: install ok installed
Version: 1.2.1-1+b5
Source: age (1.2.1-1)
Built-Using: golang-1.24 (= 1.24.4-1), golang-golang-x-sys (= 0.22.0-1)

Package: gone
Status: deinstall ok config-files
Version: 1
"""


def test_each_installed_package_has_a_version() -> None:
    versions = dpkg.package_versions(STATUS)
    assert versions["libc6"] == "2.41-12+b1" and versions["nginx"] == "1.26.3-3+deb13u1"
    assert "gone" not in versions


def test_a_package_has_the_version_of_its_source() -> None:
    sources = dpkg.source_versions(STATUS)
    assert sources["glibc"] == ("2.41-12",) and sources["openssl"] == ("3.5.1-1",)
    assert sources["nginx"] == ("1.26.3-3+deb13u1",) and "gone" not in sources


def test_a_signed_package_has_the_source_of_its_code() -> None:
    sources = dpkg.source_versions(STATUS)
    assert sources["linux"] == ("6.12.48-1",)
    # Debian builds these again itself, under another version of the package.
    assert "golang-1.24" not in sources


def test_a_source_may_have_several_versions() -> None:
    second = STATUS.replace("6.12.48-1", "6.12.50-1").replace("6.12.48-cloud", "6.12.50-cloud")
    assert dpkg.source_versions(f"{STATUS}\n{second}")["linux"] == ("6.12.48-1", "6.12.50-1")
