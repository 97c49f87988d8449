#!/usr/bin/env bash
# Makes everything in assets/testbed from nothing: drawings, tokenizer, VAE, base model, preference data.
# A stopped run continues where it was: finished parts in the work folder are kept, the UNet resumes from its state.
# Takes about two hours on one idle core. Usage: tools/testbed/make.sh [WORK_FOLDER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work="${1:-.testbed-work}"
tools/python-env.sh
mkdir -p "$work/npm"

# Icon packages (checksums are npm's own) and their renderer.
for package in noto@1.2.9 noto-v1@1.2.5 fluent-emoji@1.2.7 fluent-emoji-flat@1.2.6 twemoji@1.2.5 emojione@1.2.3; do
    name="${package%@*}"
    archive="$work/npm/iconify-json-${package/@/-}.tgz"
    [ -e "$archive" ] || npm pack --silent --pack-destination "$work/npm" "@iconify-json/$package"
    mkdir -p "$work/npm/$name"
    tar -xzf "$archive" -C "$work/npm/$name" package/icons.json
done
[ -e "$work/py/resvg_py" ] || python3 -m pip install --quiet --no-deps --target "$work/py" resvg-py==0.5.0

run() { .python/python "tools/testbed/$1" "${@:2}"; }
run drawings.py "$work"
run tokenizer.py "$work"
[ -e "$work/vae/config.json" ] || run train_vae.py "$work"
run train_unet.py "$work" assets/testbed/model
run preferences.py
# The program's own scorer rates what was painted; the ratings become columns and files of the preference data.
cargo build --release
for folder in samples pictures; do
    target/release/diffpref score "assets/testbed/$folder" --scorer nima=assets/scorers/nima --out "$work/nima-$folder"
done
run preferences.py --keep-samples --nima "$work/nima-samples/scores.jsonl" "$work/nima-pictures/scores.jsonl"
run confidence.py
run check.py --sheet docs/testbed.png
