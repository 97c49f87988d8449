"""Make stand-ins for the CUDA libraries that a stripped torch wheel lacks.

The Linux torch wheel is linked against libtorch_cuda.so, which alone is larger than everything else
in it. `tools/python-env.sh` leaves that library out. libtorch_python.so still asks the loader for a
few hundred symbols of it, and for libcufile and libcudnn. None of them is ever called on a machine
without CUDA, so this script assembles small shared libraries that define them:

* a function becomes code that returns the address of 64 KiB of zeros,
* a vtable or another data object becomes 256 zero bytes,
* a typeinfo (`_ZTI...`) becomes a real `__class_type_info` with its name, because exception
  handling and `dynamic_cast` read it while torch is imported,
* `cudnnGetProperty` returns an error, which torch takes as "no cuDNN".

The libraries go to SITE/stubs, which the launcher puts on LD_LIBRARY_PATH. They must stay out of
torch/lib: a program that looks for a real libtorch_cuda.so there would find the stand-in.

Usage: python_stubs.py SITE
"""

import subprocess
import sys
from pathlib import Path

TYPEINFO = """.quad _ZTVN10__cxxabiv117__class_type_infoE+16, 9f
.zero 240
9: .asciz "{name}"
.balign 8
"""
CUDNN = """.globl cudnnGetProperty
cudnnGetProperty: mov $1, %eax
ret
"""


def symbols(library, kind):
    """Yield (type letter, name) of the dynamic symbols of `library`; kind: defined or undefined."""
    text = subprocess.run(["nm", "-D", f"--{kind}-only", str(library)], check=True,
                          capture_output=True, text=True).stdout
    for line in text.splitlines():
        if line.strip():
            letter, name = line.split()[-2:]
            yield letter, name


def compiler_library(name):
    """Path of one of the compiler's or the C library's own shared libraries."""
    return subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()


def missing_symbols(site):
    """Names that libtorch_python.so needs and no installed library defines."""
    torch = site / "torch/lib"
    providers = [torch / f"lib{name}.so" for name in ("c10", "torch_cpu", "c10_cuda", "shm", "torch")]
    providers.append(site / "nvidia/cu13/lib/libcudart.so.13")
    providers += [compiler_library(name) for name in ("libstdc++.so.6", "libc.so.6", "libgcc_s.so.1")]
    have = {name.split("@")[0] for library in providers for _, name in symbols(library, "defined")}
    return [name for letter, name in symbols(torch / "libtorch_python.so", "undefined")
            if letter == "U" and "@" not in name and name not in have
            and not name.startswith(("Py", "_Py"))]


def assembly(names):
    """Assembler text that defines every one of `names`."""
    functions = [name for name in names if not name.startswith("_ZT")]
    objects = [name for name in names if name.startswith("_ZT")]
    lines = [".bss", "zeros: .zero 65536", ".text"]
    for name in functions:
        lines += [f".globl {name}", f"{name}:"]
    lines += ["lea zeros(%rip), %rax", "ret", ".data"]
    for name in objects:
        body = TYPEINFO.format(name=name[4:]) if name.startswith("_ZTI") else ".zero 256\n"
        lines += [f".globl {name}", f".type {name}, @object", f".size {name}, 256", f"{name}: {body}"]
    return "\n".join(lines) + "\n"


def build(folder, name, text, *flags):
    """Assemble `text` into the shared library folder/name."""
    source = folder / "stub.s"
    source.write_text(text)
    subprocess.run(["gcc", "-shared", "-nostdlib", f"-Wl,-soname,{name}", *flags, str(source),
                    "-o", str(folder / name)], check=True)
    source.unlink()


def main():
    """Build the three stand-ins for the environment named on the command line."""
    site = Path(sys.argv[1])
    folder = site / "stubs"
    folder.mkdir(exist_ok=True)
    build(folder, "libtorch_cuda.so", assembly(missing_symbols(site)))
    build(folder, "libcufile.so.0", "")
    versions = folder / "versions"
    versions.write_text("libcudnn.so.9 { global: *; };\n")
    build(folder, "libcudnn.so.9", CUDNN, f"-Wl,--version-script={versions}")
    versions.unlink()


if __name__ == "__main__":
    main()
