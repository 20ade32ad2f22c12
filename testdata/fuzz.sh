#!/usr/bin/env bash
# Runs every fuzz target of the module, MINUTES in all, shared out by weight. All run, whatever one finds;
# what is found stands in testdata/fuzz of its package, and the exit status is 1.
#
#	testdata/fuzz.sh [MINUTES]
set -u
cd "$(dirname "$0")/.."
go=${GO:-go}
minutes=${1:-30}

# Those whose inputs have most to say: a whole session, a whole message, markup.
weight() {
	case $1 in
	FuzzSession) echo 12 ;;
	FuzzCopies | FuzzGuarded) echo 6 ;;
	FuzzTokens | FuzzSegment | FuzzStyleSheet | FuzzDataLines | FuzzReceive | FuzzBytes) echo 3 ;;
	*) echo 1 ;;
	esac
}

bin=$(mktemp -d)
trap 'rm -r "$bin"' EXIT
targets=() sum=0
while read -r package dir; do
	program=$bin/${package//\//_}
	# One program a package: go test -fuzz would link one for each target.
	$go test -c -fuzz Fuzz -o "$program" "$package" >/dev/null || exit 1
	[ -f "$program" ] || continue # no tests
	for name in $(cd "$dir" && "$program" -test.list '^Fuzz' | sort -u); do # a TestMain may list them twice
		targets+=("$package $dir $program $name")
		sum=$((sum + $(weight "$name")))
	done
done < <($go list -f '{{.ImportPath}} {{.Dir}}' ./...)
left=$((minutes * 60 - SECONDS))
echo "${#targets[@]} targets, $minutes minutes, $SECONDS seconds of which went into building them"

status=0
for target in "${targets[@]}"; do
	read -r package dir program name <<<"$target"
	seconds=$((left * $(weight "$name") / sum))
	# An input that is worth keeping is made smaller for a second, and not, as usual, for a minute.
	if out=$(cd "$dir" && "$program" -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime $((seconds > 0 ? seconds : 1))s -test.fuzzminimizetime 1s \
		-test.fuzzcachedir "$($go env GOCACHE)/fuzz/$package" -test.parallel 2 2>&1) ||
		{ grep -q 'context deadline exceeded' <<<"$out" && ! grep -q 'Failing input\|panic' <<<"$out"; }; then # the time was up within an input
		echo "$package $name: $(grep -E '^fuzz: elapsed' <<<"$out" | tail -n 1 | sed 's/^fuzz: //')"
	else
		status=1
		echo "$package $name: FOUND SOMETHING"
		grep -v '^fuzz: elapsed' <<<"$out"
	fi
done
exit $status
