#!/usr/bin/env bash
# From corpora to table and figure, from the repository's root. SIZE=smoke goes through all of it on one small corpus in
# two minutes, and writes nothing into this folder. What is there is not made again: a stopped run goes on.
set -euo pipefail
HERE=experiments/2026-11-bake-off
ARTIFACTS=${LCM_HOME:-artifacts}
PYTHON=${PYTHON:-.venv/bin/python}
LCM=${LCM:-.venv/bin/lcm}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

if [[ ${SIZE:-full} == smoke ]]; then
    CORPORA=grimm HEADS="regression energy two_tower" SEEDS=0 STEPS=20 OVERLAY=$HERE/smoke.yaml
    WORK=$ARTIFACTS/bake-off-smoke RESULTS=$ARTIFACTS/bake-off-smoke
    MEASURE=(--num_positions 64 --num_texts 4) DECODER_SIZE="-c configs/decoder_smoke.yaml" ROUNDS=1
else
    CORPORA="sotu shakespeare austen moby-dick grimm anarchism"
    HEADS=${HEADS:-"regression contrastive two_tower one_tower flow flow_two_tower energy quantised quantised_continuous"}
    SEEDS=${SEEDS:-"0 1 2"} STEPS=${STEPS:-2000} OVERLAY=$HERE/size.yaml
    WORK=$ARTIFACTS/bake-off RESULTS=$HERE
    MEASURE=() DECODER_SIZE="" ROUNDS=5
fi

# 1. Corpora to stores.
stores=()
for corpus in $CORPORA; do
    "$LCM" encode "$corpus" --out "$ARTIFACTS/bake/$corpus"
    stores+=("$ARTIFACTS/bake/$corpus")
done
list="[$(IFS=,; echo "${stores[*]}")]"

# 2. A decoder for the columns of text, unless DECODER names one.
DECODER=${DECODER:-$WORK/decoder/best.ckpt}
# shellcheck disable=SC2086
[[ -f $DECODER ]] || "$LCM" fit -c configs/decoder.yaml $DECODER_SIZE --data.store "${stores[0]}" \
    --trainer.default_root_dir "$WORK/decoder"

# 3. Every head, every seed. STEPS_two_tower=900 and the like give a head steps of its own, so that all take as long.
for seed in $SEEDS; do
    for head in $HEADS; do
        run=$WORK/runs/$head-$seed steps=STEPS_$head
        [[ -f $run/best.ckpt ]] || "$LCM" fit --seed_everything "$seed" -c configs/base.yaml -c "configs/$head.yaml" \
            -c "$OVERLAY" --data.store "$list" --data.seed "$seed" --model.seed "$seed" \
            --trainer.max_steps "${!steps:-$STEPS}" --trainer.default_root_dir "$run"
    done
done

# 4. Measures, one file a run; start this line in several shells to share them.
"$PYTHON" $HERE/measure.py --rows $HERE/rows.yaml --runs "$WORK/runs" --stores "$list" --decoder "$DECODER" \
    --out "$WORK/measured" ${MEASURE[@]+"${MEASURE[@]}"}
"$PYTHON" $HERE/speed.py --rows $HERE/rows.yaml --runs "$WORK/runs" --store "${stores[0]}" --out "$WORK/speed.json" \
    --rounds "$ROUNDS"

# 5. Table and figure.
"$PYTHON" $HERE/table.py "$WORK/measured" "$RESULTS/results.csv" "$WORK/speed.json" | tee "$WORK/tables.md"
"$PYTHON" $HERE/plot.py "$RESULTS/results.csv" "$RESULTS/by_position.png"
