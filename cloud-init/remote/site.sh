#!/bin/sh
# Print the site of the current release, one line each: the names of the site, the recipe of the release, and the
# release's digest. Then print the record of the author's server. Fail if the release has no crawler.
# A machine without names is visited at its address, and as localhost under `bake run`.
set -eu

cd /srv/app/current
test -e settings/crawl.py
names=$(tr '\n' ' ' < /run/app/names || true)
echo "${names:-localhost $(hostname -I | tr ' ' '\n' | grep -m 1 -F . || true)}"
tr -d '\n' < recipe.json
echo
basename "$(readlink -f .)"
cat /var/lib/app-author.json 2> /dev/null || true
