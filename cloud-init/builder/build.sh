#!/bin/sh
# Build a wheel from the one source in /tmp/input/source, and write it to standard output as a tar archive.
#
# pip installs the build requirements in /tmp/input/wheels, and runs the source's build backend. enter.sh starts this
# script in a builder root. The log goes to standard error.
set -eu
python3 -m pip wheel --no-input --disable-pip-version-check --no-cache-dir --no-color --progress-bar=off \
    --no-deps --use-pep517 --no-index --find-links=/tmp/input/wheels --wheel-dir=/tmp/wheels /tmp/input/source/* >&2
exec tar --create --directory=/tmp/wheels .
