#!/usr/bin/env bash
# Everything that a fresh Debian 12 needs to run and test trueup. Safe to run again: what is there is reused.
# Called by `make setup`. Installs system packages when root, else names the missing ones and stops.
set -euo pipefail
cd "$(dirname "$0")/.."
for path in . .cache .venv .state; do
    if [ -e "$path" ] && [ ! -w "$path" ]; then
        echo "setup: $(id -un) cannot write $PWD/$path, which belongs to $(stat -c %U "$path"); run:" >&2
        echo "  sudo chown -R $(id -un): $PWD    # or clone the repository into a folder of your own" >&2
        exit 1
    fi
done
mkdir -p .cache
python=${PYTHON:-python3}

# fail LOG WHY: the end of a log, then one line.
fail() {
    tail -15 "$1" >&2
    echo "setup: $2; the whole log is $1" >&2
    exit 1
}

# said LOG COMMAND...: runs it with its output in the log, and says how long it took.
said() {
    local log=$1 started=$SECONDS
    shift
    "$@" >"$log" 2>&1 || return 1
    echo "setup: done in $((SECONDS - started)) s"
}

if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is no Debian (dpkg-query is missing); trueup is set up on Debian 12 or newer" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "setup: $python is missing or older than 3.11; install it, or name another one: make PYTHON=/path/to/python3" >&2
    exit 1
fi

packages=$(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' deploy/packages.txt)
missing=()
for package in $packages; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done

install_missing() {
    # Debian starts an installed haproxy or registry as a service; trueup runs its own, so no service shall start here.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
        trap "rm -f $policy" EXIT
    fi
    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: Debian packages are missing, and only root can install them. Run this, then the same again:" >&2
        echo "  sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends ${missing[*]}'" >&2
        exit 1
    fi
    echo "setup: installing ${#missing[@]} Debian packages: ${missing[*]}" | fold -s -w 110
    said .cache/apt.log install_missing || fail .cache/apt.log "apt-get failed"
fi

make_environment() {
    "$python" -m venv .venv &&
        .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements-dev.lock &&
        .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
}
stamp=.venv/locked.sha256
want=$(cat requirements-dev.lock pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    echo "setup: making the virtual environment .venv from requirements-dev.lock"
    rm -rf .venv
    said .cache/pip.log make_environment || fail .cache/pip.log "pip failed"
    printf '%s\n' "$want" >"$stamp"
fi

# All of it comes out of Debian packages that apt downloads and checks; unchanged ones are reused in a second.
make_files() {
    .venv/bin/python -m agent.guest.build --output .cache/guest && .venv/bin/python -m tests.acceptance.images .cache/images &&
        .venv/bin/python -m tests.oidc.package .cache
}
[ -e .cache/guest/vmlinuz ] || echo "setup: making the guest's kernel and init, the images of the demo, and the tests' OIDC provider"
if ! make_files >.cache/files.log 2>&1; then
    # apt's lists may be missing, or older than what Debian still has.
    [ "$(id -u)" -eq 0 ] || fail .cache/files.log "that failed; if apt's lists are old, run: sudo apt-get update"
    { apt-get update && make_files; } >>.cache/files.log 2>&1 || fail .cache/files.log "that failed"
fi
