#!/usr/bin/env bash
# Gets the libtorch that this project is pinned to into .libtorch/ (ignored by git). Safe to call again: a finished
# set-up is recognised by its stamp in well under a second.
#
#   TORCH=cpu    0.55 GB to download: the wheel without its CUDA, nvshmem and Python libraries (the default without a card)
#   TORCH=cuda   the wheel with everything it requires (the default where nvidia-smi lists a card)
#   KEEP_WHEELS=1 keeps the downloads in .wheels/ (tools/python-env.sh uses them too)
set -euo pipefail
cd "$(dirname "$0")/.."
version=2.11.0
root=.libtorch

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

check_foreign() { # an existing libtorch that the user points to: respected when its version fits
  local found
  found=$(grep -oE "[0-9]+\.[0-9]+\.[0-9]+" "$1/version.py" "$1/build-version" 2>/dev/null | head -n1 | sed 's/.*://') || true
  [ -n "$found" ] || die "$2 names $1, which has no version.py or build-version: expected a libtorch $version. Unset $2 to use the bundled set-up."
  [ "$found" = "$version" ] || die "$2 names libtorch $found, this project needs $version. Unset $2 or point it to $version."
  say "using libtorch $found of $2"
  exit 0
}
if [ -n "${LIBTORCH_USE_PYTORCH:-}" ]; then
  check_foreign "$(python3 -c 'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "(no torch in python3)")')" LIBTORCH_USE_PYTORCH
fi
[ -z "${LIBTORCH:-}" ] || [ "$(realpath -m "$LIBTORCH")" = "$(realpath -m $root/torch)" ] || check_foreign "$LIBTORCH" LIBTORCH

kind=${TORCH:-}
if [ -z "$kind" ]; then
  kind=cpu
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then kind=cuda; fi
fi
case "$kind" in cpu | cuda) ;; *) die "TORCH=$kind: expected cpu or cuda" ;; esac
stamp="$root/stamp"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$version $kind" ]; then exit 0; fi

for tool in cargo g++ python3; do
  command -v "$tool" >/dev/null || die "$tool is missing. Needed: cargo, g++, python3 with pip, make (Debian: apt-get install cargo g++ python3-pip make)."
done
python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip (Debian: apt-get install python3-pip)."

# Explicit platform and Python version: any python3 on the host will do. pip matches platform tags exactly.
pip_download() {
  python3 -m pip download --quiet --disable-pip-version-check --only-binary=:all: --python-version 3.11 \
    --implementation cp --abi cp311 --abi abi3 --abi none --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux_2_24_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform any \
    -d .wheels "$@"
}
mkdir -p .wheels
say "downloading libtorch $version ($kind)"
if [ "$kind" = cpu ]; then
  pip_download --no-deps torch==$version nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85
else
  pip_download torch==$version
fi
rm -rf "$root.new"
python3 tools/unpack_libtorch.py .wheels "$root.new" "$kind"
rm -rf "$root"
mv "$root.new" "$root"
echo "$version $kind" >"$stamp"
[ -n "${KEEP_WHEELS:-}" ] || rm -rf .wheels
say "libtorch $version ($kind) is in $root"
