# resolved.sh PROGRAM LIBRARIES SERVER: systemd-resolved without systemd, in a mount namespace of its own.
set -e
program=$1 libraries=$2 server=$3
work=$(mktemp -d)
cp /etc/passwd /etc/group "$work"
grep -q '^systemd-resolve:' "$work/passwd" || echo 'systemd-resolve:x:996:996::/:/usr/sbin/nologin' >>"$work/passwd"
grep -q '^systemd-resolve:' "$work/group" || echo 'systemd-resolve:x:996:' >>"$work/group"
mount --bind "$work/passwd" /etc/passwd
mount --bind "$work/group" /etc/group
mount -t tmpfs none /run
mkdir -p /run/systemd/resolved.conf.d
cat >/run/systemd/resolved.conf.d/lab.conf <<END
[Resolve]
DNS=$server
FallbackDNS=
Domains=~.
LLMNR=no
MulticastDNS=no
DNSSEC=no
DNSStubListener=yes
END
export LD_LIBRARY_PATH="$libraries" SYSTEMD_LOG_TARGET=console
exec "$program"
