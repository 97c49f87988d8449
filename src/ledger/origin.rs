//! Everything that stored errors depend on besides the rows of their forward pass.

use crate::machine::hashes::of_bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the description of a ledger.
pub(super) const FILE: &str = "origin.json";

/// The network of a reference and the machine that computes with it, as values by name: hashes of weights, noise
/// process, types, device, threads, versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origin(pub BTreeMap<String, String>);

impl Origin {
    pub fn new<const N: usize>(values: [(&str, String); N]) -> Self {
        Self(values.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }

    /// Name of its folder.
    pub fn folder(&self) -> String {
        let text: String = self.0.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        of_bytes(text.as_bytes())[..16].to_string()
    }

    /// The description in a folder of a ledger; `None` if it is missing or damaged.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()
    }

    /// The differences of another ledger, as `NAME VALUE, here VALUE`. Hashes are left out.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names = self.0.keys().chain(other.0.keys()).collect::<std::collections::BTreeSet<_>>();
        let differs = names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name));
        let shown = |name: &String| match (other.0.get(name), self.0.get(name)) {
            (Some(there), Some(here)) if there.len() <= MOST && here.len() <= MOST => {
                format!("{name} {there}, here {here}")
            }
            _ => format!("another {name}"),
        };
        differs.map(shown).collect()
    }
}

/// Longest value that a message shows: hashes are longer.
const MOST: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_both_values_and_a_hash_only_its_kind() {
        let of = |dtype: &str, hash: &str| Origin::new([("dtype", dtype.into()), ("weights", hash.repeat(64))]);
        let (own, other) = (of("float32", "a"), of("bfloat16", "b"));
        assert_eq!(own.differences(&other), ["dtype bfloat16, here float32", "another weights"]);
        assert!(own.differences(&own.clone()).is_empty());
        assert_ne!(own.folder(), other.folder());
    }
}
