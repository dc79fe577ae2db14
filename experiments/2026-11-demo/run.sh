#!/usr/bin/env bash
# Everything behind the tables of this folder, from the repository's root: the demo, then its model without noise on what it reads.
set -euo pipefail
time make demo CORPUS=grimm
cp artifacts/demo/table.json experiments/2026-11-demo/grimm.json
cp artifacts/demo/text.md artifacts/demo/trajectory.png experiments/2026-11-demo/
for noise in 0.0 0.5; do
    .venv/bin/lcm fit -c configs/base.yaml -c configs/two_tower.yaml -c configs/tiny.yaml --data.store artifacts/demo/store \
        --model.model.context_noise $noise --trainer.default_root_dir artifacts/demo/noise-$noise
    .venv/bin/lcm evaluate artifacts/demo/store --model artifacts/demo/noise-$noise/best.ckpt --split validation
    grep -E '^[^,]*,,[0-9]*,,[0-9]' artifacts/demo/noise-$noise/log/version_0/metrics.csv | cut -d, -f3,5,6 # step, loss, at high noise
done
