# Build a wheel from the one source in /tmp/input/source, and write it to standard output as a tar archive.
#
# pip installs the build requirements in /tmp/input/wheels, and runs the source's build backend. For an app with its own
# interpreter, that one does it. The log goes to standard error. enter.sh runs these lines as root of the namespaces, and
# defines `unprivileged`.
# shellcheck shell=sh
python=python3
if test -f /tmp/input/python/python.tar.gz; then
    unprivileged tar --no-same-owner -C /tmp -xf /tmp/input/python/python.tar.gz
    python=/tmp/python/bin/python3
    # Its own settings name the compiler that it was built with.
    export CC=cc CXX=c++
fi
unprivileged "$python" -m pip wheel --no-input --disable-pip-version-check --no-cache-dir --no-color --progress-bar=off \
    --no-deps --use-pep517 --no-index --find-links=/tmp/input/wheels --wheel-dir=/tmp/wheels /tmp/input/source/* >&2
unprivileged tar --create --directory=/tmp/wheels .
