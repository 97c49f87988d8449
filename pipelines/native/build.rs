//! Compiles the shim against the libtorch that torch-sys found, after checking its version.

use std::path::{Path, PathBuf};

const LIBTORCH_VERSION: &str = "2.11.0";

fn main() {
    for file in ["guarded.h", "shim.cpp", "checkpoint.cpp"] {
        println!("cargo::rerun-if-changed=src/{file}");
    }
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        println!("cargo::error=torch-sys did not say where libtorch is: run `make setup` first");
        return;
    };
    let lib = PathBuf::from(lib);
    let root = lib.parent().map(Path::to_path_buf).unwrap_or_default();
    let found = version_of(&root).unwrap_or_else(|| LIBTORCH_VERSION.to_string());
    println!("cargo::rustc-env=DIFFPREF_LIBTORCH_VERSION={found}");
    if !found.starts_with(LIBTORCH_VERSION) {
        println!(
            "cargo::error=libtorch in {} is version {found}, this project needs {LIBTORCH_VERSION}: unset LIBTORCH or run `make setup`",
            root.display()
        );
        return;
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .warnings(false)
        .files(["src/shim.cpp", "src/checkpoint.cpp"])
        .compile("diffpref_shim");
    println!("cargo::metadata=libtorch_lib={}", lib.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

/// The version a libtorch folder states: `build-version` (C++ archive) or `version.py` (wheel).
fn version_of(root: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(root.join("build-version")) {
        return Some(text.trim().to_string());
    }
    let text = std::fs::read_to_string(root.join("version.py")).ok()?;
    let line = text.lines().find(|l| l.starts_with("__version__"))?;
    Some(line.split(['\'', '"']).nth(1)?.to_string())
}
