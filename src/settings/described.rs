//! Keys for people: what `diffpref keys` prints and the tables of docs/ hold.

use super::tables::Table;
use crate::keys::{Default, Key, OnResume};
use serde::Serialize;

/// A key as people read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Described {
    pub key: &'static str,
    /// Accepted values, in words.
    pub values: String,
    /// TOML; `None`: the key is required or stays absent.
    pub default: Option<String>,
    pub required: bool,
    /// Families with a default of their own, and that default.
    pub families: Vec<(&'static str, &'static str)>,
    pub on_resume: OnResume,
    pub help: &'static str,
}

impl Described {
    /// `table`: its table, or the method whose key it is.
    pub fn of(table: &str, key: &Key) -> Self {
        let auto = if key.auto { ", or \"auto\"" } else { "" };
        let literal = match key.default {
            Default::Required | Default::Absent => None,
            Default::Toml(literal) | Default::ByFamily(literal) => Some(literal.to_string()),
            Default::Word(text) => Some(format!("\"{text}\"")),
        };
        let mut families: Vec<(&'static str, &'static str)> = Vec::new();
        if matches!(key.default, Default::ByFamily(_) | Default::Absent) {
            for family in pipelines::families::families() {
                let own = family.default(table, key.name).filter(|own| literal.as_deref() != Some(*own));
                if let Some(own) = own.filter(|own| families.iter().all(|(_, listed)| listed != own)) {
                    families.push((family.name(), own));
                }
            }
        }
        Self {
            key: key.name,
            values: format!("{}{auto}", key.kind.words()),
            default: literal,
            required: matches!(key.default, Default::Required),
            families,
            on_resume: key.on_resume,
            help: key.help,
        }
    }

    /// The default in words: `5000.0 (Stable Diffusion XL: 2000.0)`.
    pub fn default_words(&self) -> String {
        let own: Vec<String> = self.families.iter().map(|(family, own)| format!("{family}: {own}")).collect();
        let default = match &self.default {
            Some(default) => default.as_str(),
            None if self.required => "required",
            None => "",
        };
        match (default, own.is_empty()) {
            (default, true) => default.into(),
            ("", false) => own.join(", "),
            (default, false) => format!("{default} ({})", own.join(", ")),
        }
    }
}

impl Table {
    /// All keys, in the order of declaration.
    pub fn described(&self) -> Vec<Described> {
        self.keys().map(|key| Described::of(self.name, key)).collect()
    }
}
