//! `diffpref merge`: what it computes, against Python and against itself; what it writes, keeps and refuses.

mod extraction;
mod models;
mod refusals;

use crate::support::{diffpref, golden};
use assert_cmd::Command;
use pipelines::weights::{TensorFile, WeightStore, write_safetensors};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

pub type Tensors = BTreeMap<String, Tensor>;

/// A path of the golden folder as an argument.
pub fn named(name: &str) -> String {
    golden(name).display().to_string()
}

pub fn merge(arguments: &[&str], out: &Path) -> Command {
    let mut diffpref = diffpref();
    diffpref.arg("merge").args(arguments).arg("--out").arg(out);
    diffpref
}

pub fn refused(arguments: &[&str], out: &Path, code: i32, parts: &[&str]) {
    let assert = merge(arguments, out).assert().failure().code(code);
    let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(!text.contains("panicked") && !text.contains("internal error"), "{text}");
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
}

/// The tensors of a UNet folder.
pub fn unet(dir: &Path) -> Tensors {
    let store = WeightStore::open_component(dir, "diffusion_pytorch_model").unwrap();
    store.names().map(|name| (name.to_string(), store.tensor(name).unwrap())).collect()
}

pub fn file(path: &Path) -> Tensors {
    let file = TensorFile::open(path).unwrap();
    file.names().map(|name| (name.to_string(), file.tensor(name).unwrap())).collect()
}

/// Makes a UNet folder of the golden base's shape with other values.
pub fn write_unet(to: &Path, tensors: &Tensors) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(golden("merge/base/config.json"), to.join("config.json")).unwrap();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    write_safetensors(&to.join("diffusion_pytorch_model.safetensors"), &tensors, &[("format", "pt")]).unwrap();
}

pub fn assert_same(a: &Tensors, b: &Tensors) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, tensor) in a {
        assert!(tensor.kind() == b[name].kind() && tensor.equal(&b[name]), "{name}");
    }
}

/// The largest difference of any value.
pub fn furthest(a: &Tensor, b: &Tensor) -> f64 {
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

pub fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).square().sum(Kind::Double).sqrt().double_value(&[])
}
