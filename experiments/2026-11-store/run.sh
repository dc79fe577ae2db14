#!/usr/bin/env bash
# Everything behind the table of this folder, from the repository's root; about an hour on two cores; the 200,000 sentences that
# both engines encode are twelve minutes of it. SIZE=smoke goes through every step in a few minutes.
set -euo pipefail
cd "$(dirname "$0")"
PYTHON=${PYTHON:-../../.venv/bin/python}
OUT=${OUT:-results.csv}
SIZE=${SIZE:-full}
if [ "$SIZE" = smoke ]; then ROWS=70000 LARGE=200000 KILLS=3 RAY="--sentences 1500 --threads 2"; else ROWS=500000 LARGE=2000000 KILLS=60 RAY="--sentences 200000 --threads 2"; fi
echo "what,of,value,low,high,unit,ratio" >"$OUT"
"$PYTHON" read_speed.py --rows "$ROWS" >>"$OUT"
"$PYTHON" memory.py --rows "$ROWS" >>"$OUT"
"$PYTHON" memory.py --rows "$LARGE" >>"$OUT"
"$PYTHON" fill.py >>"$OUT"
"$PYTHON" kills.py --kills "$KILLS" >>"$OUT"
"$PYTHON" ray_kill.py >>"$OUT"
"$PYTHON" ray_overhead.py $RAY >>"$OUT"
"$PYTHON" table.py "$OUT"
