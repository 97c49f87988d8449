//! From TOML text and `--set` overrides to a checked table. Unknown keys, wrong types and ranges are refused with
//! file, line, key, the expected and the found value.

use super::combinations::Combination;
use super::source::Source;
use super::tables::TABLES;
use super::{ConfigError, Result, RuleConfig};
use crate::keys::{self, Default, Key};
use crate::objectives::{self, MethodSettings};
use std::path::Path;
use toml::{Table, Value};

/// A checked configuration: every static default written out, "auto" still in place.
#[derive(Debug, Clone)]
pub struct Document {
    pub file: String,
    pub table: Table,
    /// Decisions while reading, for the user.
    pub notes: Vec<String>,
}

impl Document {
    /// [method] as far as known without the model.
    pub fn method(&self) -> Result<MethodSettings> {
        super::resolve::method(&self.table).map_err(|e| ConfigError(format!("{}: {e}", self.file)))
    }
}

/// Reads `path`, applies `sets` (`a.b=value`) in order and checks every key.
pub fn load(path: &Path, sets: &[String]) -> Result<Document> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigError(format!("{file}: cannot read the config: {e}. Give the path of a TOML file.")))?;
    let table =
        text.parse::<Table>().map_err(|e| ConfigError(format!("{file}: not TOML: {}", e.to_string().trim_end())))?;
    from_table(&file, Some(&text), table, sets)
}

/// Checks a table of `file`; `text` provides line numbers.
pub fn from_table(file: &str, text: Option<&str>, mut table: Table, sets: &[String]) -> Result<Document> {
    let sets = sets.iter().map(|s| parse_set(s)).collect::<Result<Vec<_>>>()?;
    let mut notes = Vec::new();
    drop_foreign_method_keys(&mut table, &sets, &mut notes);
    for (path, value) in &sets {
        apply_set(&mut table, path, value.clone())?;
    }
    let place = Place { file, text, sets: &sets };
    refuse_unknown_tables(&place, &table)?;
    let entry = objective_of(&place, &table)?;
    let mut checked = check_tables(&place, &mut table, entry, &mut notes)?;
    drop_unread_optim_keys(&table, &mut checked, &mut notes);
    Ok(Document { file: file.into(), table: checked, notes })
}

/// Every table that the method reads, checked and with defaults; other tables are removed from `table`.
pub(super) fn check_tables(
    place: &Place,
    table: &mut Table,
    entry: &objectives::Entry,
    notes: &mut Vec<String>,
) -> Result<Table> {
    let method = check_method(place, entry, table)?;
    let settings =
        MethodSettings::from_table(method.clone()).map_err(|e| ConfigError(format!("{}: {e}", place.file)))?;
    let source = Source::of(&settings.needs);
    refuse_unread(place, table, entry, source, notes)?;
    let mut checked = Table::new();
    for known in TABLES {
        if !source.leaves_out(known.name) {
            let given = sub_table(place, table, known.name)?;
            let read: Vec<Key> = known.keys.iter().filter(|key| source.reads(known.name, key.name)).copied().collect();
            checked.insert(known.name.into(), Value::Table(check_table(place, known.name, &read, given)?));
        }
        if known.name == "validate" {
            checked.insert("method".into(), Value::Table(method.clone()));
        }
    }
    Combination { place, given: table, checked: &mut checked, entry, needs: settings.needs, source }.check()?;
    Ok(checked)
}

/// Place of a key, for messages.
pub(super) struct Place<'a> {
    pub file: &'a str,
    pub text: Option<&'a str>,
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
}

/// 1-based line of `[table] key` (or of the table when `key` is empty).
fn line_of(text: &str, table: &str, key: &str) -> Option<usize> {
    let root = toml::de::DeTable::parse(text).ok()?;
    let find =
        |t: &toml::de::DeTable, name: &str| t.iter().find(|(k, _)| k.get_ref() == name).map(|(k, _)| k.span().start);
    let (name, value) = root.get_ref().iter().find(|(k, _)| k.get_ref() == table)?;
    let offset = if key.is_empty() { name.span().start } else { find(value.get_ref().as_table()?, key)? };
    Some(text[..offset].matches('\n').count() + 1)
}

fn refuse_unknown_tables(place: &Place, table: &Table) -> Result<()> {
    let mut known: Vec<&str> = TABLES.iter().map(|t| t.name).collect();
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

fn sub_table<'a>(place: &Place, table: &'a Table, name: &str) -> Result<Option<&'a Table>> {
    match table.get(name) {
        None => Ok(None),
        Some(Value::Table(t)) => Ok(Some(t)),
        Some(other) => {
            Err(ConfigError(format!("{}: {name} = {other}: expected a table [{name}].", place.of(name, ""))))
        }
    }
}

fn objective_of(place: &Place, table: &Table) -> Result<&'static objectives::Entry> {
    let name = sub_table(place, table, "method")?.and_then(|t| t.get("name"));
    let name = match name {
        None => "dpo",
        Some(Value::String(s)) => s,
        Some(other) => {
            return Err(ConfigError(format!(
                "{}: method.name = {other}: expected a text.",
                place.of("method", "name")
            )));
        }
    };
    objectives::find(name).ok_or_else(|| {
        let names: Vec<&str> = objectives::REGISTRY.iter().map(|e| e.name).collect();
        let known: Vec<&str> =
            names.iter().copied().chain(objectives::PLUG_INS.iter().map(|(name, _)| *name)).collect();
        let why = match objectives::PLUG_INS.iter().find(|(plug_in, _)| *plug_in == name) {
            Some((_, keys)) => format!(" is no method of its own: set method.name = \"dpo\" with {keys}."),
            None if objectives::KNOWN_NOT_BUILT.contains(&name) => " is not built yet.".into(),
            None => format!(" is not a method{}", nearest(name, &known)),
        };
        ConfigError(format!(
            "{}: method.name = \"{name}\"{why} Methods: {}.",
            place.of("method", "name"),
            names.join(", ")
        ))
    })
}

/// The checked [method] table under the method's own name, also for an alias.
fn check_method(place: &Place, entry: &objectives::Entry, table: &Table) -> Result<Table> {
    let mut given = sub_table(place, table, "method")?.cloned().unwrap_or_default();
    given.remove("name");
    let mut method = Table::new();
    method.insert("name".into(), Value::String(entry.name.into()));
    method.extend(check_table(place, "method", entry.keys, Some(&given))?);
    Ok(method)
}

/// Tables and keys without meaning for the source of the method's pictures are refused with the reason. Those
/// replaced by the method's own keys are dropped with a message.
fn refuse_unread(
    place: &Place,
    table: &mut Table,
    entry: &objectives::Entry,
    source: Source,
    notes: &mut Vec<String>,
) -> Result<()> {
    let name = entry.name;
    for known in TABLES {
        let Some(given) = sub_table(place, table, known.name)?.cloned() else { continue };
        let why = source.why_unread(known.name);
        if source.leaves_out(known.name) {
            return Err(ConfigError(format!(
                "{}: [{}] does not go with method.name = \"{name}\", {why}. Remove the table.",
                place.of(known.name, ""),
                known.name
            )));
        }
        for key in known.keys.iter().map(|key| key.name) {
            if source.reads(known.name, key) || !given.contains_key(key) {
                continue;
            }
            if !source.passes_over(known.name, key) {
                return Err(ConfigError(format!(
                    "{}: {}.{key} does not go with method.name = \"{name}\", {why}. Remove the key.",
                    place.of(known.name, key),
                    known.name
                )));
            }
            notes.push(format!("{}.{key} of the config is not read by {name}: dropped", known.name));
            if let Some(Value::Table(section)) = table.get_mut(known.name) {
                section.remove(key);
            }
        }
    }
    Ok(())
}

/// `given` checked against `keys`, defaults written out, in the order of `keys`.
fn check_table(place: &Place, name: &str, keys: &[Key], given: Option<&Table>) -> Result<Table> {
    let empty = Table::new();
    let given = given.unwrap_or(&empty);
    let known: Vec<&str> = keys.iter().map(|k| k.name).collect();
    if let Some(unknown) = given.keys().find(|k| !known.contains(&k.as_str())) {
        let at = place.of(name, unknown);
        if super::NOT_BUILT_KEYS.contains(&(name, unknown.as_str())) {
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
fn nearest(name: &str, known: &[&str]) -> String {
    keys::nearest(name, known).map_or(".".into(), |known| format!(", did you mean {known}?"))
}

/// `a.b=value`: TOML, else a number such as `.5`, else a text.
fn parse_set(text: &str) -> Result<(Vec<String>, Value)> {
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

fn apply_set(table: &mut Table, path: &[String], value: Value) -> Result<()> {
    let entry = table.entry(path[0].clone()).or_insert_with(|| Value::Table(Table::new()));
    match entry {
        Value::Table(t) => {
            t.insert(path[1].clone(), value);
            Ok(())
        }
        _ => Err(ConfigError(format!("--set {}: {} is not a table.", path.join("."), path[0]))),
    }
}

/// Keys that the optimizer does not read are dropped from the run's configuration, with a message if given.
fn drop_unread_optim_keys(given: &Table, checked: &mut Table, notes: &mut Vec<String>) {
    let Some(Value::Table(optim)) = checked.get_mut("optim") else { return };
    let name = optim.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
    for key in RuleConfig::unread(&name) {
        optim.remove(*key);
        if given.get("optim").is_some_and(|table| table.get(*key).is_some()) {
            notes.push(format!("optim.{key} of the config is not read by {name}: dropped"));
        }
    }
}

/// `--set method.name=X` drops the file's [method] keys that X lacks, with a message.
fn drop_foreign_method_keys(table: &mut Table, sets: &[(Vec<String>, Value)], notes: &mut Vec<String>) {
    let named = sets.iter().rev().find(|(p, _)| p.iter().map(String::as_str).eq(["method", "name"]));
    let Some(entry) = named.and_then(|(_, v)| v.as_str()).and_then(objectives::find) else { return };
    let Some(Value::Table(method)) = table.get_mut("method") else { return };
    let foreign: Vec<String> =
        method.keys().filter(|k| *k != "name" && !entry.keys.iter().any(|d| d.name == k.as_str())).cloned().collect();
    for key in foreign {
        method.remove(&key);
        notes.push(format!("method.{key} of the config does not apply to {}: dropped", entry.name));
    }
}
