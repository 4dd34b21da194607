#!/usr/bin/env bash
# Makes a CRIU that works on this kernel available, and replaces nothing of the system.
#
# In this order:
#   1. the system's criu, where `criu check` passes;
#   2. Debian 13 or newer: apt's criu (needs root);
#   3. Debian 13's criu with the libraries it needs, unpacked below a prefix of its own:
#      $PPDSM_CRIU_PREFIX, or /opt/ppdsm-criu for root, or ~/.local/share/ppdsm/criu for others.
#      It runs under its own ld.so, so the age of the system's C library does not matter. (Debian 12's CRIU 3.17
#      fails on kernels since 6.13 and on machines without a vDSO.)
# The prefix then holds: criu (a wrapper to run by hand), command (the same as a list of arguments, one a
# line, for programs that start CRIU without a shell), packages (what was unpacked), root/ (the files).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

release=trixie

if [ -n "${PPDSM_CRIU_PREFIX:-}" ]; then
    prefix=$PPDSM_CRIU_PREFIX
elif [ "$(id -u)" = 0 ]; then
    prefix=/opt/ppdsm-criu
else
    prefix=${XDG_DATA_HOME:-$HOME/.local/share}/ppdsm/criu
fi
case $prefix in
    /*) ;;
    *) die "PPDSM_CRIU_PREFIX=$prefix: give an absolute path" ;;
esac
# ld.so splits its library path at colons and semicolons, and the command file is split at newlines.
case $prefix in
    *[:\;]* | *$'\n'*) die "prefix $prefix: it may not contain ':', ';' or a newline" ;;
esac

# Whether this CRIU can work here. Others than root are given what `ppdsm exec` gives them: namespaces of
# their own, with loopback up since CRIU tries TCP.
passes_check() {
    if [ "$(id -u)" = 0 ]; then
        "$@" check >/dev/null 2>&1
    else
        unshare --user --map-root-user --pid --fork --kill-child --mount-proc --net --ipc \
            sh -c 'ip link set lo up && exec "$@"' sh "$@" check --unprivileged >/dev/null 2>&1
    fi
}

system_criu() {
    PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v criu
}

use_system_criu() {
    local criu
    criu=$(system_criu) || return 1
    if passes_check "$criu"; then
        say "CRIU: the system's $criu works ($("$criu" --version | head -n 1))"
        return 0
    fi
    say "CRIU: the system's $criu does not pass 'criu check' on kernel $(uname -r); leaving it alone"
    return 1
}

# Debian 13 and newer have a CRIU that is new enough.
distribution_has_good_criu() {
    local id version
    id=$(. /etc/os-release && echo "${ID:-}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-}")
    [ "$id" = debian ] && [ "${version%%.*}" -ge 13 ] 2>/dev/null
}

prefix_is_sound() {
    [ -x "$prefix/criu" ] && [ -s "$prefix/command" ] && "$prefix/criu" --version >/dev/null 2>&1
}

report_prefix() {
    say "CRIU: $prefix/criu ($("$prefix/criu" --version | head -n 1))"
    if ! passes_check "$prefix/criu"; then
        warn "'$prefix/criu check' fails here: checkpoints may not work; 'ppdsm doctor' says what is missing"
    fi
}

# Mirrors to try: the one this machine already uses for Debian, then the public one.
mirrors() {
    apt-get indextargets --format '$(SITE)' 2>/dev/null | grep -E '/debian/?$' | awk '!seen[$0]++'
}

keyring() {
    local file
    for file in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
        if [ -e "$file" ]; then
            echo "$file"
            return
        fi
    done
    die "no Debian archive keyring in /usr/share/keyrings: install the package debian-archive-keyring"
}

# apt with a sources list, state, cache and status of its own below $1. The empty status makes it believe
# that nothing is installed, so that it fetches every library down to libc. Settings such as a proxy still hold.
private_apt() {
    local apt=$1
    shift
    LC_ALL=C apt-get -qq \
        -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
        -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
        -o Dir::State::extended_states="$apt/extended_states" \
        -o Dir::Cache="$apt/cache" -o Dir::Log="$apt" \
        -o APT::Install-Recommends=false -o APT::Default-Release= -o Acquire::Retries=3 \
        -o Acquire::Languages=none "$@"
}

download() {
    local apt=$1 keys mirror
    keys=$(keyring)
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/status"
    while read -r mirror; do
        say "CRIU: reading $release's package list from $mirror"
        printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$mirror" "$release" >"$apt/sources.list"
        if private_apt "$apt" update -o APT::Update::Error-Mode=any &&
            private_apt "$apt" install --download-only --yes criu; then
            return
        fi
        warn "no CRIU from $mirror"
    done < <(mirrors)
    die "CRIU could not be downloaded; check the network, or build CRIU 4.1 and set PPDSM_CRIU to its path"
}

# Unpacks the downloads into $2 and writes wrapper and command for the final prefix.
unpack() {
    local apt=$1 new=$2 package loader library_dir argument
    mkdir -p "$new/root"
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$new/root"
        dpkg-deb --show --showformat '${Package} ${Version}\n' "$package" >>"$new/packages"
    done
    loader=$(cd "$new/root" && find usr/lib -name 'ld-linux*.so.*' | head -n 1)
    [ -n "$loader" ] || die "the downloaded libc6 has no ld.so"
    library_dir=$(dirname "$loader")
    # The system's ld.so.cache names libraries of another libc: a mix of both would crash.
    printf '%s\n' "$prefix/root/$loader" --inhibit-cache --library-path "$prefix/root/$library_dir" \
        "$prefix/root/usr/sbin/criu" >"$new/command"
    {
        echo '#!/bin/sh'
        echo '# CRIU under its own ld.so and libraries.'
        printf 'exec'
        while read -r argument; do printf " '%s'" "${argument//\'/\'\\\'\'}"; done <"$new/command"
        echo ' "$@"'
    } >"$new/criu"
    chmod 755 "$new" "$new/criu"
    "$new/root/$loader" --inhibit-cache --library-path "$new/root/$library_dir" \
        "$new/root/usr/sbin/criu" --version >/dev/null || die "the unpacked CRIU does not start"
}

install_private() {
    local parent new apt
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 ||
        die "apt-get and dpkg-deb are needed to fetch CRIU; elsewhere build CRIU 4.1 and set PPDSM_CRIU to its path"
    umask 022
    parent=$(dirname "$prefix")
    mkdir -p "$parent"
    # One installer at a time; the lock is on the directory itself, so that it leaves nothing behind.
    exec 9<"$parent"
    flock 9
    if prefix_is_sound; then
        return
    fi
    rm -rf "$prefix".new-*
    new=$prefix.new-$$
    apt=$new/apt
    # shellcheck disable=SC2064  # expanded now on purpose
    trap "rm -rf '${new//\'/\'\\\'\'}'" EXIT
    mkdir -p "$new"
    download "$apt"
    unpack "$apt" "$new"
    rm -rf "$apt"
    say "CRIU: installing to $prefix (nothing of the system is changed):"
    sed 's/^/      /' "$new/packages"
    if [ -e "$prefix" ]; then
        rm -rf "$prefix.old"
        mv -T "$prefix" "$prefix.old"
    fi
    mv -T "$new" "$prefix"
    rm -rf "$prefix.old"
}

# An explicit prefix asks for the private one.
if [ -z "${PPDSM_CRIU_PREFIX:-}" ]; then
    if use_system_criu; then exit 0; fi
    if distribution_has_good_criu && can_be_root && ! system_criu >/dev/null; then
        say "CRIU: installing the distribution's package criu"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends criu
        if use_system_criu; then exit 0; fi
    fi
fi
if ! prefix_is_sound; then install_private; fi
report_prefix
