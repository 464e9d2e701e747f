# shellcheck shell=bash
# What the scripts share. Sourced, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# Debian keeps servers in directories that are not in everybody's PATH.
PATH="$PATH:$HOME/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH

have() { command -v "$1" >/dev/null 2>&1; }

have_postgres() {
    [ -n "${STANBY_PG_BIN-}" ] || have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

# Installs the Debian packages named, or says that somebody has to. Only programs are wanted: the services that come
# with them are neither started nor enabled, so that nothing takes a port or makes a database behind one's back.
install_packages() {
    [ $# -gt 0 ] || return 0
    have apt-get || fail "missing: $*. Those are the names of Debian's packages; install what your system calls them"
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        have sudo || fail "missing: $*. Ask an administrator for: apt-get install --no-install-recommends $*"
        as_root=(sudo)
    fi
    say "installing $*"
    "${as_root[@]}" bash -s -- "$@" >&2 <<'ROOT'
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
clusters=/etc/postgresql-common/createcluster.conf
if [[ " $* " == *" postgresql "* ]] && [ ! -e "$clusters" ]; then
    mkdir -p "${clusters%/*}"
    printf '%s\n' '# Installing Postgres makes no cluster.' 'create_main_cluster = false' >"$clusters"
fi
install() { apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "$@"; }
install "$@" </dev/null || { apt-get update -qq && install "$@" </dev/null; }
for service in nats-server prometheus mariadb; do
    if [[ " $* " == *" $service "* ]] && [ -d /run/systemd/system ]; then
        systemctl disable --quiet "$service.service"
    fi
done
ROOT
}

need_cargo() {
    have cargo || fail "cargo is missing: install Rust 1.95 or newer (https://rustup.rs)"
    have cc || install_packages gcc libc6-dev
}

# Gives a target directory that is not there yet what target/debug has of dependencies, as links that take no room. What is built
# there for the same versions then builds its own crates alone; what does not fit, cargo builds anew.
share_dependencies() {
    local other=$1
    [ ! -e "$other" ] && [ -d target/debug/deps ] || return 0
    mkdir -p "$other/debug"
    if cp -al target/debug/{build,deps,.fingerprint} "$other/debug" 2>/dev/null; then
        # Those of this version are not to be written into.
        cargo clean --locked --quiet -p stanby --target-dir "$other"
    else
        rm -rf "$other"
    fi
}

# Builds tests as cargo's arguments say, at the niceness BUILD_NICE. `program_of NAME` is the binary of a test, `lib` or `main` for those of the crate itself.
declare -A programs=()
build_tests() {
    local lines line name
    lines=$(mktemp)
    CARGO_TERM_COLOR=never nice -n "${BUILD_NICE-0}" cargo test --locked --no-run "$@" 2>&1 | tee "$lines" >&2
    while read -r line; do
        name=$(sed -n 's|.*(\(.*/\)\?\(.*\)-[0-9a-f]*)$|\2|p' <<<"$line")
        case "$line" in
        *"unittests src/lib.rs"*) name=lib ;;
        *"unittests src/main.rs"*) name=main ;;
        esac
        line=${line##*(}
        programs[$name]=${line%)}
    done < <(grep '^ *Executable ' "$lines")
    rm "$lines"
    [ ${#programs[@]} != 0 ] || fail "cargo names no test binary"
}

cargo_version() { sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml; }

# Of the source, in seconds since 1970: the day of a build says nothing about what was built.
source_date() {
    [ -z "${SOURCE_DATE_EPOCH-}" ] || {
        printf '%s\n' "$SOURCE_DATE_EPOCH"
        return
    }
    git log -1 --format=%ct 2>/dev/null || fail "outside of a clone, give SOURCE_DATE_EPOCH: seconds since 1970 of the source"
}

# Builds the program with this profile. Where the source, the crates and the target directory lie leaves no trace in it.
build_release() {
    need_cargo
    local crates=${CARGO_HOME-$HOME/.cargo}
    STANBY_BUILD_COMMIT=${STANBY_BUILD_COMMIT-$(git rev-parse HEAD 2>/dev/null || true)} \
        SOURCE_DATE_EPOCH=$(source_date) CARGO_INCREMENTAL=0 \
        RUSTFLAGS="${RUSTFLAGS-} --remap-path-prefix=${CARGO_TARGET_DIR-$PWD/target}=/target --remap-path-prefix=$PWD=/source --remap-path-prefix=$crates=/cargo" \
        cargo build --locked --bin stanby --profile "$1"
}
