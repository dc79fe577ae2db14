#!/usr/bin/env bash
# From corpora to table and figure, from the repository's root, in one shell. SIZE=smoke goes through all of it on one small
# corpus in two minutes, and writes nothing into this folder. What is there is not made again: a stopped run goes on.
set -euo pipefail
HERE=experiments/2026-11-bake-off
ARTIFACTS=${LCM_HOME:-artifacts}
PYTHON=${PYTHON:-.venv/bin/python}
LANES=${LANES:-2}
export LCM=${LCM:-.venv/bin/lcm}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}

if [[ ${SIZE:-full} == smoke ]]; then
    CORPORA=grimm HEADS="regression energy two_tower two_tower_plain" SEEDS=0 STEPS=20 OVERLAY=$HERE/smoke.yaml
    WORK=$ARTIFACTS/bake-off-smoke RESULTS=$ARTIFACTS/bake-off-smoke
    MEASURE=(--num_positions 64 --num_texts 4) DECODER_SIZE="-c configs/decoder_smoke.yaml" ROUNDS=1
else
    CORPORA="sotu shakespeare austen moby-dick grimm anarchism"
    HEADS=${HEADS:-"contrastive regression two_tower energy flow one_tower energy_contrastive flow_two_tower quantised \
        quantised_continuous contrastive_12min two_tower_12min energy_12min flow_12min one_tower_12min \
        one_tower_contrastive \
        two_tower_plain energy_plain flow_plain one_tower_plain energy_contrastive_plain flow_two_tower_plain \
        quantised_plain quantised_continuous_plain"}
    SEEDS=${SEEDS:-"0 1 2"} STEPS=${STEPS:-} OVERLAY=$HERE/size.yaml
    WORK=$ARTIFACTS/bake-off RESULTS=$HERE
    MEASURE=() DECODER_SIZE="" ROUNDS=5
fi
export STEPS OVERLAY WORK

# Steps of a head in 180 s of one quiet thread of our machine (README: how they were found, and what a first guess adds);
# STEPS=N gives all heads N.
steps_of() {
    if [[ $1 == *_12min ]]; then
        local quarter
        quarter=$(steps_of "${1%_12min}") || return 1
        echo $((4 * quarter)) # 720 s
        return
    fi
    case ${1%_plain} in
        contrastive) echo 162 ;;
        regression) echo 187 ;;
        two_tower) echo 101 ;;
        energy) echo 131 ;;
        flow) echo 138 ;;
        one_tower) echo 97 ;;
        one_tower_contrastive) echo 86 ;;
        energy_contrastive) echo 112 ;;
        flow_two_tower) echo 108 ;;
        quantised) echo 136 ;;
        quantised_continuous) echo 124 ;;
        *) echo "no steps are known for $1; give STEPS" >&2; return 1 ;;
    esac
}

source experiments/fit.sh

# What takes the first guess from a row.
plain_of() {
    case $1 in
        one_tower) echo --model.model.first_guess false ;;
        energy_contrastive) echo --model.model.head.head.first_guess false ;;
        *) echo --model.model.head.first_guess false ;;
    esac
}

# A row and a seed; validated once, at the end, so that the final weights are what is kept.
train() {
    local row=$1 seed=$2 steps config=${1%_12min} changed=""
    steps=${STEPS:-$(steps_of "$row")} || return 1
    [[ $row != *_plain ]] || { config=${row%_plain} && changed=$(plain_of "$config"); }
    # shellcheck disable=SC2086
    fit "$WORK/runs/$row-$seed" --seed_everything "$seed" -c configs/base.yaml -c "configs/$config.yaml" \
        -c "$OVERLAY" $changed --data.store "$STORES" --data.seed "$seed" --model.seed "$seed" \
        --trainer.max_steps "$steps" --trainer.val_check_interval "$steps"
}
export -f steps_of plain_of fit train

# 1. Corpora to stores.
stores=()
for corpus in $CORPORA; do
    "$LCM" encode "$corpus" --out "$ARTIFACTS/bake/$corpus"
    stores+=("$ARTIFACTS/bake/$corpus")
done
STORES="[$(IFS=,; echo "${stores[*]}")]"
export STORES

# 2. A decoder for the columns of text, unless DECODER names one.
if [[ -z ${DECODER:-} ]]; then
    # shellcheck disable=SC2086
    fit "$WORK/decoder" -c configs/decoder.yaml $DECODER_SIZE --data.store "${stores[0]}"
    DECODER=$WORK/decoder/best.ckpt
fi

# 3. Every head, every seed, LANES at a time.
for seed in $SEEDS; do
    for row in $HEADS; do
        echo "$row $seed"
    done
done | xargs -P "$LANES" -n 2 bash -c 'train "$@"' train

# 4. Measures, one file a run; start this line in several shells to share them.
"$PYTHON" $HERE/measure.py --rows $HERE/rows.yaml --runs "$WORK/runs" --stores "$STORES" --decoder "$DECODER" \
    --out "$WORK/measured" ${MEASURE[@]+"${MEASURE[@]}"}
"$PYTHON" $HERE/speed.py --rows $HERE/rows.yaml --runs "$WORK/runs" --store "${stores[0]}" --out "$WORK/speed.json" \
    --rounds "$ROUNDS"
"$PYTHON" $HERE/first_guess.py --runs "$WORK/runs" | tee "$WORK/first_guess.md"

# 5. Table and figure.
"$PYTHON" $HERE/table.py "$WORK/measured" "$RESULTS/results.csv" "$WORK/speed.json" | tee "$WORK/tables.md"
"$PYTHON" $HERE/plot.py "$RESULTS/results.csv" "$RESULTS/by_position.png"
