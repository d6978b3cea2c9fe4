#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian 12 / Ubuntu 24.04 packages that one part of the work needs:
#
#     deploy/packages.sh WHAT...      WHAT: build, run, test, bench, deb
#
# Asks dpkg first and calls apt-get only for what is missing, so a second run says nothing and
# takes a moment.
set -eu

fail() {
    echo "packages.sh: $*" >&2
    exit 1
}

# The sanitizers' run-time library of the distribution's own clang.
clang_runtime() {
    case "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" in
        bookworm) echo libclang-rt-14-dev ;;
        noble) echo libclang-rt-18-dev ;;
        *) echo libclang-rt-dev ;;
    esac
}

# Prints the packages unless the command they bring is there already, from wherever it came.
unless_on_path() {
    command -v "$1" >/dev/null 2>&1 || { shift; echo "$@"; }
}

# For the tests of the dashboard. Ubuntu has it as a snap only: there they say that they are skipped.
headless_chromium() {
    case "$(. /etc/os-release && echo "${ID:-}")" in
        debian) echo chromium-headless-shell ;;
    esac
}

packages_of() {
    case "$1" in
        build)
            echo gcc libc6-dev cmake ninja-build pkg-config ca-certificates
            echo libev-dev libssl-dev libbson-dev libmongoc-dev libgsasl-dev libyaml-dev libmicrohttpd-dev libhiredis-dev libcurl4-openssl-dev
            echo libsnappy-dev zlib1g-dev libzstd-dev libncurses-dev
            unless_on_path npm npm
            ;;
        run) echo python3 python3-venv openssl ca-certificates ;;
        test)
            echo libcmocka-dev liblua5.1-0-dev clang llvm clang-format clang-tidy valgrind "$(clang_runtime)"
            echo python3 python3-venv openssl libfaketime
            unless_on_path redis-server redis-server
            unless_on_path promtool prometheus
            unless_on_path node nodejs
            unless_on_path go golang-go
            headless_chromium
            ;;
        bench) echo haproxy python3 ;;
        deb) echo debhelper dpkg-dev lintian mmdebstrap pkgconf systemd-container ;;
        *) fail "'$1' is none of build, run, test, bench, deb" ;;
    esac
}

missing_of() {
    for package in "$@"; do
        status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || echo "$package"
    done
}

# Tests start their own; the package would have one run from now on.
stop_redis() {
    [ ! -d /run/systemd/system ] || $as_root systemctl disable --quiet --now redis-server
}

install_packages() {
    if [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        fail "these packages are missing, and installing them takes root or sudo: $*"
    fi
    command -v apt-get >/dev/null 2>&1 || fail "no apt-get here; install these by hand: $*"
    log=$(mktemp)
    echo "Installing $*"
    if ! {
        $as_root apt-get -q update &&
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -q -y install --no-install-recommends "$@"
    } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        fail "apt-get failed; all it said is in $log"
    fi
    rm -f "$log"
    case " $* " in *" redis-server "*) stop_redis ;; esac
}

[ $# -gt 0 ] || fail "say what for: build, run, test, bench, deb"
wanted=
for what in "$@"; do
    wanted="$wanted $(packages_of "$what")"
done
missing=$(missing_of $wanted | sort -u)
[ -z "$missing" ] || install_packages $missing
