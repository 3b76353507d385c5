#!/bin/sh
# First process of the guest after the initramfs: this machine's own files, read-only, under
# Debian's kernel; what must be written lies in memory. Powers off when the story ends.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
modprobe -d "$MODULES" mac80211_hwsim radios=7
# what the kernel would ask for by itself, had it its modules in /lib/modules
modprobe -d "$MODULES" -a overlay af_packet ccm ctr cmac gcm aes_generic ghash_generic
mount -t tmpfs tmpfs /run
# the clone may lie in /tmp, so that is not hidden, only made writable
mkdir /run/tmp /run/tmp.work
mount -t overlay overlay -o lowerdir=/tmp,upperdir=/run/tmp,workdir=/run/tmp.work /tmp
mount -t tmpfs tmpfs /var/lib
ip link set lo up
cd "$REPOSITORY" || exit 1
PYTHONPATH=$REPOSITORY "$PYTHON" -m tests.lab.wifi.play </dev/null 2>&1
echo "guest: the story ended with $?"
echo o >/proc/sysrq-trigger
while :; do :; done
