#!/bin/sh
# Wait until each worker has loaded the app, at most 280 s. A worker that loads the app, or waits for its turn, shows in
# /proc/locks (see wsgi.py). The site serves from the first worker on, but on a small machine it answers slowly while
# the others load a large app.
set -eu

uptime() { cut -d . -f 1 /proc/uptime; }

cd /tmp
end=$(($(uptime) + 280))
quiet=0
while [ $quiet -lt 2 ] && [ "$(uptime)" -lt $end ]; do
    quiet=$((quiet + 1))
    for inode in $(stat -c %i systemd-private-*-app*.service-*/tmp/first systemd-private-*-app*.service-*/tmp/[0-9] \
        2> /dev/null); do
        if grep -q ":$inode " /proc/locks; then quiet=0; fi
    done
    sleep 1
done
