#!/bin/sh
# Run a build in a builder root, as a user without any privilege: enter.sh ROOT INPUT SECONDS.
#
# bake starts this script as root of new mount, PID, network, IPC and UTS namespaces, with an almost empty environment.
# Without root on the host, it is root of a user namespace. The build sees the root (read-only), a copy of the files in
# INPUT, and a /tmp that vanishes with the namespace. Nothing else of the host is mounted. INPUT has the steps of the
# build as build.sh, which is wheel.sh or assets.sh.
set -eu
root=$1 input=$2 seconds=$3
#: Debian reserves the user ids from 65000 to 65533 (Debian Policy 9.2.2), so no user of the host has this one.
user=65000

mount --bind "$root" "$root"
# A user namespace may not remove options that the host's mount has, such as noatime.
options=$(findmnt --noheadings --output VFS-OPTIONS --target "$root")
mount -o "remount,bind,$options,ro,nosuid,nodev" "$root"
mount -t proc -o nosuid,nodev,noexec,hidepid=2 proc "$root/proc"
mount -t tmpfs -o nosuid,mode=755 tmpfs "$root/dev"
for name in null zero full random urandom; do
    : > "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir -m 1777 "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"
# Copies: the cache is in a folder that the user of the build may not enter.
cp -R "$input" "$root/tmp/input"
chmod -R u=rwX,go=rX "$root/tmp/input"
mkdir "$root/tmp/home"
chown "$user:$user" "$root/tmp/home"

cd "$root"
pivot_root . mnt
umount --lazy /mnt
cd /tmp/home
# Run a command of the build. At most 4 GiB of memory for a process, 2 GiB for a file, and 1024 processes. A change of
# the user resets the signal that `unshare --kill-child` had set, so setpriv sets it again: nothing outlives bake.
unprivileged() {
    prlimit --data=4294967296 --fsize=2147483648 --nproc=1024 --core=0 \
        setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
        --pdeathsig=KILL timeout --signal=KILL "$seconds" "$@"
}
. /tmp/input/build.sh
