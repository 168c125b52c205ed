#!/bin/sh
# Makes .venv with nox in it, from hashed pins. The rest is nox's to do.
# Debian marks its own Python as externally managed: hence a virtualenv.
set -eu
cd "$(dirname "$0")"

lock=locks/nox.txt
if cmp -s "$lock" .venv/made-from; then
    exit 0
fi

if ! python3 -c 'import ensurepip, venv' 2> /dev/null; then
    echo "installing Debian packages: python3 python3-venv" >&2
    root=
    [ "$(id -u)" = 0 ] || root=sudo
    $root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install python3 python3-venv >&2 ||
        { $root apt-get -q update >&2 || true
          $root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install python3 python3-venv >&2; }
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bake needs Python 3.11 or newer; this is " + sys.version)'

rm -rf .venv
python3 -m venv .venv
.venv/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --requirement "$lock" >&2
cp "$lock" .venv/made-from
