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
	"$top/scripts/in-root" env -C "$top/tools/splice" \
		cargo build -q --locked --release "${@/#/-p}"
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
