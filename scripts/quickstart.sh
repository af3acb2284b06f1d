#!/usr/bin/env bash
# Install into .venv, rank the bundled policies in the bundled world model, and compare the ranking
# with trials on the stand-in robot.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "1/2 installing (a second run skips this)"
scripts/install.sh
echo "2/2 ranking policies: v2w rank configs/rank_standin.yaml"
.venv/bin/v2w rank configs/rank_standin.yaml
