#!/usr/bin/env bash
# Trains the bundled demo, and tiny models of the other families, for three steps with each kind of run and recomputes
# every figure in Python.
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

runs=()
train() { # name, then what differs from the configuration
    local name=$1; shift
    "$binary" train "$config" --set train.out="$work/$name" --set data.cache_dir="$work/cache" "$@" >"$work/$name.log" 2>&1 || { cat "$work/$name.log"; return 1; }
    runs+=("$work/$name")
}

config=$work/base.toml
train dpo-lora
train dpo-full --set lora.rank=0 --set optim.lr=1e-5
train sft --set method.name=sft --set optim.lr=1e-4
train dpo-discounted --set timesteps.law=discounted --set data.labels=score:content
train sft-list --set method.name=sft --set optim.lr=1e-4 --set timesteps.law=list --set "timesteps.values=[249, 499, 749]" --set data.labels=vote:style,content,nearest
train dpo-auto-ema --set method.beta=auto --set ema.decay=0.5
train dpo-lora-init --set lora.init="$work/dpo-lora/final/pytorch_lora_weights.safetensors"

config=tests/golden/families_train/base.toml
velocity=(--set model.prediction_type=v_prediction --set model.zero_terminal_snr=true)
full=(--set lora.rank=0 --set optim.lr=1e-4)
sd21=(--set model.path=tests/golden/families/sd21)
train sdxl-lora --set data.cache_dtype=float16
train sdxl-full-constant "${full[@]}" --set model.time_ids=constant --set model.clip_skip=1
train sdxl-velocity "${velocity[@]}" --set method.beta=auto --set ema.decay=0.5
train sd21-lora "${sd21[@]}" --set method.error=native
train sd21-full "${sd21[@]}" "${full[@]}" --set model.zero_terminal_snr=true
train sd21-sft "${sd21[@]}" "${full[@]}" --set method.name=sft

# One process for all: Python takes longer to start than to recompute a run.
.python/python tools/recompute.py "${runs[@]}" --steps 3

# What a run leaves is what diffusers loads.
sdxl=tests/golden/families/sdxl
.python/python tools/parity/generate.py "$binary" "$work/sdxl-full-constant/final" "$work/sd21-full/final" \
    "$sdxl+$work/sdxl-lora/final/pytorch_lora_weights.safetensors"
