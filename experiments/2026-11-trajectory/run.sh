#!/usr/bin/env bash
# Three tales in the plane of their corpus; from the repository's root, after `make demo`.
set -euo pipefail
.venv/bin/python experiments/2026-11-trajectory/plot.py artifacts/demo/store experiments/2026-11-trajectory/tales.png 0 5 9
