#!/usr/bin/env bash
# Decoders from stores to tables, from the repository's root. SIZE=smoke goes through all of it on one corpus in some minutes and
# writes nothing into this folder. What is there is not made again.
set -euo pipefail
HERE=experiments/2026-11-decoder
ARTIFACTS=${LCM_HOME:-artifacts}
BIN=${BIN:-.venv/bin}
MODEL=${MODEL:-$ARTIFACTS/bake-off/runs/contrastive_12min-0/best.ckpt} # whose predictions are decoded
STEPS=() SMALL_STEPS=(--trainer.max_steps 700 --model.warmup_steps 50 --trainer.val_check_interval 100)
CORPORA="grimm austen sotu shakespeare moby-dick anarchism" FORETOLD="austen grimm" SENTENCES=64 RESULTS=$HERE
WORK=$ARTIFACTS/decoder
if [[ ${SIZE:-full} == smoke ]]; then
    CORPORA=grimm FORETOLD=grimm SENTENCES=4 WORK=$ARTIFACTS/decoder-smoke RESULTS=$WORK
    STEPS=(--trainer.max_steps 4 --trainer.val_check_interval 4 --trainer.limit_val_batches 1)
    SMALL_STEPS=("${STEPS[@]}")
fi
mkdir -p "$RESULTS"

# list FOLDER NAMES: [FOLDER/NAME,...]
list() {
    local folder=$1 all=()
    shift
    for name in "$@"; do all+=("$folder/$name"); done
    (IFS=,; echo "[${all[*]}]")
}

export LCM=$BIN/lcm
source experiments/fit.sh

# 1. Stores, those of the bake-off.
for corpus in $CORPORA; do "$BIN/lcm" encode "$corpus" --out "$ARTIFACTS/bake/$corpus"; done
# shellcheck disable=SC2086
STORES=$(list "$ARTIFACTS/bake" $CORPORA)

# 2. The default decoder on all corpora, and one of our own.
fit "$WORK/smollm2-r32" --seed_everything 0 -c configs/decoder.yaml -c $HERE/size.yaml --data.store "$STORES" ${STEPS[@]+"${STEPS[@]}"}
[[ ${SIZE:-full} == smoke ]] || # a quarter of the sentences, for the curves
    fit "$WORK/smollm2-quarter" --seed_everything 0 -c configs/decoder.yaml -c $HERE/size.yaml --data.store "$STORES" \
        --trainer.max_steps 150 --trainer.val_check_interval 150
fit "$WORK/small" --seed_everything 0 -c configs/small_decoder.yaml --data.store "$STORES" --data.max_context_tokens 48 \
    --data.batch_size null --data.max_tokens 3072 --trainer.limit_val_batches 4 "${SMALL_STEPS[@]}"

# 3. A second stage on what a model predicts.
for corpus in $FORETOLD; do
    [[ -d $WORK/foretold/$corpus ]] ||
        "$BIN/lcm" foretell "$ARTIFACTS/bake/$corpus" --model "$MODEL" --out "$WORK/foretold/$corpus"
done
# shellcheck disable=SC2086
fit "$WORK/predicted" --seed_everything 0 -c configs/decoder.yaml -c $HERE/size.yaml -c configs/predicted.yaml \
    --data.store "$(list "$ARTIFACTS/bake" $FORETOLD)" --data.predicted "$(list "$WORK/foretold" $FORETOLD)" \
    --model.start "$WORK/smollm2-r32/best.ckpt" --trainer.max_steps 60 --trainer.val_check_interval 60 \
    ${STEPS[@]+"${STEPS[@]}"}

# 4. Measures. Samples come from the corpora in the public domain.
public() {
    local all
    # shellcheck disable=SC2086
    all=$(list "$ARTIFACTS/bake" ${CORPORA/anarchism/})
    echo "${all:1:-1}"
}
given=(--stores "${STORES:1:-1}" --out "$WORK/measured" --sentences $SENTENCES)
"$BIN/python" $HERE/measure.py --decoder smollm2="$WORK/smollm2-r32/best.ckpt" --decoder small="$WORK/small/best.ckpt" "${given[@]}"
[[ ${SIZE:-full} == smoke ]] ||
    "$BIN/python" $HERE/measure.py --decoder smollm2-quarter="$WORK/smollm2-quarter/best.ckpt" "${given[@]}"
"$BIN/python" $HERE/foretold.py --decoder smollm2="$WORK/smollm2-r32/best.ckpt" \
    --decoder "smollm2, trained on predictions=$WORK/predicted/best.ckpt" --store "$ARTIFACTS/bake/grimm" \
    --predicted "$WORK/foretold/grimm" --out "$WORK/foretold.json" --sentences $SENTENCES
"$BIN/python" $HERE/samples.py --decoder smollm2="$WORK/smollm2-r32/best.ckpt" --stores "$(public)" --out "$RESULTS/samples.md"
"$BIN/python" $HERE/table.py "$WORK/measured" "$WORK/foretold.json" "$RESULTS/results.csv"
[[ ${SIZE:-full} == smoke ]] ||
    "$BIN/python" $HERE/curves.py --run smollm2="$WORK/smollm2-r32:14.293" --run small="$WORK/small:37.152"
