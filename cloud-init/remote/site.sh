#!/bin/sh
# Print the site of the current release, one line each: the names of the site, the recipe of the release, and the
# release's digest. Then print the record of the author's server. Fail if the release has no crawler.
set -eu

cd /srv/app/current
test -e settings/crawl.py
tr '\n' ' ' < /run/app/names || true
echo
tr -d '\n' < recipe.json
echo
basename "$(readlink -f .)"
cat /var/lib/app-author.json 2> /dev/null || true
