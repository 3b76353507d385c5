#!/bin/sh
# From any folder: bench/truth.sh --help
cd "$(dirname "$0")/.." && exec .venv/bin/python -m bench.truth "$@"
