#!/usr/bin/env bash
# Table and figure, from the repository's root; fetches the Grimm tales and SmolLM2 the first time. STEPS=0 trains no decoder.
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}
HERE=experiments/2026-11-probe
OUT=${LCM_HOME:-artifacts}/probe
SMOLLM2=$OUT/smollm2-8

[[ -f $SMOLLM2/config.json ]] || {
    llm=$(.venv/bin/python -c 'from decoders.llm import resolve_llm; print(resolve_llm("smollm2"))')
    .venv/bin/python $HERE/first_layers.py "$llm" 8 "$SMOLLM2"
}
.venv/bin/lcm probe minilm 'minilm?truncate_dim=128' "$SMOLLM2" hashing:384 --steps "${STEPS:-60}" --out "$OUT/grimm"
cp "$OUT"/grimm/probe.{md,json,png} $HERE/
