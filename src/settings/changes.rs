//! Differences between a run and the configuration that resumes it. Each key declares what is allowed ([`OnResume`]).

use super::resolved::Settings;
use super::scorers::without_paths;
use super::tables;
use super::tables::optim::Schedule;
use crate::keys::OnResume;
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

/// Compares the run's configuration with a new one. Paths of equal content (`same_content`) may move.
///
/// # Errors
/// A value that TOML cannot hold.
pub fn changes(
    old: &Settings,
    new: &Settings,
    same_content: &dyn Fn(&str) -> bool,
) -> Result<Vec<Change>, toml::ser::Error> {
    // Schedules, and ramps of methods, read the number of steps.
    let steps_are_free = old.optim.schedule == Schedule::Constant && !old.method.needs.ramp;
    let same_product = old.train.pairs_per_step() == new.train.pairs_per_step();
    let (old, new) = (old.table()?, new.table()?);
    let change = |difference: Difference| {
        let Difference { table, key, before: a, after: b } = &difference;
        let (name, both) = (format!("{table}.{key}"), difference.text());
        let on_resume = tables::key(table, key).map_or(OnResume::Refused, |key| key.on_resume);
        match on_resume {
            OnResume::Harmless => Change::Harmless,
            OnResume::MoreSteps if steps_are_free => Change::Harmless,
            OnResume::SameContent if same_content(&name) && rest(a) == rest(b) => Change::Harmless,
            OnResume::Rounding => Change::Rounding(both),
            OnResume::SameProduct if same_product => Change::Rounding(both),
            OnResume::MoreSteps | OnResume::SameContent | OnResume::SameProduct | OnResume::Refused => {
                Change::Refused(both)
            }
        }
    };
    Ok(differences(&old, &new).into_iter().map(change).collect())
}

/// A key whose values differ between two configurations.
pub struct Difference {
    pub table: String,
    pub key: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl Difference {
    /// The key with both values, for messages.
    pub fn text(&self) -> String {
        let show = |value: &Option<Value>| value.as_ref().map_or("absent".to_string(), Value::to_string);
        let (before, after) = (show(&self.before), show(&self.after));
        format!("{}.{}: the run has {before}, the config has {after}", self.table, self.key)
    }
}

/// The differences between the configuration of a run and a new one, key by key.
pub fn differences(old: &Table, new: &Table) -> Vec<Difference> {
    let differing = keys(old, new).into_iter().filter_map(|(table, key)| {
        let value = |of: &Table| of.get(&table).and_then(|t| t.get(&key)).cloned();
        let (before, after) = (value(old), value(new));
        (before != after).then_some(Difference { table, key, before, after })
    });
    differing.collect()
}

/// Table and key of every value in either of them.
fn keys(old: &Table, new: &Table) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    for (table, value) in old.iter().chain(new) {
        for key in value.as_table().into_iter().flat_map(Table::keys) {
            let name = (table.clone(), key.clone());
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// The part of a value that must stay equal if its paths may change.
fn rest(value: &Option<Value>) -> Option<Value> {
    value
        .as_ref()
        .filter(|value| value.as_array().is_some_and(|list| list.iter().any(Value::is_table)))
        .map(without_paths)
}
