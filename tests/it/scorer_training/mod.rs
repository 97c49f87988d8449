//! `diffpref train-scorer`: every head on a tiny CLIP, exact resume, ensembles, new users, refusals.

mod heads;
mod refusals;
mod resume;

use crate::support::{diffpref, golden};
use assert_cmd::Command;
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Prompts of the data, six pairs each; about a third is held out.
const PROMPTS: [&str; 8] = ["a red fox", "a dog", "a house", "a cat", "an apple", "a rose", "a bicycle", "a rocket"];

/// A folder with pictures and pairs. The brighter picture of a pair wins; the user "dim" prefers the darker one.
pub struct Judged(tempfile::TempDir);

impl Judged {
    pub fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        let mut rows = String::new();
        let mut lists = String::new();
        for (p, prompt) in PROMPTS.iter().enumerate() {
            for i in 0..6 {
                let levels = [230 - 5 * i - p as u8, 30 + 5 * i + p as u8];
                for (side, level) in ["bright", "dark"].iter().zip(levels) {
                    let picture = RgbImage::from_fn(28, 28, |x, y| Rgb([level, level, level ^ ((x + y) as u8 % 16)]));
                    picture.save(world.path(&format!("{side}-{p}-{i}.png"))).unwrap();
                }
                let (bright, dark) = (format!("bright-{p}-{i}.png"), format!("dark-{p}-{i}.png"));
                let dim = i % 2 == 1;
                let (winner, loser) = if dim { (&dark, &bright) } else { (&bright, &dark) };
                let label = f64::from(u8::from(!dim));
                let mut row = json!({
                    "id": format!("{p}-{i}"), "prompt": prompt, "winner": winner, "loser": loser,
                    "scores": {"bright": if dim { [0.1, 0.9] } else { [0.9, 0.1] }},
                    "user": if dim { "dim" } else { "lit" }, "votes": [3, i / 3],
                    "strength": {"mean": 0.2 * i as f64, "std": 0.1},
                    "labels": {"bright": label, "dark": 1.0 - label},
                });
                if i == 5 {
                    row["label"] = "tie".into();
                    row["votes"] = json!([1, 1]);
                }
                rows += &format!("{row}\n");
            }
            let images: Vec<String> =
                (0..3).map(|i| format!("dark-{p}-{i}.png")).chain([format!("bright-{p}-0.png")]).collect();
            lists += &format!(
                "{}\n",
                json!({"id": format!("l{p}"), "prompt": prompt, "images": images, "ranks": [4, 3, 2, 1]})
            );
        }
        std::fs::write(world.path("pairs.jsonl"), rows).unwrap();
        std::fs::write(world.path("lists.jsonl"), lists).unwrap();
        world.config("pickscore", "");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes scorer.toml for a method; `rest` are further lines of [method].
    pub fn config(&self, method: &str, rest: &str) {
        let data = if method == "ranklist" { "lists.jsonl" } else { "pairs.jsonl" };
        let others = match method {
            "more" => format!("others = [{:?}]\n", self.second_set()),
            _ => String::new(),
        };
        let text = format!(
            "[model]\npath = \"{}\"\ndevice = \"cpu\"\n[method]\nname = \"{method}\"\n{rest}\n[data]\npath = \"{}\"\n{others}\
             [validate]\nfraction = 0.35\n[optim]\nlr = 3e-3\n[train]\nout = \"{}\"\nsteps = 6\nmicro_batch = 4\n\
             grad_accum = 2\nthreads = 1\ncheckpoint_every = 2\n",
            golden("scorers/clip").display(),
            self.path(data).display(),
            self.path("run").display()
        );
        std::fs::write(self.path("scorer.toml"), text).unwrap();
    }

    /// Another data set: the same pictures, of which the darker one wins.
    fn second_set(&self) -> PathBuf {
        let text = std::fs::read_to_string(self.path("pairs.jsonl")).unwrap();
        let rows = text.lines().map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let mut names = [row["winner"].as_str().unwrap(), row["loser"].as_str().unwrap()];
            names.sort_unstable_by_key(|name| !name.starts_with("dark"));
            format!("{}\n", json!({"id": row["id"], "prompt": row["prompt"], "winner": names[0], "loser": names[1]}))
        });
        std::fs::write(self.path("second.jsonl"), rows.collect::<String>()).unwrap();
        self.path("second.jsonl")
    }

    pub fn train(&self, arguments: &[&str]) -> Command {
        let mut command = diffpref();
        command.arg("train-scorer").arg(self.path("scorer.toml")).args(arguments);
        command
    }

    pub fn train_with(&self, sets: &[&str]) -> Command {
        self.train(&crate::support::flags(sets))
    }

    /// Rows of the data after `change`, written back.
    pub fn rewrite(&self, change: impl Fn(usize, &mut Value)) {
        let text = std::fs::read_to_string(self.path("pairs.jsonl")).unwrap();
        let rows = text.lines().enumerate().map(|(i, line)| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            change(i, &mut row);
            format!("{row}\n")
        });
        std::fs::write(self.path("pairs.jsonl"), rows.collect::<String>()).unwrap();
    }

    /// stderr of a refused call, the folder called DIR.
    pub fn refused(&self, command: &mut Command, code: i32) -> String {
        let assert = command.assert().failure().code(code);
        let text =
            String::from_utf8_lossy(&assert.get_output().stderr).replace(&self.0.path().display().to_string(), "DIR");
        for word in ["panicked", "internal error", "unwrap()"] {
            assert!(!text.contains(word), "{text}");
        }
        text
    }

    /// Numbers of the bright and the dark picture of the first prompt by a scorer, by measure.
    pub fn scored(&self, scorer: &str, folder: &Path) -> (Value, Value) {
        let input = self.path("two.csv");
        std::fs::write(&input, "picture,prompt\nbright-0-0.png,a red fox\ndark-0-0.png,a red fox\n").unwrap();
        let out = tempfile::tempdir().unwrap();
        let mut command = diffpref();
        command.env("XDG_CACHE_HOME", out.path()).arg("score").arg(&input).arg("--device").arg("cpu");
        command.arg("--scorer").arg(format!("{scorer}={}", folder.display())).arg("--out").arg(out.path());
        command.assert().success();
        let text = std::fs::read_to_string(out.path().join("scores.jsonl")).unwrap();
        let mut rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["scores"][scorer].take());
        (rows.next().unwrap(), rows.next().unwrap())
    }
}
