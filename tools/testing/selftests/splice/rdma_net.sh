#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# rdma_net.sh one rxe|siw: makes an RDMA device on a veth, if there is none yet.
# The device connects to its own address.
# rdma_net.sh two rxe|siw: makes two network namespaces, rdma_a and rdma_b, with an
# RDMA device in each, and removes older ones first.
# rdma_net.sh card rxe|siw NETDEV NUMBER: makes an RDMA device on a network card, with
# the host number NUMBER. The host at the other end has another number.
# rdma_net.sh end: removes the two namespaces and their devices.
#
# Needs ip and rdma of iproute2. rdma_common.h has the same names and addresses.

set -eu

# port DEVICE NETDEV IPV4 IPV6 [COMMAND...]: an RDMA device of the kind $kind on
# NETDEV. COMMAND enters the namespace.
port() {
	local device=$1 netdev=$2 ipv4=$3 ipv6=$4
	shift 4
	"$@" ip address add "$ipv4/24" dev "$netdev"
	"$@" ip address add "$ipv6/64" dev "$netdev" nodad
	# The link-local address is usable at once.
	"$@" sh -c "echo 0 >/proc/sys/net/ipv6/conf/$netdev/accept_dad"
	"$@" ip link set "$netdev" mtu 9000 up
	"$@" rdma link add "$device" type "$kind" netdev "$netdev"
}

# gid DEVICE ADDRESS: waits until DEVICE has the GID of an IPv4 address. Only rxe
# makes GIDs of addresses.
gid() {
	local gid
	[ "$kind" = rxe ] || return 0
	# shellcheck disable=SC2046,SC2183
	gid=$(printf '0000:0000:0000:0000:0000:ffff:%02x%02x:%02x%02x' $(tr . ' ' <<<"$2"))
	for _ in {1..100}; do
		! grep -qsx "$gid" /sys/class/infiniband/"$1"/ports/1/gids/* || return 0
		sleep 0.05
	done
	echo "$1 has no GID for $2" >&2
	return 1
}

remove_two() {
	local side kind
	for side in a b; do
		for kind in rxe siw; do
			ip netns exec "rdma_$side" rdma link delete "${kind}_$side" \
				2>/dev/null || true
		done
		ip netns delete "rdma_$side" 2>/dev/null || true
	done
}

kind=${2:-}
case ${1:-} in
one)
	[ ! -e "/sys/class/infiniband/${kind}_one" ] || exit 0
	case $kind in
	rxe) net=1 ipv4=192.0.2.1 ;;
	siw) net=2 ipv4=198.51.100.1 ;;
	esac
	ip link set lo up
	ip link add "v$kind" type veth peer name "p$kind"
	ip link set "p$kind" up
	port "${kind}_one" "v$kind" "$ipv4" "2001:db8:$net::1"
	gid "${kind}_one" "$ipv4"
	;;
two)
	remove_two
	for side in a b; do
		ip netns add "rdma_$side"
	done
	ip link add va netns rdma_a type veth peer name vb netns rdma_b
	for side in a b; do
		[ "$side" = a ] && host=1 || host=2
		ip -n "rdma_$side" link set lo up
		port "${kind}_$side" "v$side" "203.0.113.$host" "2001:db8:3::$host" \
			ip netns exec "rdma_$side"
	done
	gid "${kind}_a" 203.0.113.1
	gid "${kind}_b" 203.0.113.2
	;;
card)
	ip link set lo up
	port "${kind}_card" "$3" "203.0.113.$4" "2001:db8:3::$4"
	gid "${kind}_card" "203.0.113.$4"
	;;
end)
	remove_two
	;;
*)
	echo "usage: rdma_net.sh one rxe|siw | two rxe|siw |" \
		"card rxe|siw NETDEV NUMBER | end" >&2
	exit 2
	;;
esac
