#!/usr/bin/env bash
# Makes .python/ (ignored by git): the Python reference that parity tests and the demo scripts use.
# Run it as `.python/python SCRIPT`. Safe to call again: a finished one is recognised by its stamp.
#
# torch's wheel is unpacked without its CUDA libraries (0.4 GB instead of 5); tools/python_stubs.py
# makes stand-ins for what it still wants of them. Everything is pinned: python-requirements.txt.
#
#   WHEEL_CACHE=DIR   where the three big wheels (0.53 GB) are looked for and kept; default .wheels/
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=.python
wheels="${WHEEL_CACHE:-.wheels}"
requirements=tools/python-requirements.txt

say() { printf 'python-env: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

wanted="$(cat tools/python-env.sh "$requirements" tools/python_stubs.py | sha256sum)"
if [ -x "$target/python" ] && [ "$(cat "$target/stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

for tool in python3 gcc nm sha256sum; do
    command -v "$tool" >/dev/null || die "$tool is missing (Debian: apt-get install python3 python3-pip gcc binutils)."
done
found="$(python3 -c 'import platform; print(platform.python_version())')"
case "$found" in
    3.11.*) ;;
    *) die "python3 is $found, but the pinned torch wheel needs Python 3.11: put a python3 of version 3.11 first on PATH." ;;
esac
[ "$(uname -sm)" = "Linux x86_64" ] || die "the pinned wheels are for Linux on x86_64, this is $(uname -sm)."
python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip (Debian: apt-get install python3-pip)."

pip() { python3 -m pip --quiet --disable-pip-version-check --no-input "$@"; }

# Big wheels: requirement, file name, SHA-256. Fetched only when the file is not there yet.
big_wheels=(
    "torch==2.11.0 torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl 7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a"
    "nvidia-cuda-cupti==13.0.85 nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl 4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"
    "nvidia-cuda-runtime==13.0.96 nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"
)
mkdir -p "$wheels"
for line in "${big_wheels[@]}"; do
    read -r requirement file checksum <<<"$line"
    if [ ! -e "$wheels/$file" ]; then
        say "downloading $requirement"
        pip download --no-deps --only-binary=:all: --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
            --platform manylinux2014_x86_64 --python-version 3.11 --abi cp311 --abi none -d "$wheels" "$requirement"
    fi
    sha256sum --check --quiet <<<"$checksum  $wheels/$file" || die "$wheels/$file is damaged: delete it and run again."
done

say "installing into $target"
new="$target/new"
rm -rf "$new"
mkdir -p "$new/site"
pip install --no-deps --only-binary=:all: --no-warn-script-location --root-user-action ignore \
    --target "$new/site" -r "$requirements"
python3 - "$wheels" "$new/site" <<'PYTHON'
"""Unpack the big wheels without headers and without the CUDA half of torch."""
import sys
import zipfile
from pathlib import Path

wheels, site = map(Path, sys.argv[1:])
skipped = ("torch/include/", "torch/share/", "torch/lib/libtorch_cuda", "torch/lib/libtorch_nvshmem")
for pattern in ("torch-2.11.0-*.whl", "nvidia_cuda_cupti-13.0.85-*.whl", "nvidia_cuda_runtime-13.0.96-*.whl"):
    with zipfile.ZipFile(next(wheels.glob(pattern))) as wheel:
        wheel.extractall(site, [name for name in wheel.namelist() if not name.startswith(skipped)])
PYTHON
python3 tools/python_stubs.py "$new/site"

cat >"$new/python" <<'LAUNCHER'
#!/usr/bin/env bash
# Starts the reference Python environment; made by tools/python-env.sh.
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PYTHONPATH="$here/site${PYTHONPATH:+:$PYTHONPATH}"
export LD_LIBRARY_PATH="$here/site/stubs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PYTHONNOUSERSITE=1 TRANSFORMERS_VERBOSITY="${TRANSFORMERS_VERBOSITY:-error}"
exec python3 "$@"
LAUNCHER
chmod +x "$new/python"
"$new/python" -c 'import torch, diffusers, transformers, peft, accelerate; torch.ones(2).sum()'
rm -rf "$target/stamp" "$target/site"
mv "$new/site" "$new/python" "$target/"
rmdir "$new"
echo "$wanted" >"$target/stamp"
say "done: $target/python, $(du -sh "$target" | cut -f1)"
