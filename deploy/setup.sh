#!/usr/bin/env bash
# Everything that a fresh Debian 12 needs to run and test trueup. Safe to run again: what is there is reused.
# Called by `make setup`. Installs system packages when root, else names the missing ones and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=$(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' deploy/packages.txt)
missing=()
for package in $packages; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: these Debian packages are missing; run: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "setup: installing ${#missing[@]} Debian packages: ${missing[*]}"
    mkdir -p .cache
    # Debian starts an installed haproxy or registry as a service; trueup runs its own, so no service shall start here.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update >.cache/apt.log 2>&1 &&
        apt-get install -y --no-install-recommends "${missing[@]}" >>.cache/apt.log 2>&1 ||
        { tail -20 .cache/apt.log >&2; echo "setup: apt-get failed; the whole log is .cache/apt.log" >&2; exit 1; }
fi

stamp=.venv/locked.sha256
want=$(cat requirements-dev.lock pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    echo "setup: making the virtual environment .venv from requirements-dev.lock"
    rm -rf .venv
    mkdir -p .cache
    {
        "${PYTHON:-python3}" -m venv .venv &&
            .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements-dev.lock &&
            .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
    } >.cache/pip.log 2>&1 ||
        { tail -20 .cache/pip.log >&2; echo "setup: pip failed; the whole log is .cache/pip.log" >&2; exit 1; }
    printf '%s\n' "$want" >"$stamp"
fi

.venv/bin/python -m agent.guest.build --output .cache/guest >/dev/null
