#!/usr/bin/env bash
# Everything behind the tables of this folder, from the repository's root: the same trainings in one process and in two.
set -euo pipefail
here=experiments/2026-11-distributed
out=${LCM_HOME:-artifacts}/distributed
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
lcm=.venv/bin/lcm

[ -e "$out/store/manifest.json" ] || $lcm encode grimm --encoder minilm --out "$out/store"

# train HEAD SEED ARM OPTIONS: 60 steps of 16 rows, width 64; skips what is done
train() {
    local run=$out/$1-$2-$3 head=$1 seed=$2
    shift 3
    [ -e "$run/seconds" ] && return
    rm -rf "$run"
    local start=$SECONDS
    $lcm fit -c configs/base.yaml -c "configs/$head.yaml" -c configs/smoke.yaml "$@" --data.store "$out/store" \
        --trainer.default_root_dir "$run" --seed_everything "$seed" --model.seed "$seed" --data.seed "$seed" \
        --trainer.max_steps 60 --trainer.val_check_interval "${validate:-10}" --trainer.log_every_n_steps 1 \
        --model.optimizer.lr 1.5e-3 --data.length 64 2>"$out/last.err" >/dev/null || { cat "$out/last.err"; exit 1; }
    echo $((SECONDS - start)) >"$run/seconds"
}

for seed in 0 1 2; do
    for head in regression two_tower; do
        train $head $seed ddp -c configs/ddp.yaml --data.batch_size 8
        # The same rows in the same steps, one process's behind the other's: 9 batches of 8 an epoch are 4 steps of two,
        # and the ninth is left out. A step is two batches long.
        validate=20 train $head $seed accumulated --data.batch_size 8 \
            --trainer.accumulate_grad_batches 2 --trainer.limit_train_batches 8
        # Batches of 16 are cut otherwise: 4 full ones an epoch and one of what is left.
        train $head $seed one --data.batch_size 16
    done
done
train regression 0 fsdp -c configs/fsdp.yaml --data.batch_size 8
train two_tower 0 fsdp -c configs/fsdp.yaml --data.batch_size 8
.venv/bin/python $here/compare.py "$out"
