#!/usr/bin/env bash
# Train and measure the rows of ablations.yaml, from the repository's root, in one shell: bash .../ablations.sh. SIZE=smoke
# goes through all of it on one small corpus. What is there is not made again: a stopped run goes on.
set -euo pipefail
HERE=experiments/2026-11-bake-off
ARTIFACTS=${LCM_HOME:-artifacts}
PYTHON=${PYTHON:-.venv/bin/python}
LANES=${LANES:-2}
export LCM=${LCM:-.venv/bin/lcm}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}

if [[ ${SIZE:-full} == smoke ]]; then
    CORPORA=grimm SEEDS=0 STEPS=${STEPS:-4} OVERLAY=$HERE/smoke.yaml
    WORK=$ARTIFACTS/bake-off-smoke/ablations RESULTS=$ARTIFACTS/bake-off-smoke/ablations
    MEASURE=(--num_positions 32 --num_draws 2)
else
    CORPORA="sotu shakespeare austen moby-dick grimm anarchism" SEEDS=${SEEDS:-0} STEPS=${STEPS:-150}
    OVERLAY=$HERE/size.yaml WORK=$ARTIFACTS/bake-off/ablations RESULTS=$HERE MEASURE=()
fi
ONLY=${ONLY:-} # regular expression: only rows with it in their name
export STEPS OVERLAY WORK

source experiments/fit.sh

# A seed, a row and its overlays and options; validated once, at the end, so that the final weights are what is kept.
train() {
    local seed=$1 row=$2
    shift 2
    fit "$WORK/runs/$row-$seed" --seed_everything "$seed" -c configs/base.yaml -c "$OVERLAY" "$@" \
        --data.store "$STORES" --data.seed "$seed" --model.seed "$seed" \
        --trainer.max_steps "$STEPS" --trainer.val_check_interval "$STEPS"
}
export -f fit train

# 1. Stores, as in run.sh.
stores=()
for corpus in $CORPORA; do
    "$LCM" encode "$corpus" --out "$ARTIFACTS/bake/$corpus"
    stores+=("$ARTIFACTS/bake/$corpus")
done
STORES="[$(IFS=,; echo "${stores[*]}")]"
export STORES

# 2. Every row, every seed, LANES at a time.
rows=$("$PYTHON" $HERE/ablations.py options --rows $HERE/ablations.yaml --only "$ONLY")
for seed in $SEEDS; do
    while read -r row; do
        echo "$seed $row"
    done <<<"$rows"
done | xargs -P "$LANES" -L 1 bash -c 'train "$@"' train

# 3. Measures, one file a run; start this line in several shells to share them.
"$PYTHON" $HERE/measure.py --rows $HERE/ablations.yaml --runs "$WORK/runs" --stores "$STORES" --out "$WORK/measured" \
    --only "$ONLY" ${MEASURE[@]+"${MEASURE[@]}"}

# 4. Tables.
"$PYTHON" $HERE/ablations.py tables --rows $HERE/ablations.yaml --measured "$WORK/measured" \
    --out "$RESULTS/ablations.csv" | tee "$WORK/ablations.md"
