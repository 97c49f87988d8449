//! Lets the binaries, tests and doctests of this package find libtorch without an environment variable.

fn main() {
    if let Ok(lib) = std::env::var("DEP_DIFFPREF_NATIVE_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
