#!/usr/bin/env bash
# Pictures per minute, diffpref beside diffusers, turn by turn so that the load of the machine hits both: the demo model
# (many small pictures) and a model of true SD1.5 size (few steps). Then the memory of a negative side.
#   benches/generate.sh [BINARY]      appends to benches/RESULTS.md; needs 2 GB of disk and 9 GB of memory
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=${1:-target/release/diffpref}
work=${BENCH_DIR:-target/bench}
rounds=${ROUNDS:-2}
model=$work/sd15
mkdir -p "$work"
[[ -f $model/model_index.json ]] || .python/python benches/make_sd15.py "$model"

# paint CASE MODEL PROMPTS STEPS BATCH [SIZE]
paint() {
    local name=$1 from=$2 prompts=$3 steps=$4 batch=$5 size=${6:-}
    seq -f 'picture %.0f' 0 $((prompts - 1)) >"$work/prompts.txt"
    for round in $(seq "$rounds"); do
        echo "$name, round $round" >&2
        rm -rf "$work/ours" "$work/theirs"
        .python/python benches/measure.py "$work/$name-ours-$round.json" "$binary" generate --model "$from" \
            --prompts "$work/prompts.txt" --steps "$steps" --batch "$batch" --device cpu --out "$work/ours" \
            ${size:+--width "$size" --height "$size"} >/dev/null
        .python/python benches/measure.py "$work/$name-theirs-$round.json" .python/python benches/python_generate.py \
            "$from" "$work/theirs" --prompts "$prompts" --steps "$steps" --batch "$batch" ${size:+--size "$size"} \
            >"$work/peer.json"
        .python/python benches/generate_table.py pictures "$work" "$name" "$round"
    done
}

# The peak memory of a negative side: options of the side
negative() {
    local name=$1
    shift
    rm -rf "$work/ours"
    .python/python benches/measure.py "$work/negative-$name.json" "$binary" generate --model "$model" --prompt "a cat" \
        --steps 1 --width 256 --height 256 --device cpu --out "$work/ours" "$@" >/dev/null
}

paint demo assets/demo-model "${DEMO_PICTURES:-24}" 10 8
paint sd15 "$model" "${SD15_PICTURES:-2}" "${SD15_STEPS:-2}" 1 256
if [[ -z ${SKIP_NEGATIVE:-} ]]; then
    .python/python benches/make_negative.py "$model" "$work"
    negative none
    negative loras --lora "$work/positive.safetensors" --negative-lora "$work/negative.safetensors"
    negative unet --negative-unet "$work/negative-unet"
fi
.python/python benches/generate_table.py table "$work" >>benches/RESULTS.md
tail -n 24 benches/RESULTS.md
