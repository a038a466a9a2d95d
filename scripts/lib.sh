# SPDX-License-Identifier: GPL-2.0
#
# Sourced by the other scripts: folders, messages, and the step helper.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rust-splice
build=$top/build

# shellcheck source=scripts/versions
. "$top/scripts/versions"

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# step MESSAGE COMMAND...: runs COMMAND in a subshell, and prints how long it
# took.
step() {
	local what=$1 start=$SECONDS rc
	shift
	say "$what"
	# Not "|| rc=$?": that would disable errexit inside COMMAND.
	set +e
	(set -e; "$@")
	rc=$?
	set -e
	[ "$rc" -eq 0 ] || die "$what: failed (exit $rc) after $((SECONDS - start)) s"
	say "$what: done in $((SECONDS - start)) s"
}

# progress DONE TOTAL UNIT START: shows what is done of what there is, and the time that
# is left; START is the value of SECONDS at the start. TOTAL is empty if it is not known.
progress() {
	local seconds=$((SECONDS - $4)) of='' left=''
	if [ -n "$2" ]; then
		of=" of $2"
		[ "$1" -eq 0 ] || [ "$1" -gt "$2" ] ||
			left=", about $((seconds * ($2 - $1) / $1)) s left"
	fi
	printf '  %d%s %s, %d s%s\n' "$1" "$of" "$3" "$seconds" "$left" >&2
}

# watched SECONDS SHOW COMMAND...: runs COMMAND, and calls SHOW START in each interval of
# that many seconds until COMMAND ends.
watched() {
	local rc=0 watch start=$SECONDS
	(
		# No sleep may be left, which would hold the locks of this script.
		trap 'kill "$nap" 2>/dev/null; exit 0' TERM
		while true; do
			sleep "$1" &
			nap=$!
			wait "$nap"
			"$2" "$start"
		done
	) &
	watch=$!
	"${@:3}" || rc=$?
	kill "$watch" 2>/dev/null || true
	wait "$watch" 2>/dev/null || true
	return "$rc"
}

# cargo_watched COMMAND...: runs cargo in the tool root, and shows which part of the
# crates is built. The log is build/cargo.log.
cargo_watched() {
	local rc=0
	mkdir -p "$build"
	watched 10 cargo_progress "$top/scripts/in-root" env CARGO_TERM_PROGRESS_WHEN=always \
		CARGO_TERM_PROGRESS_WIDTH=80 "$@" 3>&2 >"$build/cargo.log" 2>&1 || rc=$?
	[ "$rc" -eq 0 ] || tr '\r' '\n' <"$build/cargo.log" | tail -n 60 >&2
	return "$rc"
}

# Cargo redraws a line that ends with "37/112: syn, libc".
cargo_progress() {
	local number total
	IFS=/ read -r number total < <(tail -c 2000 "$build/cargo.log" | tr '\r' '\n' |
		sed -nE 's,.*[] ]([0-9]+/[0-9]+)(:.*)?$,\1,p' | tail -n 1) || true
	[ -z "$number" ] || progress "$number" "$total" crates "$1" 2>&3
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

# cargo_build PACKAGE...: builds programs of tools/splice, into build/cargo/release.
cargo_build() {
	cargo_watched env -C "$top/tools/splice" cargo build --locked --release "${@/#/-p}"
}

# on_host PROGRAM ARGUMENT...: runs a program of tools/splice outside of the tool root,
# where it can start guests, but with the libraries of the tool root.
on_host() {
	local libs=${TOOLROOT:-$root}/usr/lib/x86_64-linux-gnu
	"$libs/ld-linux-x86-64.so.2" --library-path "$libs" "$@"
}

# hash_of FILE...: a name for a result that depends on the content of these
# files.
hash_of() { cat "$@" | sha256sum | cut -c1-12; }

# overlay_files: prints the repository's files that belong in the kernel tree, from
# the folder $top. Without git, as in a released archive, these are all files.
overlay=(rust fs mm net drivers include Documentation tools)
overlay_files() {
	local file
	{
		git ls-files -co --exclude-standard -- "${overlay[@]}" 2>/dev/null ||
			find "${overlay[@]}" -type f ! -path '*/target/*' 2>/dev/null || true
	} | LC_ALL=C sort | while read -r file; do
		[ ! -f "$file" ] || printf '%s\n' "$file"
	done
}

source_dir=$cache/source

# use_list LIST: selects the tool root and the kernel source of LIST, which has
# the format of scripts/packages.lock. The name of the root depends on its
# contents.
use_list() {
	list=$1
	root=$cache/root-$(sed -E '/^(#|snapshot |linux-source-)/d' "$list" |
		cat - "$top/scripts/toolroot" | sha256sum | cut -c1-12)
	linux=$(awk '/^linux-source-/ { print $2 }' "$list")
	tarball=$source_dir/linux-$linux.tar.xz
}

lock=${PACKAGES_LOCK:-$top/scripts/packages.lock}
[ -e "$lock" ] || die "$lock is missing: restore it from git"
# The list that scripts/tools wrote because some versions of the lock were not
# available.
instead=$cache/instead-$(hash_of "$lock" "$top/scripts/versions" "$top/scripts/packages")
use_list "$lock"
[ ! -e "$instead" ] || use_list "$instead"
