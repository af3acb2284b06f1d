#!/usr/bin/env bash
# Formatting, lint, types and the direction of imports. Uses .venv where there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

ruff format --check .
ruff check .
mypy
python -m pytest -q tests/test_imports.py
