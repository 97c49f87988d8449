#!/usr/bin/env bash
# Pictures per second of the scorers, diffpref beside Python in the same rounds, turn by turn, at one number of threads.
# CLIPs and the BLIP have random weights of the published sizes.
#   benches/scorers.sh [BINARY]      appends to benches/RESULTS.md; needs 2 GB of disk and 6 GB of memory
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=${1:-target/release/diffpref}
work=${BENCH_DIR:-target/bench}/scorers
rounds=${ROUNDS:-2}
export OMP_NUM_THREADS=${THREADS:-1}
mkdir -p "$work"
[[ -f $work/pictures/done ]] || .python/python benches/make_scorers.py "$work"

# measure NAME PICTURES SCORER: the cache is fresh, so that nothing is known.
measure() {
    local name=$1 pictures=$2 scorer=$3
    head -n "$pictures" "$work/pictures/images.jsonl" >"$work/pictures/$name.jsonl"
    for round in $(seq "$rounds"); do
        echo "$name, round $round" >&2
        rm -rf "$work/cache" "$work/ours"
        XDG_CACHE_HOME="$work/cache" "$binary" score "$work/pictures/$name.jsonl" --scorer "$scorer" --device cpu \
            --out "$work/ours" --json 2>/dev/null >"$work/$name-ours-$round.json"
        .python/python benches/python_scorers.py "$name" "$work" "$pictures" >"$work/$name-theirs-$round.json"
    done
}

measure nima 64 nima=assets/scorers/nima
measure clip-b32 24 "clip=$work/clip-b32"
measure clip-l14 4 "clip=$work/clip-l14"
measure imagereward 4 "imagereward=$work/imagereward"
.python/python benches/scorers_table.py "$work" "$rounds" >>benches/RESULTS.md
tail -n 14 benches/RESULTS.md
