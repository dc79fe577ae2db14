#!/usr/bin/env bash
# Everything behind the tables of this folder, from the repository's root; about half an hour on two cores. SIZE=smoke goes through every
# step in two minutes. ONNX Runtime and OpenVINO go into a folder of their own, so that the environment stays as it is.
set -euo pipefail
cd "$(dirname "$0")"
PYTHON=${PYTHON:-../../.venv/bin/python}
OUT=${OUT:-results.csv}
SIZE=${SIZE:-full}
PEERS=${PEERS:-$(mktemp -d)}
if [ "$SIZE" = smoke ]; then ONE="--pairs 1 --sentences 128" TWO="$ONE" ROAD="--pairs 1 --sentences 300" AROUND="--corpus grimm --sentences 64"; else ONE="--pairs 9 --compile" TWO="--pairs 7" ROAD="--pairs 3" AROUND=; fi
"$PYTHON" -m pip install --quiet --target "$PEERS" --no-deps onnxruntime openvino onnx onnxscript onnx-ir ml_dtypes flatbuffers protobuf openvino-telemetry
export PYTHONPATH=$PEERS${PYTHONPATH:+:$PYTHONPATH}
echo "what,of,value,low,high,unit,ratio" >"$OUT"
"$PYTHON" cpu.py $ONE >>"$OUT"
"$PYTHON" cpu.py --threads 2 $TWO >>"$OUT"
"$PYTHON" road.py $ROAD >>"$OUT"
[ "$SIZE" = smoke ] || "$PYTHON" road.py $ROAD --sentences 20000 >>"$OUT"
"$PYTHON" around.py $AROUND >>"$OUT"
if nvidia-smi -L >/dev/null 2>&1; then
    "$PYTHON" sample.py >"$PEERS/sentences.txt"
    "$PYTHON" gpu.py --text "$PEERS/sentences.txt" >>"$OUT"
fi
cat "$OUT"
