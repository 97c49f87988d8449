//! environment.json: versions, hashes of program, model and data, device. `--resume` compares contents by it.

use super::session::Opened;
use crate::data::files::write_atomically;
use crate::hashes::HashMemory;
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Hashes of everything a run reads, by configuration key.
pub fn contents(opened: &Opened) -> Result<Map<String, Value>> {
    let config = &opened.config;
    let mut memory = HashMemory::open(&config.data.cache_dir);
    let mut out = Map::new();
    let mut model = Map::new();
    for (component, file) in opened.folder.weight_files() {
        let name = file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        model.insert(format!("{component}/{name}"), json!(memory.of_file(&file)?));
    }
    out.insert("model.path".into(), Value::Object(model));
    out.insert("data.path".into(), json!(opened.pairs.index_sha256));
    let dirs = [("model.unet", &config.model.unet), ("model.vae", &config.model.vae)];
    for (key, dir) in dirs {
        if let Some(dir) = dir {
            let files = pipelines::weights::component_files(dir, "diffusion_pytorch_model")?;
            let hashes: Result<Vec<String>> = files.iter().map(|f| memory.of_file(f)).collect();
            out.insert(key.into(), json!(hashes?));
        }
    }
    if let Some(path) = &config.validate.path {
        out.insert("validate.path".into(), json!(path.is_file().then(|| memory.of_file(path)).transpose()?));
    }
    if let Some(path) = config.lora.as_ref().and_then(|l| l.init.as_ref()) {
        out.insert("lora.init".into(), json!(memory.of_file(path)?));
    }
    memory.save();
    Ok(out)
}

/// Writes environment.json into the run folder.
pub fn write(run: &Path, opened: &Opened, contents: &Map<String, Value>) -> Result<()> {
    let program = std::env::current_exe().context("cannot find the running program")?;
    let mut memory = HashMemory::open(&opened.config.data.cache_dir);
    let environment = json!({
        "diffpref": env!("CARGO_PKG_VERSION"),
        "libtorch": "2.11.0",
        "program_sha256": memory.of_file(&program)?,
        "contents": contents,
        "device": opened.config.model.device,
        "dtype": opened.config.model.dtype,
        "threads": opened.config.train.threads,
        "cpu_capability": cpu_capability(),
        "family": opened.folder.family().name(),
    });
    memory.save();
    write_atomically(&run.join(super::run_dir::ENVIRONMENT), serde_json::to_string_pretty(&environment)?.as_bytes())
}

/// The contents that a run folder's environment.json recorded.
pub fn recorded(run: &Path) -> Map<String, Value> {
    let text = std::fs::read(run.join(super::run_dir::ENVIRONMENT)).unwrap_or_default();
    let value: Value = serde_json::from_slice(&text).unwrap_or(Value::Null);
    value.get("contents").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// float32 randn differs by up to 2e-6 between processors with and without AVX2: bytes are promised per machine.
pub fn cpu_capability() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        return "avx2";
    }
    "default"
}
