#!/bin/bash
# probe.sh writes to /out/log how the units behave on the machine that boot.sh made; boot_test.go knows what it should say.
exec > /out/log 2>&1
show() { systemctl show consentgate -p "$1" --value; }
greeting() { timeout 10 bash -c 'exec 3<> "/dev/tcp/${2-127.0.0.1}/$1" && head -n 1 <&3' greeting "$@" || echo "no greeting within 10 s"; }
until_is() { # PROPERTY VALUE: waits for it, up to 20 s
	for _ in $(seq 200); do [ "$(show "$1")" = "$2" ] && break; sleep 0.1; done
	echo "$1=$(show "$1")"
}
# As enabled: with the service its socket is started.
systemctl enable consentgate-smtp.socket 2> /dev/null
systemctl start consentgate-smtp.socket
echo "by the socket: $(greeting 587)"       # which starts the service
[ "$(show ActiveState)" = active ] || { echo "the service does not start"; systemctl exit; exit; }   # its log says why
echo "by the service: $(greeting 2525)"
echo "$(show ActiveState), $(show StatusText)"
echo "by IPv6: $(greeting 2525 ::1)"
grep -E '^Max (open files|core file size) ' "/proc/$(show MainPID)/limits" | tr -s ' '
grep '^Umask:' "/proc/$(show MainPID)/status" | tr -s '\t' ' '
printf 'From: news@example.org\r\nTo: anna@example.net\r\nSubject: Sale\r\n\r\nHello\r\n' > /tmp/mail
curl -sS -m 10 --mail-from news@example.org --mail-rcpt anna@example.net -T /tmp/mail 'smtp://[::1]:2525' && echo "sent"
grep -o '"copies are signed".*' /out/consentgate.log
timeout 10 openssl s_client -starttls smtp -connect 127.0.0.1:587 < /dev/null 2> /dev/null | grep '^subject='
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$(show MainPID)/status" | tr -s '\t ' ' '
stat -c '%n %a %U' /var/lib/consentgate /var/lib/consentgate/key /var/lib/consentgate/spool /run/consentgate /run/consentgate/smtp
(set -a; . /etc/consentgate/environment; setpriv --reuid consentgate --regid consentgate --clear-groups /opt/consentgate consent get anna@example.org --config /etc/consentgate/consentgate.toml) | head -n 1
systemctl reload consentgate && until_is StatusText 'The configuration was read again.'
echo 'nonsense = 1' >> /etc/consentgate/consentgate.toml
systemctl reload consentgate && until_is StatusText 'The configuration was not taken over: it holds a mistake, which the log names. What was in force stays.'
sed -i '/nonsense/d' /etc/consentgate/consentgate.toml
systemctl restart consentgate && echo "after a restart: $(greeting 587)"
before=$(show MainPID)
kill -STOP "$before"                        # it hangs
until_is NRestarts 1
until_is ActiveState active
echo "after the watchdog: $(greeting 587), another process: $([ "$before" != "$(show MainPID)" ] && echo yes)"
kill -ABRT "$(show MainPID)"                # it crashes
until_is NRestarts 2
until_is ActiveState active
echo "after a crash: $(greeting 587)"
systemctl stop consentgate-smtp.socket consentgate
echo "stopped: $(show Result), status $(show ExecMainStatus)"
echo 'nonsense = 1' >> /etc/consentgate/consentgate.toml
systemctl start consentgate 2> /dev/null || echo "with a mistake: $(show ExecMainStatus)"
until_is ActiveState failed
systemctl start consentgate-smtp.socket     # senders start it until systemd has enough
for _ in $(seq 100); do
	systemctl is-active -q consentgate-smtp.socket || break
	greeting 587 > /dev/null 2>&1
done
echo "after many starts: socket $(systemctl show consentgate-smtp.socket -p Result --value)"
sed -i '/nonsense/d' /etc/consentgate/consentgate.toml
systemctl reset-failed consentgate
systemctl start consentgate && echo "mended: $(greeting 587)"
systemctl stop consentgate-smtp.socket consentgate
rm /etc/systemd/system/consentgate.service.wants/consentgate-smtp.socket
systemctl daemon-reload
systemctl start consentgate 2> /dev/null || echo "without its socket: $(show ExecMainStatus), $(show ActiveState), restarted $(show NRestarts)"
grep -o 'consentgate: listen on systemd.*' /out/consentgate.log | tail -n 1
echo end
systemctl exit
