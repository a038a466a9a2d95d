# SPDX-License-Identifier: GPL-2.0
#
# Sourced by the scripts that read Debian's archive. They use the host's apt
# with its mirror, proxy and trust settings, but with separate lists and state,
# and without the hooks that the host runs after an update.
#
# A package is one line everywhere, as in scripts/packages.lock: name, version,
# architecture, SHA-256.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

apt_dir=$cache/apt
archives=$apt_dir/archives
# All packages that the archive serves. A fifth field is the LLVM that the
# package depends on.
served=$apt_dir/served

apt() { "apt-$1" -c "$apt_dir/apt.conf" "${@:2}"; }

need_debian() {
	local id version
	# shellcheck disable=SC1090
	read -r id version < <(. "${OS_RELEASE:-/etc/os-release}" 2>/dev/null &&
		echo "$ID ${VERSION_ID:-}") || true
	if [ "${id:-}" != debian ] || [ "${version:-12}" -lt 12 ]; then
		die "this needs Debian 12 or 13; use a container of Debian 13:" \
			"podman run --rm -it --privileged -v \"\$PWD\":/splice -v rust-splice:/root/.cache" \
			"-w /splice debian:trixie sh -c" \
			"'apt-get update && apt-get -y install ca-certificates git make && make run'"
	fi
	[ "$(dpkg --print-architecture)" = amd64 ] || die "only amd64 hosts are supported"
}

# sources URI [OPTION]: the lines of sources.list for the archive at URI.
sources() {
	local suite
	for suite in "$DEBIAN_SUITE" "$DEBIAN_SUITE-backports"; do
		printf 'deb [%ssigned-by=%s] %s %s main\n' "${2:+$2 }" \
			/usr/share/keyrings/debian-archive-keyring.gpg "$1" "$suite"
	done
}

# host_mirror: the Debian mirror of the host's apt, whose lists may never have
# been fetched. Third-party archives rarely have an address that ends like it.
host_mirror() {
	apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE)' | awk '
		$2 ~ /security/ { next }
		first == "" { first = $1 }
		debian == "" && $1 ~ /\/debian\/?$/ { debian = $1 }
		END { print debian == "" ? first : debian }'
}

setup_apt() {
	local mirror
	mkdir -p "$apt_dir/lists/partial" "$archives/partial"
	: >"$apt_dir/status"
	: >"$apt_dir/preferences"
	mirror=$(host_mirror)
	[ -n "$mirror" ] || die "the host's apt has no package source: add a mirror of Debian to it"
	sources "$mirror" >"$apt_dir/sources.list"
	cat >"$apt_dir/apt.conf" <<-EOF
	Dir::Etc::sourcelist "$apt_dir/sources.list";
	Dir::Etc::sourceparts "/dev/null";
	Dir::Etc::preferences "$apt_dir/preferences";
	Dir::Etc::preferencesparts "/dev/null";
	Dir::State "$apt_dir";
	Dir::State::lists "$apt_dir/lists";
	Dir::State::status "$apt_dir/status";
	Dir::Cache "$apt_dir";
	Dir::Cache::archives "$archives";
	Debug::NoLocking "true";
	APT::Sandbox::User "";
	#clear APT::Architectures;
	APT::Architectures:: "amd64";
	APT::Install-Recommends "false";
	APT::Default-Release "$DEBIAN_SUITE-backports";
	APT::Update::Error-Mode "any";
	Acquire::Languages "none";
	Acquire::Retries "3";
	#clear APT::Update::Post-Invoke;
	#clear APT::Update::Post-Invoke-Success;
	EOF
	update_apt "the mirror of the host's apt cannot be read: see above"
}

add_snapshot() {
	# A snapshot is older than the expiry date of its lists.
	sources "$SNAPSHOT" check-valid-until=no >>"$apt_dir/sources.list"
	update_apt "SNAPSHOT=$SNAPSHOT cannot be read: see above; $(snapshot_hint)"
}

# update_apt MESSAGE: fetches the lists; prints MESSAGE if they cannot be read.
update_apt() {
	apt get -qq update || die "$1"
	apt get indextargets --format '$(FILENAME)' 'Created-By: Packages' |
		xargs -d '\n' /usr/lib/apt/apt-helper -c "$apt_dir/apt.conf" cat-file | awk '
			function end() {
				if (name != "") print name, version, architecture, sum, llvm
				name = llvm = ""
			}
			$1 == "Package:"      { name = $2 }
			$1 == "Version:"      { version = $2 }
			$1 == "Architecture:" { architecture = $2 }
			$1 == "SHA256:"       { sum = $2 }
			$1 == "Depends:" && match($0, /libllvm[0-9]+/) { llvm = substr($0, RSTART, RLENGTH) }
			$0 == ""              { end() }
			END                   { end() }
		' >"$served"
	[ -s "$served" ] || die "the archive has no packages"
}

# lacking: prints the packages on standard input that the archive does not have.
# Fails if the archive has one of them with another checksum.
lacking() {
	awk '
		NR == FNR { sums[$1, $2, $3] = sums[$1, $2, $3] " " $4; next }
		!(($1, $2, $3) in sums) { print; next }
		!index(sums[$1, $2, $3], $4) {
			print "error: " $1 " " $2 ": the archive has a file with SHA-256" sums[$1, $2, $3] \
				", and scripts/packages.lock has " $4 ": use another mirror" >"/dev/stderr"
			bad = 1
		}
		END { exit bad }
	' "$served" -
}

# look_for PACKAGES: sets missing to the packages that neither the mirror nor
# the snapshot has.
looked_into=''
look_for() {
	[ -n "$looked_into" ] || step "package lists" setup_apt
	looked_into+='mirror '
	missing=$(lacking <<<"$1")
	if [ -n "$missing" ] && [ -n "${SNAPSHOT:-}" ] && [[ $looked_into != *snapshot* ]]; then
		step "package lists of SNAPSHOT=$SNAPSHOT" add_snapshot
		looked_into+='snapshot '
		missing=$(lacking <<<"$1")
	fi
}

fetch_packages() { (cd "$archives" && apt get -q download "${packages[@]}") 2>&1; }

# downloaded START: shows which part of total, in MiB, is in the folder of archives.
downloaded() {
	local size
	size=$(du -sm "$archives" | cut -f 1)
	progress "$((size < total ? size : total))" "$total" MiB "$1"
}

# download PACKAGES: fetches these to the folder of archives, and verifies them.
download() {
	local packages bad total
	mapfile -t packages < <(awk '{ print $1 "=" $2 }' <<<"$1")
	rm -f "$archives"/*.deb
	total=$(cd "$archives" && apt get -q --print-uris download "${packages[@]}" 2>/dev/null |
		awk '{ bytes += $3 } END { print int(bytes / 1048576) + 1 }')
	watched 5 downloaded fetch_packages >"$apt_dir/log" || {
		bad=$(sed -nE '/Failed to fetch .*Hash Sum mismatch/ s,.*/([^/_]+)_.*,\1,p' "$apt_dir/log")
		[ -z "$bad" ] || die "${bad//$'\n'/, }: the archive's file has a wrong checksum: use another mirror"
		tail -n 20 "$apt_dir/log" >&2
		die "the packages cannot be downloaded: see above"
	}
	bad=$(awk '{ gsub(":", "%3a", $2); print $4 "  " $1 "_" $2 "_" $3 ".deb" }' <<<"$1" |
		(cd "$archives" && sha256sum --quiet -c 2>/dev/null) | sed 's/_.*//') || true
	[ -z "$bad" ] || die "${bad//$'\n'/, }: not the file that scripts/packages.lock has: use another mirror"
}

snapshot_hint() {
	echo "SNAPSHOT=URL takes the versions of scripts/packages.lock from Debian's snapshot service;" \
		"URL is that of its archive \"debian\" at $(awk '$1 == "snapshot" { print $2 }' "$lock")"
}

# newest_rust [KEEP]: the newest version within the bounds, or KEEP if the
# archive still has it.
newest_rust() {
	local version linked number all=''
	for version in ${1:-} $(apt cache madison rustc | awk '{ print $3 }'); do
		read -r number linked < <(awk -v version="$version" '
			$2 != version { next }
			/^(cargo|rust-clippy|rust-src|rustc|rustfmt) / { count += !seen[$1]++ }
			/^libstd-rust-[0-9.]+ / { llvm = $5 }
			END { print count + 0, llvm == "" ? "no LLVM" : llvm }
		' "$served")
		if [ "$number" = 5 ] && [ "$linked" = "libllvm$LLVM" ] &&
			dpkg --compare-versions "$version" ge "$RUST_MIN"; then
			echo "$version"
			return
		fi
		[ "$number" = 0 ] || all+="${all:+, }$version on $linked ($number of 5 packages)"
	done
	die "rustc: the archive has ${all:-none}, and scripts/versions needs $RUST_MIN or newer" \
		"on libllvm$LLVM (5 of 5 packages); $(snapshot_hint)"
}

# newest_packages [LIST]: the newest tool root within the bounds. A package
# keeps its version of LIST if the archive still serves it.
newest_packages() {
	local keep=${1:-/dev/null} packages missing rust qemu
	packages=$(sed -E 's/#.*//; /^[ \t]*$/d' "$top/scripts/packages" | sort -u)
	missing=$(awk 'NR == FNR { has[$1]; next } !($1 in has)' "$served" - <<<"$packages")
	[ -z "$missing" ] ||
		die "${missing//$'\n'/, }: not in the archive any more; $(snapshot_hint)"
	rust=$(newest_rust "$(awk '$1 == "rustc" { print $2 }' "$keep")") || exit 1
	packages_of "$keep" | awk '
		NR == FNR { has[$1, $2, $3]; next }
		($1, $2, $3) in has { printf "Package: %s\nPin: version %s\nPin-Priority: 1001\n\n", $1, $2 }
	' "$served" - >"$apt_dir/preferences"
	# shellcheck disable=SC2046
	apt get -s install '?essential' $(sed -E "s/^(cargo|rust-clippy|rust-src|rustc|rustfmt)\$/&=$rust/" \
		<<<"$packages") >"$apt_dir/log" 2>&1 || {
		tail -n 20 "$apt_dir/log" >&2
		die "the packages of the archive do not fit together: see above; $(snapshot_hint)"
	}
	packages=$(awk '
		NR == FNR { if (!(($1, $2) in line)) line[$1, $2] = $1 " " $2 " " $3 " " $4; next }
		$1 == "Inst" { print line[$2, substr($3, 2)] }
	' "$served" "$apt_dir/log" | LC_ALL=C sort)
	qemu=$(awk '$1 == "qemu-system-x86" { sub(/^[0-9]+:/, "", $2); print $2 }' <<<"$packages")
	dpkg --compare-versions "$qemu" ge "$QEMU_MIN" ||
		die "qemu-system-x86: the archive has $qemu, and scripts/versions needs $QEMU_MIN or newer;" \
			"$(snapshot_hint)"
	printf '%s\n' "$packages"
}

# newest_linux: the newest kernel source of the series.
newest_linux() {
	local package=linux-source-$LINUX_SERIES version
	version=$(apt cache madison "$package" | awk 'NR == 1 { print $3 }')
	[ -n "$version" ] || die "$package: not in the archive any more;" \
		"LINUX_TARBALL=FILE takes a tarball of Linux $LINUX_SERIES; $(snapshot_hint)"
	awk -v package="$package" -v version="$version" \
		'$1 == package && $2 == version && !n++ { print $1, $2, $3, $4 }' "$served"
}

packages_of() { awk 'NF == 4 && !/^(#|linux-source-)/' "$1"; }
linux_of() { grep '^linux-source-' "$1"; }

# write_list FILE SNAPSHOT-TIME LINUX PACKAGES
write_list() {
	cat >"$1" <<-EOF
	# SPDX-License-Identifier: GPL-2.0
	#
	# The kernel source and every package of the tool root: name, version,
	# architecture, SHA-256. make tools-update writes this file, make tools reads it.
	# Debian's snapshot service has all of them in its archive "debian" at the time
	# in the next line.
	snapshot $2
	suite $DEBIAN_SUITE
	bindgen $BINDGEN_VERSION
	$3
	$4
	EOF
}

# differences LIST: one line with the differences of LIST from the lock, or
# nothing.
differences() {
	[ "$1" != "$lock" ] || return 0
	awk '
		NF != 4 || /^#/ { next }
		FILENAME == ARGV[1] { old[$1] = $2; next }
		!($1 in old) { add($1, $2 " is new") }
		$1 in old && old[$1] != $2 { add($1, $2 " instead of " old[$1]) }
		{ delete old[$1] }
		END {
			for (name in old) add(name, old[name] " is not needed")
			for (i = 1; i <= kinds && i <= 5; i++) {
				text = text (i > 1 ? ", " : "") names[i] " " kind[i]
				shown += count[i]
			}
			if (shown < all) text = text ", and " all - shown " more"
			if (all == 1) print "1 package differs from scripts/packages.lock: " text
			if (all > 1) print all " packages differ from scripts/packages.lock: " text
		}
		# Packages of one source usually change together.
		function add(name, how,   i) {
			all++
			for (i = 1; i <= kinds && kind[i] != how; i++);
			if (i > kinds) kind[++kinds] = how
			names[i] = names[i] (count[i]++ ? " " : "") name
		}
	' "$lock" "$1"
}
