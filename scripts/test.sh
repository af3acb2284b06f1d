#!/usr/bin/env bash
# Install all that the tests need, then check and test. Arguments are passed to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

cores=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # one process per core does more than threads

scripts/install.sh standin,tensorflow,hdf5,test

# The checks run beside the tests, which often wait; their findings are printed last.
findings=$(mktemp)
scripts/check.sh >"$findings" 2>&1 &
checks=$!
trap 'kill "$checks" 2>/dev/null || true; rm -f "$findings"' EXIT

status=0
.venv/bin/python -m pytest -n "$((cores < 4 ? cores : 4))" --dist worksteal --durations=10 "$@" ||
    status=$?
wait "$checks" || status=$?
cat "$findings"
exit "$status"
