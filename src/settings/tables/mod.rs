//! Every table and key of a run's configuration but [method], whose keys the objectives declare: one file per table, with
//! its keys as written (`Parsed`) and its values as run.

pub mod data;
pub mod ema;
pub mod log;
pub mod lora;
pub mod model;
pub mod optim;
pub mod reference;
mod reward;
pub mod rollout;
pub mod safeguard;
pub mod sample;
pub mod timesteps;
pub mod train;
pub mod validate;
pub mod weights;

use super::source::Source;
use crate::keys::{Key, Keys};
use crate::scorers::RewardConfig;

/// Keys of a table that are read together.
pub struct Part {
    pub keys: &'static [Key],
    /// Methods with other sources of pictures do not read them.
    pub read_by: &'static [Source],
}

impl Part {
    /// The keys of a struct.
    pub const fn of<T: Keys>(read_by: &'static [Source]) -> Self {
        Self { keys: T::KEYS, read_by }
    }
}

/// A table of the configuration.
pub struct Table {
    pub name: &'static str,
    pub parts: &'static [Part],
}

impl Table {
    /// All keys, in the order of declaration.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.parts.iter().flat_map(|part| part.keys)
    }

    /// The keys that a method with this source of pictures reads.
    pub fn read_by(&self, source: Source) -> Vec<Key> {
        let parts = self.parts.iter().filter(|part| part.read_by.contains(&source));
        parts.flat_map(|part| part.keys).copied().collect()
    }
}

const ALL: &[Source] = &[Source::Items, Source::Rollouts, Source::TruncatedItems, Source::TruncatedNoise];
const ITEMS: &[Source] = &[Source::Items];
const ANY_ITEMS: &[Source] = &[Source::Items, Source::TruncatedItems];
const PROMPTS: &[Source] = &[Source::Rollouts, Source::TruncatedNoise];
const ROLLOUTS: &[Source] = &[Source::Rollouts];

pub const TABLES: &[Table] = &[
    Table { name: "model", parts: &[Part::of::<model::Parsed>(ALL)] },
    Table { name: "data", parts: &[Part::of::<data::Items>(ANY_ITEMS), Part::of::<data::Pictures>(ALL)] },
    Table {
        name: "validate",
        parts: &[
            Part::of::<validate::HeldOutItems>(ITEMS),
            Part::of::<validate::HeldOutPrompts>(ROLLOUTS),
            Part::of::<validate::Often>(&[Source::Items, Source::Rollouts]),
        ],
    },
    Table { name: "timesteps", parts: &[Part::of::<timesteps::Parsed>(ITEMS)] },
    Table { name: "reference", parts: &[Part::of::<reference::Parsed>(ALL)] },
    Table { name: "safeguard", parts: &[Part::of::<safeguard::Parsed>(ITEMS)] },
    Table { name: "weights", parts: &[Part::of::<weights::Parsed>(ITEMS)] },
    Table { name: "lora", parts: &[Part::of::<lora::Parsed>(ALL)] },
    Table { name: "optim", parts: &[Part::of::<optim::Parsed>(ALL)] },
    Table { name: "ema", parts: &[Part::of::<ema::EmaConfig>(ALL)] },
    Table { name: "train", parts: &[Part::of::<train::Parsed>(ALL)] },
    Table { name: "sample", parts: &[Part::of::<sample::Parsed>(ALL)] },
    Table { name: "rollout", parts: &[Part::of::<rollout::Starts>(PROMPTS), Part::of::<rollout::Parsed>(ROLLOUTS)] },
    Table { name: "reward", parts: &[Part::of::<RewardConfig>(ROLLOUTS)] },
    Table { name: "log", parts: &[Part::of::<log::LogConfig>(ALL)] },
];

/// The declaration of a key; `None` for keys of [method] and unknown ones.
pub fn key(table: &str, name: &str) -> Option<&'static Key> {
    TABLES.iter().find(|known| known.name == table)?.keys().find(|key| key.name == name)
}
