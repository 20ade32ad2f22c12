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
start_redis() {
	redis-server --bind 127.0.0.1 --port "$redis_port" --save "" --appendonly yes --appendfsync always --dir "$work/redis" >redis.log 2>&1 &
	pids+=($!); redis_pid=$!
	until_ redis PING
	until_ eval '! redis PING | grep -q LOADING'
}
stop_redis() { redis SHUTDOWN >/dev/null 2>&1 || true; wait "$redis_pid" 2>/dev/null || true; }
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
for k in one two; do (umask 077; openssl genrsa -out "state/$k.pem" 2048 2>/dev/null); done
cp gate.toml gate.plain
{ cat gate.plain; printf '[[dkim.key]]\ndomain = "example.org"\nselector = "one"\nkey_file = "%s/state/one.pem"\n' "$work"; } >gate.toml
stop; start_sink; start
signed ' s=one'
printf '[[dkim.key]]\ndomain = "example.org"\nselector = "two"\nkey_file = "%s/state/two.pem"\n' "$work" >>gate.toml
says 'two._domainkey.example.org' eval '"$gate" check-config --config gate.toml | grep two._domainkey'
kill -HUP "$gate_pid"; until_ grep -q 'was read again' serve.log
signed ' s=one s=two'
{ cat gate.plain; printf '[[dkim.key]]\ndomain = "example.org"\nselector = "two"\nkey_file = "%s/state/two.pem"\n' "$work"; } >gate.toml
kill -HUP "$gate_pid"; until_ eval '[ "$(grep -c "was read again" serve.log)" = 2 ]'
signed ' s=two'

step "A new secret before the old one: links and addresses of before open still; without the old they do not"
link=$(tr -d '\r\n\t ' <last.eml | grep -o 'List-Unsubscribe:<https://mail.example.org/u/[A-Za-z0-9_-]*' | sed 's#.*/u/##')
stop
{ printf 'secret %s\n' "$(head -c 32 /dev/urandom | basenc --base64url | tr -d '=')"; cat state/key; } >state/key.new
chmod 600 state/key.new && mv state/key.new state/key
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

step "A store of a newer version: an older program refuses it and changes nothing"
stop
mark=$(redis GET consentgate)
redis SET consentgate "3${mark#2}" >/dev/null
if "$gate" serve --config gate.toml >serve.log 2>&1; then fail "it starts with a newer store"; fi
grep -o 'the consent store has layout.*' serve.log
redis SET consentgate "$mark" >/dev/null
start

printf '\nall as described\n'
