#!/usr/bin/env bash
# Second trainings behind run.sh's smollm2-r32, from the repository's root: the decoder alone (the control), with its encoder (the
# codec), with its own hypotheses (correction). ONLY=codec and the like takes one; SIZE=smoke takes two steps on one corpus.
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}
HERE=experiments/2026-11-decoder
ARTIFACTS=${LCM_HOME:-artifacts}
PYTHON=${PYTHON:-.venv/bin/python}
export LCM=${LCM:-.venv/bin/lcm}
CORPORA="grimm austen sotu shakespeare moby-dick anarchism" MEASURED="grimm austen sotu" SENTENCES=64 WORK=$ARTIFACTS/decoder
STEPS=() START=$ARTIFACTS/decoder/smollm2-r32/best.ckpt
if [[ ${SIZE:-full} == smoke ]]; then
    CORPORA=grimm MEASURED=grimm SENTENCES=4 WORK=$ARTIFACTS/decoder-smoke START=$WORK/smollm2-r32/best.ckpt
    STEPS=(--trainer.max_steps 2 --trainer.val_check_interval 2 --trainer.limit_val_batches 1)
fi
source experiments/fit.sh

# stores FOLDER CORPORA: their folders, with commas between
stores() { local folder=$1 && shift && printf "$folder/%s," "$@" | sed 's/,$//'; }

# train ROW OVERLAYS OPTIONS
train() {
    local row=$1 overlays=$2
    shift 2
    # shellcheck disable=SC2086
    fit "$WORK/$row" --seed_everything 0 $overlays -c $HERE/second.yaml --data.store "[$(stores "$ARTIFACTS/bake" $CORPORA)]" \
        --model.start "$START" "$@" ${STEPS[@]+"${STEPS[@]}"}
}

# measure ROW STORES OPTIONS
measure() {
    local row=$1 stores=$2
    shift 2
    "$PYTHON" $HERE/measure.py --decoder "$row=$WORK/$row/best.ckpt" --stores "$stores" --out "$WORK/measured" --sentences "$SENTENCES" "$@"
}

# shellcheck disable=SC2086
OLD=$(stores "$ARTIFACTS/bake" $MEASURED)
for row in ${ONLY:-control codec correction}; do
    case $row in
        control)
            train control "-c configs/decoder.yaml"
            measure control "$OLD" --candidates 1
            ;;
        codec)
            train codec "-c configs/codec.yaml" --model.encoder_lr 1e-4 --model.encoder_steps 0 --model.structure_weight 3
            for corpus in $MEASURED; do
                "$LCM" encode "$corpus" --encoder "$WORK/codec/encoder" --out "$WORK/codec/stores/$corpus"
            done
            # shellcheck disable=SC2086
            "$PYTHON" $HERE/measure.py --decoder "codec=$WORK/codec/decoder.ckpt" --stores "$(stores "$WORK/codec/stores" $MEASURED)" \
                --out "$WORK/measured" --sentences "$SENTENCES"
            for corpus in $MEASURED; do
                "$PYTHON" $HERE/codec_report.py --old "$ARTIFACTS/bake/$corpus" --old_decoder "$WORK/control/best.ckpt" \
                    --new "$WORK/codec/stores/$corpus" --new_decoder "$WORK/codec/decoder.ckpt" --num_sentences "$SENTENCES" \
                    --out "$WORK/codec/report-$corpus.json"
            done
            ;;
        correction)
            train correction "-c configs/decoder.yaml -c configs/correction.yaml" --trainer.max_steps 60 --trainer.val_check_interval 60
            measure correction "$OLD" --corrections 2
            # Two rounds bring as many candidates again each: what as many from the start are worth.
            "$PYTHON" $HERE/measure.py --decoder "correction24=$WORK/correction/best.ckpt" --stores "$OLD" --out "$WORK/measured" \
                --sentences "$SENTENCES" --candidates 24
            ;;
    esac
done
