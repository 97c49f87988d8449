//! The recipes of `configs/`, and the binary run on them.

use super::root;
use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};
use toml::Table;

/// The file of a recipe; `kind`: demo, sd15 or sdxl.
pub fn file(name: &str, kind: &str) -> PathBuf {
    root().join(format!("configs/{name}-{kind}.toml"))
}

/// A recipe, read.
pub fn recipe(name: &str, kind: &str) -> Table {
    let path = file(name, kind);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A text of a recipe.
pub fn text<'a>(recipe: &'a Table, table: &str, key: &str) -> Option<&'a str> {
    recipe.get(table)?.get(key)?.as_str()
}

/// A number of a recipe.
pub fn number(recipe: &Table, table: &str, key: &str) -> Option<f64> {
    let value = recipe.get(table)?.get(key)?;
    value.as_float().or_else(|| value.as_integer().map(|i| i as f64))
}

/// What an optimizer step reads.
pub fn items_a_step(recipe: &Table) -> f64 {
    let micro_batch = number(recipe, "train", "micro_batch").unwrap();
    number(recipe, "train", "pairs_per_step").unwrap_or(micro_batch)
}

/// `diffpref train` of a recipe, in the repository's root as its paths mean it; what it writes goes to `dir`.
pub fn train(name: &str, kind: &str, dir: &Path, sets: &[(&str, String)]) -> Command {
    let mut command = super::diffpref();
    command.current_dir(root()).arg("train").arg(file(name, kind));
    let places = [("train.out", dir.join(name)), ("data.cache_dir", dir.join("cache"))];
    for (key, path) in places {
        command.arg("--set").arg(format!("{key}={}", path.display()));
    }
    for (key, value) in sets {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    command
}

/// The plan of a dry run, which must succeed and write nothing.
pub fn planned(name: &str, kind: &str, dir: &Path, sets: &[(&str, String)]) -> Value {
    let assert = train(name, kind, dir, sets).args(["--dry-run", "--json"]).assert().success();
    assert!(!dir.join(name).exists(), "{name}-{kind} left a run folder");
    serde_json::from_slice(&assert.get_output().stdout).unwrap()
}
