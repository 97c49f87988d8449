//! Tables of a configuration file and values of `--set`, checked against declared keys, whatever the command.

use super::place::Place;
use super::tables;
use crate::keys::{self, ConfigError, Default, Key, Result};
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::{Table, Value};

/// Keys that are known and that this version refuses.
const NOT_BUILT: &[(&str, &str)] = &[("reference", "path")];

/// A configuration file.
pub struct Written {
    /// Its path as given.
    pub file: String,
    pub text: String,
    pub table: Table,
}

impl Written {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// An unreadable file, or one that is not TOML.
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError(format!("{file}: cannot read the config: {e}. Give the path of a TOML file.")))?;
        let table = text
            .parse::<Table>()
            .map_err(|e| ConfigError(format!("{file}: not TOML: {}", e.to_string().trim_end())))?;
        Ok(Self { file, text, table })
    }
}

/// Refuses tables of the file that `tables` and [method] do not declare.
///
/// # Errors
/// The first such table.
pub fn refuse_unknown_tables(place: &Place, table: &Table, tables: &[tables::Table]) -> Result<()> {
    let mut known: Vec<&str> = tables.iter().map(|t| t.name).collect();
    known.push("method");
    for name in table.keys() {
        if !known.contains(&name.as_str()) {
            let hint = nearest(name, &known);
            return Err(ConfigError(format!(
                "{}: unknown table [{name}]{hint} Tables: {}.",
                place.of(name, ""),
                known.join(", ")
            )));
        }
    }
    Ok(())
}

/// A table of the file; `None` without one.
///
/// # Errors
/// Another kind of value.
pub fn sub_table<'a>(place: &Place, table: &'a Table, name: &str) -> Result<Option<&'a Table>> {
    match table.get(name) {
        None => Ok(None),
        Some(Value::Table(t)) => Ok(Some(t)),
        Some(other) => {
            Err(ConfigError(format!("{}: {name} = {other}: expected a table [{name}].", place.of(name, ""))))
        }
    }
}

/// `given` checked against `keys`, defaults written out, in the order of `keys`.
///
/// # Errors
/// An unknown or missing key, a value that its key does not accept.
pub fn check_table(place: &Place, name: &str, keys: &[Key], given: Option<&Table>) -> Result<Table> {
    let empty = Table::new();
    let given = given.unwrap_or(&empty);
    let known: Vec<&str> = keys.iter().map(|k| k.name).collect();
    if let Some(unknown) = given.keys().find(|k| !known.contains(&k.as_str())) {
        let at = place.of(name, unknown);
        if NOT_BUILT.contains(&(name, unknown.as_str())) {
            return Err(ConfigError(format!("{at}: {name}.{unknown} is not built yet. Remove the key.")));
        }
        let hint = nearest(unknown, &known);
        return Err(ConfigError(format!(
            "{at}: unknown key {name}.{unknown}{hint} Keys of [{name}]: {}.",
            known.join(", ")
        )));
    }
    let mut out = Table::new();
    for key in keys {
        let value = match (given.get(key.name), key.default) {
            (Some(value), _) => Some(key.check(value).map_err(|expected| {
                ConfigError(format!(
                    "{}: {name}.{} = {value}: expected {expected}.",
                    place.of(name, key.name),
                    key.name
                ))
            })?),
            (None, Default::Required) => {
                return Err(ConfigError(format!(
                    "{}: {name}.{} is missing: {}. Add it under [{name}].",
                    place.file, key.name, key.help
                )));
            }
            (None, _) => key.default_value(),
        };
        if let Some(value) = value {
            out.insert(key.name.into(), value);
        }
    }
    Ok(out)
}

/// The end of a sentence: ", did you mean X?" for the nearest known name, else ".".
pub(super) fn nearest(name: &str, known: &[&str]) -> String {
    keys::nearest(name, known).map_or(".".into(), |known| format!(", did you mean {known}?"))
}

/// `a.b=value`: TOML, else a number such as `.5`, else a text.
///
/// # Errors
/// Another form.
pub fn parse_set(text: &str) -> Result<(Vec<String>, Value)> {
    let wrong = || ConfigError(format!("--set {text}: expected TABLE.KEY=VALUE, for example --set optim.lr=1e-5."));
    let (path, value) = text.split_once('=').ok_or_else(wrong)?;
    let path: Vec<String> = path.trim().split('.').map(str::to_string).collect();
    if path.len() != 2 || path.iter().any(String::is_empty) {
        return Err(wrong());
    }
    let value = value.trim();
    let parsed = value.parse::<Value>().ok().filter(|v| !matches!(v, Value::Datetime(_)));
    let parsed = parsed.or_else(|| value.parse::<f64>().ok().filter(|x| x.is_finite()).map(Value::Float));
    Ok((path, parsed.unwrap_or_else(|| Value::String(value.into()))))
}

/// Puts the value of a `--set` into the table of the file.
///
/// # Errors
/// A table name that the file gives another kind of value.
pub fn apply_set(table: &mut Table, path: &[String], value: Value) -> Result<()> {
    let entry = table.entry(path[0].clone()).or_insert_with(|| Value::Table(Table::new()));
    match entry {
        Value::Table(t) => {
            t.insert(path[1].clone(), value);
            Ok(())
        }
        _ => Err(ConfigError(format!("--set {}: {} is not a table.", path.join("."), path[0]))),
    }
}

/// A checked table as a struct.
///
/// # Errors
/// A key whose type is not that of its declaration.
pub fn typed<T: DeserializeOwned>(checked: &Table, name: &str) -> std::result::Result<T, String> {
    let table = checked.get(name).cloned().unwrap_or_else(|| Value::Table(Table::new()));
    table.try_into().map_err(|e: toml::de::Error| format!("[{name}]: {}", e.to_string().trim_end()))
}
