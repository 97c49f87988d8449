#!/usr/bin/env bash
# One DPO step with a LoRA of rank 8 at 256 px on a model of true SD1.5 size: diffpref and Python, one after the other.
#   benches/train_sd15.sh [BINARY]      appends a table to benches/RESULTS.md; needs 2 GB of disk and 8 GB of memory
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=${1:-target/release/diffpref}
steps=${STEPS:-4}
work=${BENCH_DIR:-target/bench}
model=$work/sd15
mkdir -p "$work"
[[ -f $model/model_index.json ]] || .python/python benches/make_sd15.py "$model"

# Eight real pairs, beside the drawings' own index so that their relative paths hold.
.python/python - "$work/pairs.jsonl" <<'PY'
import json, sys
from pathlib import Path
source = Path("assets/emoji/pairs.jsonl").resolve()
rows = [json.loads(line) for line in source.read_text().splitlines()[:8]]
for row in rows:
    row |= {side: str(source.parent / row[side]) for side in ("winner", "loser")}
Path(sys.argv[1]).write_text("".join(json.dumps(row) + "\n" for row in rows))
PY

cat >"$work/train.toml" <<TOML
[model]
path = "$model"
dtype = "float32"
device = "cpu"
[data]
path = "$work/pairs.jsonl"
resolution = 256
cache_dir = "$work/cache"
[validate]
fraction = 0.0
every = 0
[method]
name = "dpo"
[lora]
rank = 8
[optim]
lr = 1e-5
[train]
out = "$work/run"
steps = $steps
overwrite = true
[sample]
every = 0
[log]
tensorboard = false
TOML

rm -rf "$work/cache" "$work/run"
echo "diffpref: $steps steps" >&2
.python/python benches/measure.py "$work/diffpref.json" "$binary" train "$work/train.toml"
echo "Python: $steps steps" >&2
.python/python benches/measure.py "$work/python.json" \
    .python/python benches/python_step.py "$model" "$work/pairs.jsonl" --resolution 256 --steps "$steps" >"$work/python_step.json"
.python/python benches/table.py "$work" >>benches/RESULTS.md
tail -n 12 benches/RESULTS.md
