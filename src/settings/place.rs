//! Where a key was written: for messages.

use crate::keys::ConfigError;
use toml::Value;
use toml::de::DeTable;

/// A configuration file with its overrides.
pub struct Place<'a> {
    pub file: &'a str,
    /// Text of the file: names lines.
    pub text: Option<&'a str>,
    /// Overrides by `--set`: table and key, value.
    pub sets: &'a [(Vec<String>, Value)],
}

impl Place<'_> {
    /// The override, or file and line of `[table] key` (of the table when `key` is empty).
    pub fn of(&self, table: &str, key: &str) -> String {
        let set = self.sets.iter().find(|(p, _)| p[0] == table && (key.is_empty() || p[1] == key));
        let written = || self.text.and_then(|t| line_of(t, table, key));
        if let Some((path, _)) = set.filter(|_| !key.is_empty() || written().is_none()) {
            return format!("--set {}", path.join("."));
        }
        match written() {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.to_string(),
        }
    }

    /// An error about `[table] key`.
    pub fn refuse<T>(&self, table: &str, key: &str, text: String) -> Result<T, ConfigError> {
        Err(ConfigError(format!("{}: {text}", self.of(table, key))))
    }
}

/// 1-based line of `[table] key` (or of the table when `key` is empty).
fn line_of(text: &str, table: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let find = |t: &DeTable, name: &str| t.iter().find(|(k, _)| k.get_ref() == name).map(|(k, _)| k.span().start);
    let (name, value) = root.get_ref().iter().find(|(k, _)| k.get_ref() == table)?;
    let offset = if key.is_empty() { name.span().start } else { find(value.get_ref().as_table()?, key)? };
    Some(text[..offset].matches('\n').count() + 1)
}
