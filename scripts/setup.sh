#!/bin/sh
# Makes sure that this machine has what the build, the tests and the demo need; quiet when it does.
#
#   scripts/setup.sh          a C compiler, cargo, PostgreSQL's server binaries (installed when we may)
#   scripts/setup.sh lint     also rustfmt and clippy
#   scripts/setup.sh sqlx     also sqlx-cli, under .tools/
#   scripts/setup.sh nats     also nats-server, for the tests of brokers
#   scripts/setup.sh kafka    also what librdkafka is built with: a C++ compiler, make, OpenSSL, zlib
#   scripts/setup.sh where    also print the folder of the server binaries
#
# Nothing is left running: Debian would start a cluster of its own after the installation, which we switch off.
set -eu
cd "$(dirname "$0")/.."

SQLX_VERSION=0.9.0
PATH="$PATH:${HOME:-/}/.cargo/bin"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# The same places as src/store/cluster/binaries.rs; prints the first folder that has both programs.
find_postgres() {
    found=$(
        IFS=:
        for dir in $PATH; do
            if [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ]; then
                printf '%s\n' "$dir"
                break
            fi
        done
    )
    for dir in "$found" /usr/lib/postgresql/*/bin /usr/local/opt/postgresql*/bin /opt/homebrew/opt/postgresql*/bin \
        /usr/pgsql-*/bin; do
        if [ -n "$dir" ] && [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ]; then
            printf '%s\n' "$dir"
            return 0
        fi
    done
    return 1
}

# How a person installs what is missing here: $1 is postgres or cc.
command_for() {
    case "$(uname -s)" in
    Darwin)
        if [ "$1" = cc ]; then echo 'xcode-select --install'; else echo 'brew install postgresql@17'; fi
        return
        ;;
    esac
    if [ -e /etc/debian_version ]; then
        if [ "$1" = cc ]; then echo 'sudo apt-get install gcc libc6-dev'; else echo 'sudo apt-get install postgresql'; fi
    elif [ -e /etc/alpine-release ]; then
        if [ "$1" = cc ]; then echo 'apk add gcc musl-dev'; else echo 'apk add postgresql'; fi
    elif [ -e /etc/redhat-release ] || [ -e /etc/fedora-release ]; then
        if [ "$1" = cc ]; then echo 'sudo dnf install gcc'; else echo 'sudo dnf install postgresql-server'; fi
    elif [ "$1" = cc ]; then
        echo "your package manager's C compiler (often the package gcc)"
    else
        echo "your package manager's PostgreSQL server (often the package postgresql or postgresql-server)"
    fi
}

# Runs a command as root without asking for a password, or fails.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# Says what it does only when it may do it; the output of apt-get is shown only when it fails.
apt_install() {
    has apt-get && as_root true || return 1
    say "installing $* with apt-get"
    log=$(mktemp)
    if as_root apt-get update -qq >"$log" 2>&1 &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            -o Dpkg::Options::=--force-confold "$@" >>"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    tail -n 20 "$log" >&2
    rm -f "$log"
    return 1
}

# Debian's package makes and starts a cluster unless it is told not to; a file that is there is somebody's choice.
without_debian_cluster() {
    conf=/etc/postgresql-common/createcluster.conf
    if [ ! -e "$conf" ] && has apt-get && as_root true; then
        as_root mkdir -p "${conf%/*}"
        echo 'create_main_cluster = false' | as_root tee "$conf" >/dev/null
    fi
}

brew_install() {
    [ "$(uname -s)" = Darwin ] && has brew || return 1
    say "installing $* with brew"
    brew install --quiet "$@"
}

need_cc() {
    has cc && return 0
    apt_install gcc libc6-dev || fail "no C compiler (cc) found; install one with: $(command_for cc)"
}

need_cargo() {
    has cargo && return 0
    fail "no cargo found; install Rust with: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
}

need_postgres() {
    find_postgres >/dev/null && return 0
    without_debian_cluster
    apt_install postgresql || brew_install postgresql@17 ||
        fail "no PostgreSQL server found; install it with: $(command_for postgres)"
    find_postgres >/dev/null || fail 'PostgreSQL was installed, but its server binaries (postgres, initdb) are nowhere'
}

need_lint() {
    if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then
        return 0
    fi
    has rustup || fail 'rustfmt or clippy is missing; install the packages of them that belong to your cargo'
    say 'adding rustfmt and clippy'
    rustup component add rustfmt clippy
}

# Debian's package starts a server on port 4222; nobody asked for that.
need_nats() {
    if PATH="$PATH:/usr/sbin:/usr/local/sbin" has nats-server; then
        return 0
    fi
    if apt_install nats-server; then
        if has systemctl; then as_root systemctl disable --now nats-server >/dev/null 2>&1 || true; fi
    elif ! brew_install nats-server; then
        say 'no nats-server found; the tests of brokers need it (Debian: sudo apt-get install nats-server; else https://nats.io/download)'
    fi
}

need_kafka() {
    missing=
    has c++ || missing="$missing g++"
    has make || missing="$missing make"
    has pkg-config || missing="$missing pkg-config"
    if has pkg-config; then
        pkg-config --exists openssl || missing="$missing libssl-dev"
        pkg-config --exists zlib || missing="$missing zlib1g-dev"
    else
        missing="$missing libssl-dev zlib1g-dev"
    fi
    [ -z "$missing" ] && return 0
    # shellcheck disable=SC2086 # these are several packages
    apt_install $missing || brew_install make pkgconf openssl@3 ||
        fail "librdkafka cannot be built; install (names of Debian):$missing"
}

need_sqlx() {
    [ -x .tools/bin/cargo-sqlx ] && return 0
    say "installing sqlx-cli $SQLX_VERSION under .tools (some minutes)"
    cargo install sqlx-cli --version "$SQLX_VERSION" --locked --no-default-features --features postgres,rustls \
        --root .tools --quiet
}

need_cc
need_cargo
need_postgres
for extra in "$@"; do
    case "$extra" in
    lint) need_lint ;;
    sqlx) need_sqlx ;;
    nats) need_nats ;;
    kafka) need_kafka ;;
    where) find_postgres ;;
    *) fail "unknown argument $extra; there are: lint, sqlx, nats, kafka, where" ;;
    esac
done
