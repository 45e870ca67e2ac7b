#!/bin/busybox sh
# First process of a guest of `cargo xtask vm`. Lines that begin with `vm:` are read by the host.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root LANG=C
if [ "$1" != second ] && [ ! -e /second ]; then
    # Another root than the first one, which nobody can pivot away from.
    /bin/busybox mount -t tmpfs -o size=80% new /new
    for entry in bin lib lib64 usr etc modules root var run tmp dev proc sys init; do
        [ -e "/$entry" ] && /bin/busybox cp -a "/$entry" /new/
    done
    /bin/busybox touch /new/second
    exec /bin/busybox switch_root /new /init second
fi
for applet in $(/bin/busybox --list); do
    [ -e "/bin/$applet" ] || /bin/busybox ln -s busybox "/bin/$applet"
done
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 none /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
echo "vm: kernel $(uname -r)"
while read -r module; do
    insmod "/modules/$module" || echo "vm: fact module $module was not loaded"
done </modules/order
ip link set lo up
sysctl -qw net.core.bpf_jit_enable=1
sysctl -qw kernel.printk='3 3 1 3'
export RUST_BACKTRACE=1 LAB_REVERE=/bin/revere
[ -e /bin/revere ] || skip='--skip namespaces::'
for word in $(cat /proc/cmdline); do
    case "$word" in only=*) only="${word#only=}" ;; esac
done
/bin/it $only $skip --test-threads=1 --nocapture 2>&1
echo "vm: exit $?"
poweroff -f
