"""List the Debian packages with the headers that the sources of well-known Python packages need.

Each builder root contains all of them, so that one root per Debian version builds most apps. `build_packages` in
bake.yaml adds further ones.
"""

from __future__ import annotations

#: Python package to Debian packages, from each project's own instructions for a build from source.
HEADERS = {
    "argon2-cffi-bindings": ("libffi-dev",),
    "cffi": ("libffi-dev",),
    "cryptography": ("libssl-dev", "libffi-dev"),
    "lxml": ("libxml2-dev", "libxslt1-dev"),
    "m2crypto": ("libssl-dev", "swig"),
    "mysqlclient": ("default-libmysqlclient-dev",),
    "pillow": ("libfreetype-dev", "libjpeg-dev", "zlib1g-dev"),
    "psycopg": ("libpq-dev",),
    "psycopg2": ("libpq-dev",),
    "psycopg2-binary": ("libpq-dev",),
    "pycurl": ("libcurl4-openssl-dev",),
    "pyodbc": ("unixodbc-dev",),
    "python-ldap": ("libldap-dev", "libsasl2-dev"),
    "pyyaml": ("libyaml-dev",),
    "xmlsec": ("libxmlsec1-dev",),
}
#: What every build needs: the compilers, Python's headers, pip, and `mount` for the builder root itself.
TOOLS = ("g++", "gcc", "libc6-dev", "make", "mount", "pkg-config", "python3-dev", "python3-pip")


def builder_packages(extra_packages: tuple[str, ...]) -> tuple[str, ...]:
    """Return the packages of a builder root, sorted, with those in `build_packages`."""
    return tuple(sorted({*TOOLS, *extra_packages}.union(*HEADERS.values())))
