#!/usr/bin/env bash
# Trains the bundled demo, and tiny models of the other families, for two or three steps with each kind of run and recomputes
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
train dpo-auto-ema --set method.beta=auto --set ema.decay=0.5
train dpo-lora-init --set lora.init="$work/dpo-lora/final/pytorch_lora_weights.safetensors"

# Every other kind of data, law, weight and loss, two steps each.
method() { local name=$1 method=$2; shift 2; train "$name" --set train.steps=2 --set method.name="$method" "$@"; }
emoji=assets/emoji
scores=style,content,nearest
lists=(--set data.path=$emoji/lists.jsonl)
moving=(--set reference.kind=updated --set reference.every=1)
method inpo inpo
method inpo-published inpo --set method.inversion=published --set method.inversion_eta=0.1
method smpo smpo --set data.labels=score:style
method npo npo --set method.beta=auto
method kto kto --set data.path=$emoji/labels.jsonl --set train.grad_accum=4
method kto-aware kto --set data.path=$emoji/labels.jsonl --set timesteps.weighting=timestep_aware
method kto-pairs kto --set data.labels=vote:$scores --set method.utility=loss_averse
method rankdpo rankdpo "${lists[@]}"
method lipo lipo_lambda "${lists[@]}"
method plackett-luce plackett_luce "${lists[@]}"
method mapo mapo
method todo todo --set data.path=$emoji/ties.jsonl --set data.ties=keep
method dspo dspo_score --set method.beta=0.05
method wpo wpo --set timesteps.law=list --set timesteps.values=[249,499,749,999]
method bco bco
method mappo mappo --set method.scorer=nearest --set data.draws_per_pair=1
method videodpo dpo --set weights.source=videodpo
method column-published dpo --set weights.source=column --set weights.as_published=true --set data.labels=vote:$scores
method timestep-aware dpo "${moving[@]}" --set timesteps.law=discounted --set timesteps.weighting=timestep_aware
method frozen dpo "${moving[@]}" --set reference.divergence_limit=1e-9 --set timesteps.min=100 --set timesteps.max=700 \
    --set lora.rank=0 --set optim.lr=1e-5 --set train.steps=3
method safeguard dpo --set safeguard.name=sdpo
whole=(--set train.grad_accum=4)
images=(--set data.path=$emoji/labels.jsonl --set train.grad_accum=4)
method aot aot "${whole[@]}" --set method.bins=2 --set method.label_noise=0.1
method aot-unpaired aot_unpaired "${whole[@]}"
method aot-labels aot_unpaired "${images[@]}" --set method.items=labels
method relative relative_po "${whole[@]}" --set method.block=4
method relative-inside relative_po "${whole[@]}" --set method.weights=inside --set method.tau=0.1
method relative-labels relative_po "${images[@]}" --set method.form=unpaired
method relative-diagonal relative_po "${whole[@]}" --set method.form=diagonal
method pmpo pmpo "${images[@]}"
method uapo uapo --set train.steps=3
method uapo-labels uapo "${images[@]}" --set method.items=labels --set method.anchor_lr=0.5

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
train sdxl-velocity-safeguard "${velocity[@]}" --set safeguard.name=sdpo --set timesteps.weighting=timestep_aware
# An inversion of random weights passes rounding on, enlarged from call to call: a smaller rate keeps the steps comparable.
lists=(--set data.path=tests/golden/families_train/lists.jsonl --set validate.path=tests/golden/families_train/lists.jsonl)
method sdxl-inpo inpo --set optim.lr=1e-4
method sd21-inpo inpo "${sd21[@]}" --set optim.lr=1e-4
method sdxl-relative relative_po --set method.block=4
method sdxl-rankdpo rankdpo "${lists[@]}"
method sd21-rankdpo rankdpo "${sd21[@]}" "${full[@]}" "${lists[@]}"

# Methods that sample: the updates of an iteration, from the transitions that the first checkpoint keeps.
config=$work/sampling.toml
cat > "$config" <<TOML
[model]
path = "tests/golden/families/sdxl"
dtype = "float32"
device = "cpu"
[data]
resolution = 32
[method]
name = "ddpo"
[rollout]
prompts = ["red apple", "black cat", "hot pepper"]
prompts_per_iteration = 2
trajectories = 4
steps = 4
[reward]
scorers = [{ name = "compressibility" }]
[lora]
rank = 4
[optim]
lr = 1e-3
[train]
out = "$work/out"
steps = 2
micro_batch = 2
grad_accum = 2
seed = 7
checkpoint_every = 1
[sample]
every = 0
[log]
tensorboard = false
TOML
sampled() { local name=$1 method=$2; shift 2; train "$name" --set method.name="$method" "$@"; }
sampled ddpo ddpo
sampled dpok dpok "${sd21[@]}"
sampled grpo grpo --set method.kl_beta=0.1 --set method.ratio_norm=true --set method.timestep_fraction=1
sampled grpo-win-rates grpo "${sd21[@]}" --set reward.pairwise='[{name="compressibility"}]' --set method.timestep_fraction=1
sampled d3po d3po --set rollout.trajectories=2
sampled spo spo --set method.threshold=0 --set method.skip_steps=1
sampled dense-reward dense-reward --set method.sampled_steps=3

# One process for all: Python takes longer to start than to recompute a run.
.python/python tools/recompute.py "${runs[@]}" --steps 3

# What a run leaves is what diffusers loads.
sdxl=tests/golden/families/sdxl
.python/python tools/parity/generate.py "$binary" "$work/sdxl-full-constant/final" "$work/sd21-full/final" \
    "$sdxl+$work/sdxl-lora/final/pytorch_lora_weights.safetensors"
