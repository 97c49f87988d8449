//! The inputs of a step as one hash: its command, the files that the command names, and the step before.

use super::steps::Step;
use crate::machine::hashes::{HashMemory, of_bytes};
use anyhow::{Context, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Hash of everything that a step's result depends on. `before`: the hash of the step that it reads; `own`: the folder
/// of the chain, whose files are no inputs of their own.
///
/// # Errors
/// A file that cannot be read.
pub fn key(step: &Step, before: Option<&str>, own: &Path, memory: &mut HashMemory) -> Result<String> {
    let mut files = Vec::new();
    for path in named(&step.arguments).into_iter().filter(|path| !path.starts_with(own)) {
        for file in below(&path)? {
            let hash = memory.of_file(&file)?;
            files.push(json!([file.display().to_string(), hash]));
        }
    }
    let made_of = json!({
        "command": step.arguments, "files": files, "before": before, "program": env!("CARGO_PKG_VERSION"),
    });
    Ok(of_bytes(made_of.to_string().as_bytes()))
}

/// Existing files and folders that arguments name, alone or as part of NAME=PATH, PATH:NUMBER or PATH+PATH.
fn named(arguments: &[String]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut add = |text: &str| {
        let path = Path::new(text);
        if !text.is_empty() && path.exists() && !found.iter().any(|known| known == path) {
            found.push(path.into());
        }
    };
    for argument in arguments.iter().skip(1).filter(|argument| !argument.starts_with("--")) {
        add(argument);
        let value = argument.split_once('=').map_or(argument.as_str(), |(_, value)| value).trim_matches('"');
        value.split('+').for_each(|part| {
            add(part);
            add(part.rsplit_once(':').map_or("", |(path, _)| path));
        });
    }
    found
}

/// The file itself, or every file below the folder, by name.
fn below(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.into()]);
    }
    let (mut files, mut open) = (Vec::new(), vec![path.to_path_buf()]);
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::stage::Stage;

    #[test]
    fn a_key_follows_the_command_its_files_and_the_step_before() {
        let dir = tempfile::tempdir().unwrap();
        let prompts = dir.path().join("prompts.txt");
        std::fs::write(&prompts, "fox").unwrap();
        let mut memory = HashMemory::open(dir.path());
        let mut key_of = |seed: &str, before: Option<&str>| {
            let arguments = ["generate", "--prompts", prompts.to_str().unwrap(), "--seed", seed].map(String::from);
            let out = dir.path().join("o/x");
            let step = Step { stage: Stage::Generate, round: Some(1), out, arguments: arguments.into(), reads: None };
            key(&step, before, &dir.path().join("o"), &mut memory).unwrap()
        };
        let first = key_of("1", None);
        assert_eq!(key_of("1", None), first);
        assert_ne!(key_of("2", None), first);
        assert_ne!(key_of("1", Some("a")), first);
        std::fs::write(&prompts, "crab and fox").unwrap();
        assert_ne!(key_of("1", None), first);
    }

    #[test]
    fn paths_are_found_inside_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        ["a", "b", "c"].iter().for_each(|name| std::fs::write(path(name), "").unwrap());
        let arguments = [
            "eval".into(),
            format!("x={}+{}:0.5", path("a"), path("b")),
            "--set".into(),
            format!("k.l=\"{}\"", path("c")),
        ];
        assert_eq!(named(&arguments), ["a", "b", "c"].map(|name| dir.path().join(name)));
    }
}
