#!/usr/bin/env bash
# Backup, loss and restore of a gateway with a Redis of its own, done for real: what each copy is worth. It speaks to
# loopback alone, keeps all in a folder of its own, and ends with status 1 where something is not as OPERATING.md says.
#
#	drill.sh CONSENTGATE    the program to drill with
set -euo pipefail
gate=$(realpath "$1")
work=$(mktemp -d)
cd "$work"
pids=()
finish() { for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT

step() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; cat serve.log >&2 || true; exit 1; }
# says TEXT COMMAND...: the command's output, of both kinds, holds TEXT.
says() { local want=$1; shift; local out; out=$("$@" 2>&1) || true; grep -qF -- "$want" <<<"$out" || fail "$* says: $out"; printf '   %s\n' "${out%%$'\n'*}"; }
# until COMMAND...: it succeeds within 20 s.
until_() { for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; fail "$* does not come to pass"; }
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# A smarthost that keeps the last message, once it is started.
sink_port=$(port)
start_sink() {
	python3 - "$sink_port" "$work/last.eml" <<'END' &
import os, socketserver, sys
class Sink(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda s: self.wfile.write(s.encode() + b"\r\n")
        say("220 sink.example.org")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                say("354 go on")
                text = b""
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    text += line
                with open(sys.argv[2] + ".new", "wb") as f:
                    f.write(text)
                os.rename(sys.argv[2] + ".new", sys.argv[2])
            elif verb == b"QUIT":
                say("221 bye")
                return
            say("250 ok")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
END
	pids+=($!)
	until_ eval '(exec 3<>/dev/tcp/127.0.0.1/$sink_port)'
}
send() {
	rm -f last.eml
	curl -sS --crlf "smtp://127.0.0.1:$smtp/client.example.org" --mail-from news@example.org --mail-rcpt "$1" -T - <<<$'From: news@example.org\nSubject: Hello\n\nHello'
}
# selectors: those of the last message's signatures.
selectors() { until_ test -s last.eml; tr -d '\r\n\t ' <last.eml | grep -oE ';s=(one|two);' | tr -d ';' | sort | sed 's/^/ /' | tr -d '\n'; }
signed() { send ben@example.org; [ "$(selectors)" = "$1" ] || fail "signed by$(selectors), not by$1"; printf '   signed by%s\n' "$1"; }
click() { curl -s -o /dev/null -w '%{http_code}' -d List-Unsubscribe=One-Click "http://127.0.0.1:$page/u/$1"; }

redis_port=$(port)
redis() { redis-cli -p "$redis_port" "$@"; }
cat >redis.conf <<END
bind 127.0.0.1
port $redis_port
dir $work/redis
save 3600 1
appendonly no
appendfsync everysec
END
start_redis() {
	redis-server redis.conf >redis.log 2>&1 &
	pids+=($!); redis_pid=$!
	until_ redis PING
	until_ eval '! redis PING | grep -q LOADING'
}
stop_redis() { kill "$redis_pid"; wait "$redis_pid" 2>/dev/null || true; }
# aof_on: OPERATING.md's lines that switch the append-only file on, waiting included: a Redis that writes its first one does not stop.
aof_on() {
	for c in "SET appendonly yes" "SET appendfsync always" REWRITE; do says OK redis CONFIG $c; done
	until_ eval '[ "$(redis INFO persistence | grep -cE "aof_(enabled:1|rewrite_in_progress:0|rewrite_scheduled:0|last_bgrewrite_status:ok)")" = 4 ]'
}
start() {
	"$gate" serve --config gate.toml >serve.log 2>&1 &
	pids+=($!); gate_pid=$!
	until_ grep -q 'consentgate is ready' serve.log
}
stop() { kill "$gate_pid" && { wait "$gate_pid" || true; }; }
ready() { curl -s "http://127.0.0.1:$admin/readyz"; }
consent() { "$gate" consent "$@" --config gate.toml; }
state() { consent get "$1" | grep -E "^  $2 " | awk '{ print $2 }'; }
is() { [ "$(state "$1" "$2")" = "$3" ] || fail "$2 of $1 is $(state "$1" "$2"), not $3"; printf '   %s: %s is %s\n' "$1" "$2" "$3"; }

mkdir -m 700 state redis backup
"$gate" keygen state/key
smtp=$(port) admin=$(port) page=$(port)
cat >gate.toml <<END
hostname = "gate.example.org"
key_file = "$work/state/key"
[smtp]
listen = ["127.0.0.1:$smtp"]
[smarthost]
urls = ["smtp://127.0.0.1:$sink_port"]
[delivery]
mode = "spool"
spool_dir = "$work/state/spool"
[consent]
store = "redis://127.0.0.1:$redis_port/0"
[rewrite]
opaque_links = "keep"
[unsubscribe]
base_url = "https://mail.example.org"
listen = "127.0.0.1:$page"
[admin]
listen = "127.0.0.1:$admin"
END
start_redis
start

step "People, and mail that waits since the smarthost is away"
consent set anna@example.org --mail subscribed --open granted --click granted --notice 2026-03 >/dev/null
consent set ben@example.org --mail subscribed --open granted --click granted --notice 2026-03 >/dev/null
consent set cleo@example.org --mail unsubscribed >/dev/null
send anna@example.org
says 'anna' "$gate" queue list --config gate.toml

step "Debian's Redis as it is: a snapshot of it, and appendonly yes in its file alone begins an empty one"
redis --rdb backup/redis.rdb >/dev/null
held=$(redis DBSIZE)
stop
stop_redis
sed -i 's/^appendonly .*/appendonly yes/' redis.conf
start_redis
printf '   keys: %s, and then %s\n' "$held" "$(redis DBSIZE)"
[ "$(redis DBSIZE)" = 0 ] || fail "it is not empty"
says 'lost its records' eval '"$gate" check-config --config gate.toml | grep "^store"'

step "The snapshot brought back: with appendonly no, and then switched on by CONFIG SET"
stop_redis
rm -rf redis/appendonlydir
install -m 660 backup/redis.rdb redis/dump.rdb
sed -i 's/^appendonly .*/appendonly no/' redis.conf
start_redis
says '2 ' redis GET consentgate
aof_on
stop_redis
start_redis
[ "$(redis DBSIZE)" = "$held" ] || fail "it holds $(redis DBSIZE) keys, not $held"
says yes eval 'redis CONFIG GET appendonly | tail -1'
start
is cleo@example.org mail unsubscribed

step "The backup: key file, configuration, Redis; the spool with the gateway stopped for that moment"
cp -p state/key gate.toml backup/
stop
cp -a state/spool backup/spool
start
redis BGREWRITEAOF >/dev/null
until_ eval 'redis INFO persistence | grep -q aof_rewrite_in_progress:0'
cp -a redis/appendonlydir backup/appendonlydir

step "Behind the backup: an opt-out and a withdrawal; and the withdrawals kept apart"
consent set anna@example.org --mail unsubscribed >/dev/null
consent set ben@example.org --open denied >/dev/null
consent export --with-addresses --withdrawn -o backup/withdrawn.ndjson
cat backup/withdrawn.ndjson

step "Redis is lost whole: nobody counts as subscribed by accident"
stop_redis
rm -rf redis/appendonlydir
start_redis
until_ eval 'ready | grep -q "store: .*lost"'
printf '   readyz: %s\n' "$(ready)"
says 'lost' "$gate" consent get anna@example.org --config gate.toml

step "The old copy alone: it is the store that the gateway knew, so it goes on, and the opt-outs of since are missing"
stop_redis
cp -a backup/appendonlydir redis/
start_redis
until_ eval '[ "$(ready)" = ready ]'
is anna@example.org mail subscribed
is ben@example.org open granted
is cleo@example.org mail unsubscribed

step "So: Redis is brought back with the gateways stopped, the withdrawals are imported, and then they start"
stop
consent import backup/withdrawn.ndjson
start
is anna@example.org mail unsubscribed
is ben@example.org open denied
is ben@example.org click granted
says 'the chain holds' "$gate" consent history anna@example.org --config gate.toml

step "The withdrawals alone survived: imported before the empty store is accepted, so that nobody is asked for who refused"
stop
cp -a redis/appendonlydir all; cp -p state/store.known known
stop_redis
rm -rf redis/appendonlydir redis/dump.rdb
start_redis
consent import backup/withdrawn.ndjson
says 'about ' consent accept-store --yes
start
is anna@example.org mail unsubscribed
is ben@example.org open denied
is ben@example.org click unset
is cleo@example.org mail unsubscribed
stop
stop_redis
rm -rf redis/appendonlydir redis/dump.rdb
mv known state/store.known
mv all redis/appendonlydir
start_redis
start

step "The spool is lost and brought back: what waited then waits again"
stop
rm -rf state/spool
cp -a backup/spool state/spool
start
says 'anna' "$gate" queue list --config gate.toml

step "A lost key: another one is refused, and nothing is changed"
stop
mv state/key state/key.away
"$gate" keygen state/key
if "$gate" serve --config gate.toml >serve.log 2>&1; then fail "it starts with another key"; fi
grep -F 'belongs to another key file' serve.log
cp -p backup/key state/key
start
is anna@example.org mail unsubscribed

step "DKIM goes over from one selector to the next, by two reloads"
for k in one two; do "$gate" keygen --dkim "state/$k.pem" --domain example.org --selector $k >"$k.txt"; done
cp gate.toml gate.plain
{ cat gate.plain; printf '[dkim]\ndomain = "example.org"\nselector = "one"\nkey_file = "%s/state/one.pem"\n' "$work"; } >gate.toml # as init writes it
stop; start_sink; start
signed ' s=one'
grep -A 3 '^\[\[dkim.key' two.txt >>gate.toml
says 'two._domainkey.example.org' eval '"$gate" check-config --config gate.toml | grep two._domainkey'
kill -HUP "$gate_pid"; until_ grep -q 'was read again' serve.log
signed ' s=one s=two'
sed -i '/^\[dkim\]/,/^key_file/{/^\[dkim\]/!d}' gate.toml # its three lines, not the block behind them
kill -HUP "$gate_pid"; until_ eval '[ "$(grep -c "was read again" serve.log)" = 2 ]'
signed ' s=two'

step "A new secret before the old one: links and addresses of before open still; without the old they do not"
link=$(tr -d '\r\n\t ' <last.eml | grep -o 'List-Unsubscribe:<https://mail.example.org/u/[A-Za-z0-9_-]*' | sed 's#.*/u/##')
stop
"$gate" keygen --rotate state/key
says answers eval '"$gate" check-config --config gate.toml | grep "^store"'
"$gate" keygen --rotate --behind state/key # and for several gateways: last, and then moved to the front
new=$(grep '^secret ' state/key | tail -n 1)
"$gate" keygen --rotate --to-front state/key
[ "$(grep '^secret ' state/key | head -n 1)" = "$new" ] && [ "$(grep -c '^secret ' state/key)" = 3 ] || fail "the new secret is not the first of three"
says answers eval '"$gate" check-config --config gate.toml | grep "^store"'
[ "$(stat -c %a state/key)" = 600 ] || fail "the key file has mode $(stat -c %a state/key)"
printf '   the receiver of the webhook checks with %s secrets now\n' "$("$gate" webhook-secret --config gate.toml | wc -l)"
start
is ben@example.org open denied
consent export --with-addresses -o after-rotation.ndjson
grep -q 'ben@example.org' after-rotation.ndjson || fail "ben's address cannot be read"
[ "$(click "$link")" = 200 ] || fail "a link from before answers $(click "$link")"
is ben@example.org mail unsubscribed
stop
awk '/^secret/ && seen++ { next } { print }' state/key >state/key.new # only the first secret stays
chmod 600 state/key.new && mv state/key.new state/key
start
[ "$(click "$link")" = 404 ] || fail "a link under a secret that is gone answers $(click "$link")"
printf '   the link of before: 404\n'
is anna@example.org mail unsubscribed # the lookup line finds everybody
says 'cannot be used' "$gate" consent export --with-addresses --config gate.toml
grep -o 'no secret of the key file opens' serve.log

step "A store that was moved, and one of a newer layout, under a running gateway: what /readyz and check-config say"
mark=$(redis GET consentgate)
for now in "2-moved${mark#2}" "3${mark#2}"; do
	redis SET consentgate "$now" >/dev/null
	until_ eval '[ "$(ready)" != ready ]'
	printf '   readyz: %s\n' "$(ready)"
	says FAILED eval '"$gate" check-config --config gate.toml | grep "^store"'
	grep 'not ready' serve.log | tail -1
	curl -s "http://127.0.0.1:$admin/" | grep -oE 'Consent store.{0,300}' | sed 's/<[^>]*>/ /g' | head -2
	redis SET consentgate "$mark" >/dev/null
	until_ eval '[ "$(ready)" = ready ]'
done

step "A store of a newer version: an older program refuses it and changes nothing"
stop
mark=$(redis GET consentgate)
redis SET consentgate "3${mark#2}" >/dev/null
if "$gate" serve --config gate.toml >serve.log 2>&1; then fail "it starts with a newer store"; fi
grep -o 'the consent store has layout.*' serve.log
redis SET consentgate "$mark" >/dev/null
start

printf '\nall as described\n'
