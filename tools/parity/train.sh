#!/usr/bin/env bash
# Trains the bundled demo for three steps with each kind of run and recomputes every figure in Python.
#   tools/parity/train.sh [BINARY]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

binary=${1:-target/release/diffpref}
[[ -x $binary ]] || binary=target/debug/diffpref
[[ -x $binary ]] || { echo "no diffpref binary: run make setup && cargo build first" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A rate large enough that the second step has margins far above rounding; validation at step 2 and after the last.
cat > "$work/base.toml" <<TOML
[model]
path = "assets/demo-model"
dtype = "float32"
device = "cpu"
[data]
path = "assets/emoji/pairs.jsonl"
crop = "random"
cache_dir = "$work/cache"
[validate]
fraction = 0.1
every = 2
draws = 2
max_pairs = 6
[method]
name = "dpo"
beta = 2000
[lora]
rank = 4
[optim]
lr = 1e-3
schedule = "cosine"
warmup_steps = 1
[train]
out = "$work/out"
steps = 3
micro_batch = 2
grad_accum = 2
seed = 7
[sample]
every = 0
[log]
tensorboard = false
TOML

compare() { # name, then what differs from the base
    local name=$1; shift
    echo "== $name"
    "$binary" train "$work/base.toml" --set train.out="$work/$name" "$@" >"$work/$name.log" 2>&1 || { cat "$work/$name.log"; return 1; }
    .python/python tools/recompute.py "$work/$name" --steps 3
}

compare dpo-lora
compare dpo-full --set lora.rank=0 --set optim.lr=1e-5
compare sft --set method.name=sft --set optim.lr=1e-4
compare dpo-auto-ema --set method.beta=auto --set ema.decay=0.5
compare dpo-lora-init --set lora.init="$work/dpo-lora/final/pytorch_lora_weights.safetensors"
