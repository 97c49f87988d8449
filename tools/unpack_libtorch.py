"""Checks the pinned hashes of the downloaded wheels and unpacks what libtorch needs.

    python3 unpack_libtorch.py WHEELS TARGET cpu|cuda

The layout TARGET/{torch,nvidia} is kept: libtorch_cpu.so finds cudart and cupti by its RPATH
`$ORIGIN/../../nvidia/cu13/lib`. Uses the standard library only.
"""

import hashlib
import os
import pathlib
import sys
import zipfile

PINNED = {
    "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl": "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
    "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl": "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
}
# The CPU set-up leaves out files of torch/lib that need a card or a Python interpreter.
CPU_LEAVES_OUT = ("libtorch_cuda", "libtorch_nvshmem", "libtorch_python", "libc10_cuda", "libcaffe2_nvrtc", "libshm")


def sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def wanted(name: str, kind: str) -> bool:
    """Whether the wheel's member `name` belongs to the `kind` set-up."""
    if name.startswith("torch/lib/"):
        return kind == "cuda" or not name.split("/")[2].startswith(CPU_LEAVES_OUT)
    if name.startswith("torch/include/"):
        return True
    if name == "torch/version.py":
        return True
    return name.startswith("nvidia/") and "/lib/" in name


def main() -> None:
    wheels, target, kind = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    for name, expected in PINNED.items():
        path = wheels / name
        if not path.exists():
            sys.exit(f"setup: {path} was not downloaded; see pip's message above")
        found = sha256(path)
        if found != expected:
            sys.exit(f"setup: {path}: sha256 is {found}, expected {expected}. Remove the file and run `make setup` again.")
    files = [wheels / n for n in PINNED] if kind == "cpu" else sorted(wheels.glob("*.whl"))
    for path in files:
        if kind == "cuda" and not path.name.startswith(("torch-", "nvidia")):
            continue
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir() and wanted(member.filename, kind):
                    archive.extract(member, target)
    libraries = sum(1 for _ in (target / "torch/lib").iterdir())
    size = sum(os.path.getsize(p) for p in target.rglob("*") if p.is_file())
    print(f"setup: {libraries} libraries, {size / 1e9:.2f} GB unpacked", file=sys.stderr)


if __name__ == "__main__":
    main()
