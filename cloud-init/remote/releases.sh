#!/bin/sh
# Define functions that print the digests of releases, for the script that includes this one.
set -eu

# Print the release that the machine serves, or tries to serve.
current() { basename "$(readlink /srv/app/current)"; }

# Print the release to go back to. After an interrupted push, it is the release before the one on trial.
previous() {
    tried=$(basename "$(readlink /srv/app/tried-after)")
    if [ -n "$tried" ] && [ "$tried" != "$(current)" ]; then echo "$tried"; else basename "$(readlink /srv/app/previous)"; fi
}
