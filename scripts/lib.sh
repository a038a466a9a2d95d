# SPDX-License-Identifier: GPL-2.0
#
# Sourced by the scripts beside it: places, messages, and the step helper.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rust-splice
build=$top/build

# shellcheck source=scripts/versions
. "$top/scripts/versions"

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# step MESSAGE COMMAND...: runs COMMAND in a subshell, and says how long it took.
step() {
	local what=$1 start=$SECONDS rc
	shift
	say "$what"
	# Not "|| rc=$?": that would switch errexit off inside COMMAND.
	set +e
	(set -e; "$@")
	rc=$?
	set -e
	[ "$rc" -eq 0 ] || die "$what: failed (exit $rc) after $((SECONDS - start)) s"
	say "$what: done in $((SECONDS - start)) s"
}

# hold FILE [-s]: takes a lock (with -s a shared one) until this script ends.
hold() {
	local fd
	exec {fd}>"$1"
	# shellcheck disable=SC2086
	flock -n ${2:-} "$fd" && return
	say "waiting for another run that uses ${1##*/}"
	# shellcheck disable=SC2086
	flock -w 3600 ${2:-} "$fd" || die "$1: still locked after an hour"
}

# hash_of FILE...: names a result by what it was made from.
hash_of() { cat "$@" | sha256sum | cut -c1-12; }

root_hash=$(hash_of "$top/scripts/versions" "$top/scripts/packages" "$top/scripts/toolroot")
root=$cache/root-$root_hash
source_dir=$cache/source
