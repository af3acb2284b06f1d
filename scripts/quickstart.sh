#!/usr/bin/env bash
# From a fresh clone to a ranking: installs into .venv, then ranks the bundled policies in the
# bundled world model and compares the ranking with the stand-in robot's.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "1/2 installing; a second run skips this"
scripts/install.sh
echo "2/2 ranking policies: v2w rank configs/rank_standin.yaml"
.venv/bin/v2w rank configs/rank_standin.yaml
