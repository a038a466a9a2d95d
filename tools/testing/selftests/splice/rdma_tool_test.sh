#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Sends files by the program splice-rdma, over rxe and siw, from and to files and
# pipes, and resumes a transfer whose sender was killed. SPLICE_RDMA is the path of
# the program; SPLICE_RDMA_KIB replaces the size of the file on slow kernels.

skip() {
	echo "$1"
	exit 4
}

program=${SPLICE_RDMA:-$(command -v splice-rdma)}
[ -x "$program" ] || skip "there is no program splice-rdma"
[ "$(id -u)" = 0 ] || skip "needs root, for the set-up of RDMA devices"
[ -e /sys/class/infiniband ] || skip "the kernel has no RDMA (CONFIG_INFINIBAND)"
modprobe splice_rdma 2>/dev/null
[ -e /dev/rdma_splice ] || skip "no /dev/rdma_splice (CONFIG_RDMA_SPLICE_RDMA)"

dir=$(mktemp -d "${SPLICE_TMPFS_DIR:-/tmp}/rdma_tool_test.XXXXXX") || exit
bytes=$((${SPLICE_RDMA_KIB:-8192} * 1024 + 1))
part=$((bytes / 3))
number=0 failed=0
trap 'rm -rf "$dir"' EXIT

# result NAME COMMAND...: one line of TAP.
result() {
	local name=$1
	shift
	number=$((number + 1))
	if "$@"; then
		echo "ok $number $kind: $name"
	else
		echo "not ok $number $kind: $name"
		failed=1
	fi
}

# Both ends succeed, and the file is the same.
same() { [ "$1" = 0 ] && [ "$2" = 0 ] && cmp "$dir/in" "$dir/out"; }

# has_bytes COUNT: waits until the receiver's file has so many bytes.
has_bytes() {
	for _ in {1..1200}; do
		[ "$(stat -c %s "$dir/out" 2>/dev/null)" != "$1" ] || return 0
		sleep 0.1
	done
	return 1
}

# transfer NAME: sends $dir/in to $dir/out, with the options of both ends in send and
# recv.
transfer() {
	local receiver sent
	"$program" recv --checksum "${recv[@]}" "$address" "$dir/out" &
	receiver=$!
	"$program" send --checksum --wait 60 "${send[@]}" "$address" "$dir/in"
	sent=$?
	wait "$receiver"
	result "$1" same "$sent" $?
}

piped() {
	local receiver sent
	"$program" recv "$address" | cat >"$dir/out" &
	receiver=$!
	# shellcheck disable=SC2002
	cat "$dir/in" | "$program" send --wait 60 "$address"
	sent=$?
	wait "$receiver"
	result "through pipes" same "$sent" $?
}

resumed() {
	local receiver sender
	rm -f "$dir/out" "$dir/fifo"
	mkfifo "$dir/fifo"
	"$program" recv "$address" "$dir/out" &
	receiver=$!
	"$program" send --wait 60 "$address" <"$dir/fifo" &
	sender=$!
	# The sender waits for the rest of the input.
	exec 3>"$dir/fifo"
	head -c "$part" "$dir/in" >&3
	result "the first part arrives" has_bytes "$part"
	kill -KILL "$sender"
	wait "$sender" 2>/dev/null
	wait "$receiver"
	result "the receiver fails if the sender is killed" [ $? = 1 ]
	exec 3>&-
	result "it has the first part" cmp -n "$part" "$dir/in" "$dir/out"
	send=(--offset "$part") recv=(--offset "$part")
	transfer "resumed"
}

echo "TAP version 13"
echo "1..14"
for kind in rxe siw; do
	"$(dirname "$0")/rdma_net.sh" one "$kind" || exit
	case $kind in
	rxe) net=1 address=192.0.2.1:5900 ;;
	siw) net=2 address=198.51.100.1:5900 ;;
	esac
	head -c "$bytes" /dev/urandom >"$dir/in" || exit
	send=() recv=()
	transfer "from file to file"
	recv=(--force)
	transfer "a file is replaced"
	piped
	address="[2001:db8:$net::1]:5900"
	resumed
	rm -f "$dir/out"
done
exit "$failed"
