#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the example program: to a file, through a pipe, and to a closed pipe.

dir=$(mktemp -d "${SPLICE_TMPFS_DIR:-/tmp}/notify_example.XXXXXX") || exit
trap 'rm -rf "$dir"' EXIT
example=$(dirname "$0")/notify_example
failed=0

check() {
	if cmp "$dir/in" "$dir/out"; then
		echo "ok $1"
	else
		echo "not ok $1"
		failed=1
	fi
}

echo "TAP version 13"
echo "1..4"
head -c 3000001 /dev/urandom >"$dir/in" || exit

"$example" <"$dir/in" >"$dir/out" || : >"$dir/out"
check "1 file"

# The data in the pipe is memory of a process that exits as soon as it can.
"$example" <"$dir/in" | (sleep 1; cat) >"$dir/out"
check "2 pipe with a slow reader"

"$example" <"$dir/in" | "$example" | "$example" >"$dir/out"
check "3 three in a row"

"$example" <"$dir/in" 2>"$dir/errors" | head -c 100 >"$dir/head"
if [ "${PIPESTATUS[0]}" = 141 ] && cmp -n 100 "$dir/in" "$dir/head"; then
	echo "ok 4 a reader that leaves is told by SIGPIPE"
else
	cat "$dir/errors"
	echo "not ok 4 a reader that leaves is told by SIGPIPE"
	failed=1
fi
exit "$failed"
