#!/usr/bin/env bash
# Rows per second and peak memory of the reader of Pick-a-Pic and of Python's pyarrow on the same files.
#     benches/readers.sh [ROWS] [BYTES_PER_IMAGE]      writes a synthetic set into a temporary folder; needs pyarrow
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
program="${DIFFPREF:-$here/../target/release/diffpref}"
python="${PYTHON:-python3}"
data="$(mktemp -d)"
trap 'rm -rf "$data"' EXIT
rows="${1:-200000}"
"$python" "$here/make_parquet.py" "$data" "$rows" "${2:-20000}"
du -sh "$data"
measured() { # name, command ..
    local name="$1"
    shift
    "$python" "$here/measure_peak.py" "$name" "$rows" "$@"
}
measured "diffpref data inspect --read-pairs 0" "$program" data inspect "$data" --read-pairs 0 --json
measured "pyarrow, the same columns as Python rows" "$python" -c "
import pathlib, sys
import pyarrow.parquet as pq
names = ['caption', 'label_0', 'has_label', 'user_id', 'ranking_id', 'num_example_per_prompt', 'model_0', 'model_1']
rows = 0
for path in sorted(pathlib.Path('$data').iterdir()):
    for batch in pq.ParquetFile(path).iter_batches(1024, columns=names):
        rows += len(batch.to_pylist())
print(rows)"
