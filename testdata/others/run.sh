#!/usr/bin/env bash
# Fetches what other projects test themselves with, runs it against this one, and writes RESULTS.md. What is
# fetched stays in CACHE, outside of the tree: none of it is ours to give away. What cannot be had is named
# in the results.
set -u
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
go=${GO:-go}
cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/consentgate-others}
mkdir -p "$cache/mail" "$cache/dkim" "$cache/work"
missing=()

# from NAME COMMAND: notes what could not be had.
from() {
	local name=$1
	shift
	("$@") >"$cache/work/log" 2>&1 || { missing+=("$name"); tail -n 2 "$cache/work/log" >&2; }
}

python_email() { # the messages of the tests of Python's email package
	local dir
	dir=$(python3 -c 'import os, test.test_email as t; print(os.path.join(os.path.dirname(t.__file__), "data"))') || return 1
	mkdir -p "$cache/mail/python-email" && cp "$dir"/msg_*.txt "$cache/mail/python-email/"
}

enmime() { # those of github.com/jhillyerd/enmime
	local dir
	mkdir -p "$cache/work/enmime" && cd "$cache/work/enmime" || return 1
	[ -f go.mod ] || $go mod init enmime || return 1
	dir=$($go mod download -json github.com/jhillyerd/enmime/v2@v2.3.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	[ -d "$dir" ] || return 1
	for kind in mail low-quality parts; do
		mkdir -p "$cache/mail/enmime-$kind" && cp "$dir/testdata/$kind"/*.raw "$cache/mail/enmime-$kind/" || return 1
	done
	chmod -R u+w "$cache/mail"
}

mailparser() { # those of the last mailparser that has its tests in its package
	cd "$cache/work" && npm pack --silent mailparser@0.6.2 && tar xzf mailparser-0.6.2.tgz || return 1
	mkdir -p "$cache/mail/mailparser" && cp package/test/*.eml "$cache/mail/mailparser/"
}

dkimpy() { # signed messages of dkimpy, which Debian's package has
	cd "$cache/work" && apt-get download python3-dkim && dpkg-deb -x python3-dkim_*.deb dkimpy || return 1
	cp dkimpy/usr/lib/python3/dist-packages/dkim/tests/data/*.msg dkimpy/usr/lib/python3/dist-packages/dkim/tests/data/*.message* "$cache/dkim/"
}

msgauth() { # signed messages that stand in the tests of go-msgauth
	local dir
	dir=$($go list -m -f '{{.Dir}}' github.com/emersion/go-msgauth) || return 1
	cp "$dir"/dkim/*_test.go "$cache/dkim/" && chmod u+w "$cache/dkim"/*
}

from "messages of Python's email package" python_email
from "messages of enmime 2.3.0" enmime
from "messages of mailparser 0.6.2" mailparser
from "signed messages of dkimpy" dkimpy
from "signed messages of go-msgauth" msgauth

status=0
# check WHAT PACKAGE TESTS: one line of results, and what failed behind it.
check() {
	local out passed
	out=$(MAIL_CORPUS="$cache/mail" DKIM_VECTORS="$cache/dkim" $go test -count=1 -v -timeout 10m -run "$3" "$2" 2>&1) || status=1
	passed=$(grep -c -- '--- PASS' <<<"$out")
	echo "| $1 | $passed | $(grep -c -- '--- FAIL' <<<"$out") | $(grep -c -- '--- SKIP' <<<"$out") |"
	grep -v -- '--- PASS\|=== RUN\|^PASS\|^ok ' <<<"$out" >>"$cache/work/rest"
}

# peer WHAT PACKAGE: the tests of a library that we stand on, as we have it.
peer() {
	local out
	out=$($go test -count=1 -v "$2" 2>&1) || status=1
	echo "| $1 | $(grep -c -- '^--- PASS' <<<"$out") | $(grep -c -- '^--- FAIL' <<<"$out") | $(grep -c -- '^--- SKIP' <<<"$out") |"
}

: >"$cache/work/rest"
{
	cat "$here/RESULTS.head"
	echo "| what | passed | failed | skipped |"
	echo "|---|---|---|---|"
	check "mails of others: every copy keeps what is not edited ($(find "$cache/mail" -type f | wc -l) files)" ./rewrite TestCorpusProperties
	check "the same mails as Python and go-message read them" ./rewrite TestOtherReaders
	check "signed messages of others: their body hashes" ./testdata/others .
	check "nmap's smtp-open-relay and smtp-commands" ./testdata/peers TestOpenRelay
	peer "go-smtp's own tests" github.com/emersion/go-smtp
	peer "go-message's own tests" github.com/emersion/go-message/...
	peer "go-msgauth's own tests" github.com/emersion/go-msgauth/dkim
	echo
	for m in "${missing[@]}"; do echo "Not to be had at this run: $m."; done
	sed -n 's/^ *[a-z_]*_test.go:[0-9]*: \(.*\)/- \1/p' "$cache/work/rest" | cut -c1-300
} >"$here/RESULTS.md"
cat "$here/RESULTS.md"
exit $status
