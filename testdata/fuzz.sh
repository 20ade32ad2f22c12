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

targets=() sum=0
packages=$($go list ./...) || exit 1
for package in $packages; do
	names=$($go test -list '^Fuzz' "$package") || { echo "$names"; exit 1; }
	for name in $(grep '^Fuzz' <<<"$names"); do
		targets+=("$package $name")
		sum=$((sum + $(weight "$name")))
	done
done
echo "${#targets[@]} targets, $minutes minutes"

status=0
for target in "${targets[@]}"; do
	read -r package name <<<"$target"
	seconds=$((minutes * 60 * $(weight "$name") / sum))
	# An input that is worth keeping is made smaller for a second, and not, as usual, for a minute.
	if out=$($go test -run '^$' -fuzz "^$name\$" -fuzztime $((seconds > 0 ? seconds : 1))s -fuzzminimizetime 1s -parallel 2 "$package" 2>&1); then
		echo "$package $name: $(grep -E '^fuzz: elapsed' <<<"$out" | tail -n 1 | sed 's/^fuzz: //')"
	else
		status=1
		echo "$package $name: FOUND SOMETHING"
		grep -v '^fuzz: elapsed' <<<"$out"
	fi
done
exit $status
