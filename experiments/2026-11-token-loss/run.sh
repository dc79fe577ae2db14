#!/usr/bin/env bash
# Everything behind the table of this folder, from the repository's root; needs a store of the tales and the demo's decoder.
set -euo pipefail
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
store=artifacts/bake/grimm decoder=artifacts/demo/decoder/best.ckpt out=artifacts/token_loss
first=$out/first-regression second=$out/second-1.0
.venv/bin/lcm fit -c configs/base.yaml -c configs/regression.yaml -c configs/tiny.yaml --data.store $store \
    --trainer.max_steps 150 --trainer.default_root_dir $first
.venv/bin/lcm fit -c $first/config.yaml -c configs/token_loss.yaml --model.from_checkpoint $first/best.ckpt --model.decoder $decoder \
    --model.own_weight 1.0 --model.num_texts 6 --model.optimizer.lr 1e-3 --trainer.max_steps 40 --trainer.limit_val_batches 0 \
    --trainer.default_root_dir $second
PYTHONPATH=. .venv/bin/python experiments/2026-11-token-loss/measure.py $store $decoder first=$first/best.ckpt second=$second/best.ckpt
