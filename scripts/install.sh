#!/usr/bin/env bash
# Make .venv and install the package in it: scripts/install.sh [EXTRA,EXTRA]
# Does nothing if .venv is up to date with this folder and these requirements.
set -euo pipefail
cd "$(dirname "$0")/.."
extras="${1:-}"

fail() {
    echo "install: $*" >&2
    exit 1
}

find_python() {
    local without_venv="" name
    for name in python3.11 python3.12 python3.10 python3; do
        "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
            >/dev/null 2>&1 || continue
        if "$name" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            command -v "$name"
            return
        fi
        without_venv="$name"
    done
    [ -z "$without_venv" ] || fail "found $without_venv, but it cannot make virtual environments;" \
        "install its venv module (Debian, Ubuntu: sudo apt install $without_venv-venv)"
    fail "expected Python 3.10, 3.11 or 3.12 on the PATH, found none; install one from python.org"
}

[ -w . ] || fail "expected permission to write in $PWD, found none; use a folder that you own"

stamp=".venv/installed-${extras:-core}"
state="$PWD $(cat setup.cfg pyproject.toml constraints.txt | cksum)"
if [ "$(cat "$stamp" 2>/dev/null)" = "$state" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "install: making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
fi

# --no-compile: modules are compiled on first import. Compiling all of them takes 40 s, and most are
# never used. torch comes first, with its exact version, so that pip takes a CPU build where an
# index offers one.
echo "install: PyTorch (the largest part)"
.venv/bin/python -m pip install --no-compile "$(grep '^torch==' constraints.txt)" -c constraints.txt
echo "install: v2w-gym${extras:+ with $extras}"
.venv/bin/python -m pip install --no-compile -e ".${extras:+[$extras]}" -c constraints.txt
echo "$state" >"$stamp"
