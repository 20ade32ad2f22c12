#!/bin/bash
# boot.sh ROOT PROGRAM UNITS OUT makes a machine of its own in the empty folder ROOT, with this machine's /usr, and boots
# this machine's systemd there, as process 1 of namespaces that unshare(1) has made. It installs PROGRAM and the files of
# the folder UNITS as README.md says, and runs probe.sh, which writes what it sees to OUT/log and ends the machine.
set -eu
root=$1 program=$2 units=$3 out=$4
ip link set lo up
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
cd "$root"
mkdir -p usr etc/systemd/system etc/sysusers.d etc/tmpfiles.d proc sys dev run tmp var/tmp var/lib home root opt out old
chmod 1777 tmp var/tmp
mount --bind /usr usr
for l in bin sbin lib lib64; do ln -s usr/$l $l; done
echo 'root:x:0:0::/root:/bin/sh' > etc/passwd
printf 'root:x:0:\nredis:x:900:\n' > etc/group
echo 0123456789abcdef0123456789abcdef > etc/machine-id
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for d in null zero full random urandom; do touch dev/$d && mount --bind /dev/$d dev/$d; done
mkdir dev/shm dev/pts
mount -t devpts devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 tmpfs run
mount --bind "$out" out

# As README.md says; the program is not in this machine's /usr, and what the units wait for at a boot is not there.
cp "$program" opt/consentgate
cp "$units"/*.service "$units"/*.socket etc/systemd/system/
sed -i 's|/usr/local/bin/consentgate|/opt/consentgate|; /^After=/d; /^Wants=/d' etc/systemd/system/consentgate.service
cp "$units"/consentgate.sysusers.conf etc/sysusers.d/consentgate.conf
cp "$units"/consentgate.tmpfiles.conf etc/tmpfiles.d/consentgate.conf
systemd-sysusers --root="$root" consentgate.conf
systemd-tmpfiles --root="$root" --create consentgate.conf
chroot . /opt/consentgate init --user consentgate --yes --hostname gate.example.org --smarthost smtp://127.0.0.1:1 \
	--smarthost-user gate --public-url https://mail.example.org --company "Example Shop" --dkim-domain example.org --dkim-selector gate
# The first listen is that of [smtp].
sed -i '0,/^#listen = .*/s||listen = ["127.0.0.1:2525", "[::1]:2525", "systemd:smtp", "unix:/run/consentgate/smtp"]|' etc/consentgate/consentgate.toml
# The smarthost is boot_test.go's; it asks for the password of the environment.
sed -i 's|smtp://127.0.0.1:1"|lmtp+unix:///out/sink"|' etc/consentgate/consentgate.toml
# As README.md says: in single quotes, and then systemd and a shell read the same.
printf '%s\n' "SMARTHOST_PASSWORD='se\$cret & \"so\"; #x'" > etc/consentgate/environment
read_by_shell=$(set -a; . etc/consentgate/environment; printf %s "$SMARTHOST_PASSWORD")
[ "$read_by_shell" = 'se$cret & "so"; #x' ] || { echo "a shell reads $read_by_shell" >&2; exit 1; }
# A certificate as certbot keeps it, and README.md's script that gives the service copies.
sed -i '0,/^#tls_cert = .*/s||tls_cert = "/etc/consentgate/tls/cert.pem"|; 0,/^#tls_key = .*/s||tls_key = "/etc/consentgate/tls/key.pem"|' etc/consentgate/consentgate.toml
mkdir -p -m 700 etc/letsencrypt/live/gate
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=gate.example.org -days 30 -keyout etc/letsencrypt/live/gate/privkey.pem -out etc/letsencrypt/live/gate/fullchain.pem 2> opt/openssl.log
sed -n '/^    #!\/bin\/sh$/,/^$/s/^    //p' "$units"/../README.md > opt/certificate
RENEWED_LINEAGE=/etc/letsencrypt/live/gate chroot . /bin/sh /opt/certificate
systemd-tmpfiles --root="$root" --create consentgate.conf
mkdir etc/systemd/system/consentgate.service.d
printf '[Service]\nTimeoutStartSec=15s\nWatchdogSec=3s\nTimeoutAbortSec=1s\nRestartSec=100ms\nSupplementaryGroups=redis\nStandardError=append:/out/consentgate.log\n' > etc/systemd/system/consentgate.service.d/fast.conf
ln -s /dev/null etc/systemd/system/systemd-udevd.service   # the devices are not this machine's
ln -s /dev/null etc/systemd/system/systemd-udevd-kernel.socket
ln -s /dev/null etc/systemd/system/systemd-udevd-control.socket
cp "$(dirname "$0")/probe.sh" root/
printf '[Unit]\nDefaultDependencies=no\nWants=probe.service\n' > etc/systemd/system/probe.target
printf '[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/bash /root/probe.sh\n' > etc/systemd/system/probe.service

pivot_root . old
umount -l /old
exec env -i container=other PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd --system --unit=probe.target --log-target=null --show-status=0
