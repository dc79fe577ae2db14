#!/usr/bin/env bash
# The sweep over soft tokens, rank, noise and context, from the repository's root, in one thread: the same sentences for every
# row of sweep.yaml. SIZE=smoke takes four steps. What is there is not made again: a stopped run goes on.
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}
HERE=experiments/2026-11-decoder
ARTIFACTS=${LCM_HOME:-artifacts}
PYTHON=${PYTHON:-.venv/bin/python}
export LCM=${LCM:-.venv/bin/lcm}
STORES=$ARTIFACTS/bake/grimm,$ARTIFACTS/bake/austen,$ARTIFACTS/bake/sotu
STEPS=${STEPS:-60} SENTENCES=64 BATCHES=4 WORK=$ARTIFACTS/decoder/sweep RESULTS=$HERE/sweep.csv
if [[ ${SIZE:-full} == smoke ]]; then
    STORES=$ARTIFACTS/bake/grimm STEPS=4 SENTENCES=4 BATCHES=1 WORK=$ARTIFACTS/decoder-smoke/sweep RESULTS=$WORK/sweep.csv
fi
source experiments/fit.sh

for store in ${STORES//,/ }; do "$LCM" encode "$(basename "$store")" --out "$store"; done
"$PYTHON" $HERE/sweep.py options | while IFS=$'\t' read -r row options; do
    # shellcheck disable=SC2086
    fit "$WORK/$row" --seed_everything 0 -c configs/decoder.yaml -c $HERE/size.yaml --data.store "[$STORES]" \
        --trainer.max_steps "$STEPS" --trainer.val_check_interval "$STEPS" --trainer.limit_val_batches "$BATCHES" $options </dev/null
    "$PYTHON" $HERE/measure.py --decoder "$row=$WORK/$row/best.ckpt" --stores "$STORES" --out "$WORK/measured" \
        --sentences "$SENTENCES" --candidates 1
done
"$PYTHON" $HERE/sweep.py table "$WORK" "$RESULTS"
