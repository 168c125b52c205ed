#!/bin/sh
# Move the uploaded bundle to the path that app-setup reads, atomically. Runs as root on the instance.
set -eu

folder=/var/lib/app-incoming
mkdir -p "$folder"
cp /tmp/bundle.tar "$folder/.bundle"
mv "$folder/.bundle" "$folder/$(sha256sum /tmp/bundle.tar | cut -c 1-64).tar"
rm /tmp/bundle.tar
