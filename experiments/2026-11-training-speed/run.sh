#!/usr/bin/env bash
# Everything behind the table of this folder; about half an hour on two idle cores. SIZE=smoke goes through it in a minute.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-experiments/2026-11-training-speed/results.csv}
SPEED="$PYTHON experiments/2026-11-training-speed/speed.py"
if [ "${SIZE:-full}" = smoke ]; then ROUNDS=1 LONG_ROUNDS=1 SHORT=128 LONG=256; else ROUNDS=7 LONG_ROUNDS=5 SHORT=1024 LONG=4096; fi
echo "threads,length,rows,documents,side,parameters,rounds,concepts_per_second,low,high,times_peer,times_peer_low,times_peer_high,times_peer_without_dropout,times_peer_without_dropout_low,times_peer_without_dropout_high" >"$OUT"
$SPEED --rounds $ROUNDS --length $SHORT >>"$OUT"
$SPEED --rounds $LONG_ROUNDS --length $LONG --rows 1 --but "peer, dropout 0.1 (its default)" >>"$OUT"  # 20 s a step
$SPEED --rounds $ROUNDS --length $SHORT --threads 2 >>"$OUT"
cat "$OUT"
