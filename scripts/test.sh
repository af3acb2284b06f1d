#!/usr/bin/env bash
# Install with everything the tests need, check, test. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

cores=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # one process per core does more than threads

scripts/install.sh standin,tensorflow,test
scripts/check.sh
.venv/bin/python -m pytest -n "$((cores < 4 ? cores : 4))" --dist loadfile --durations=10 "$@"
