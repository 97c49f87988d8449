#!/usr/bin/env bash
# Makes everything in assets/ from nothing: drawings, tokenizer, VAE, UNet, two judges, preference data.
# Takes about two hours on two cores. Usage: tools/demo/make.sh [WORK_FOLDER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work="${1:-.demo-work}"
tools/python-env.sh
mkdir -p "$work/npm"

# The two packages of pictures, 136 MB; the checksums are npm's own.
for name in google twitter; do
    archive="$work/npm/emoji-datasource-$name-16.0.0.tgz"
    [ -e "$archive" ] || npm pack --silent --pack-destination "$work/npm" "emoji-datasource-$name@16.0.0"
    mkdir -p "$work/npm/$name"
    tar -xzf "$archive" -C "$work/npm/$name" --wildcards package/emoji.json "package/img/$name/64/*"
done

run() { .python/python "tools/demo/$1" "${@:2}"; }
run drawings.py "$work"
run tokenizer.py "$work"
run train_vae.py "$work"
run train_unet.py "$work" assets/demo-model
run train_judge.py "$work" --twin
run train_judge.py "$work" --folder assets/judge-labels --seed 4
run preferences.py
run check.py --sheet "$work/samples.png"
