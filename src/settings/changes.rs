//! Changes between a run and the configuration that resumes it.

use super::resolve::method;
use super::scorers;
use toml::{Table, Value};

/// Treatment of a key that differs between a run and the config of `--resume`.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Same bytes: accepted silently.
    Harmless,
    /// Equal up to rounding: accepted with a message.
    Rounding(String),
    /// Refused; the text names the key and both values.
    Refused(String),
}

/// Compares the run's resolved table with a new one. Paths of equal content (`same_content`) may move.
pub fn changes(old: &Table, new: &Table, same_content: &dyn Fn(&str) -> bool) -> Vec<Change> {
    let mut names: Vec<(String, String)> = Vec::new();
    for table in [old, new] {
        for (section, value) in table {
            let keys = value.as_table().map(|t| t.keys().cloned().collect()).unwrap_or_else(Vec::new);
            for key in keys {
                if !names.iter().any(|(s, k)| s == section && *k == key) {
                    names.push((section.clone(), key));
                }
            }
        }
    }
    let value = |t: &Table, s: &str, k: &str| t.get(s).and_then(|v| v.get(k)).cloned();
    let product = |t: &Table| {
        let part = |k: &str| value(t, "train", k).and_then(|v| v.as_integer()).unwrap_or(1);
        part("micro_batch") * part("grad_accum")
    };
    // A ramp of the method depends on the number of steps, as schedules do.
    let ramp = method(old).is_ok_and(|method| method.needs.ramp);
    let constant =
        !ramp && value(old, "optim", "schedule").and_then(|v| v.as_str().map(|s| s == "constant")).unwrap_or(false);
    let mut out = Vec::new();
    for (section, key) in names {
        let (a, b) = (value(old, &section, &key), value(new, &section, &key));
        if a == b {
            continue;
        }
        let name = format!("{section}.{key}");
        let show = |v: &Option<Value>| v.as_ref().map_or("absent".to_string(), Value::to_string);
        let both = format!("{name}: the run has {}, the config has {}", show(&a), show(&b));
        out.push(match name.as_str() {
            "train.steps" if constant => Change::Harmless,
            "train.checkpoint_every"
            | "train.keep_last"
            | "train.keep_every"
            | "train.out"
            | "train.overwrite"
            | "validate.every" => Change::Harmless,
            _ if section == "sample" || section == "log" => Change::Harmless,
            "model.path" | "model.unet" | "model.vae" | "data.path" | "validate.path" | "lora.init"
            | "rollout.prompts" | "validate.prompts"
                if same_content(&name) =>
            {
                Change::Harmless
            }
            "reward.scorers" | "reward.watch" if same_content(&name) && same_scorers(&a, &b) => Change::Harmless,
            "train.micro_batch" | "train.grad_accum" if product(old) == product(new) => Change::Rounding(both),
            "train.threads"
            | "train.pair_split"
            | "train.gradient_checkpointing"
            | "reference.placement"
            | "data.workers"
            | "data.cache_dir"
            | "rollout.buffer"
            | "rollout.batch"
            | "model.device" => Change::Rounding(both),
            _ => Change::Refused(both),
        });
    }
    out
}

/// Whether lists of scorers differ at most in their paths.
fn same_scorers(a: &Option<Value>, b: &Option<Value>) -> bool {
    a.as_ref().map(scorers::without_paths) == b.as_ref().map(scorers::without_paths)
}
