//! From TOML text and `--set` overrides to a checked table. Unknown keys, wrong types and ranges are refused with
//! file, line, key, the expected and the found value.

use super::combinations::Combination;
use super::parsed::Parsed;
use super::place::Place;
use super::source::Source;
use super::tables::TABLES;
use crate::keys::{self, ConfigError, Default, Key, Result};
use crate::objectives::{self, MethodSettings};
use std::path::Path;
use toml::{Table, Value};

/// Keys that are known and that this version refuses.
const NOT_BUILT: &[(&str, &str)] = &[("reference", "path")];

/// Reads `path`, applies `sets` (`a.b=value`) in order and checks every key.
///
/// # Errors
/// What is wrong, with file, line and key.
pub fn load(path: &Path, sets: &[String]) -> Result<Parsed> {
    let (text, table) = read(path)?;
    from_table(&path.display().to_string(), Some(&text), table, sets)
}

/// The tables of `path` with `sets` applied: a configuration that needs no overrides. Keys are not checked.
///
/// # Errors
/// A file that cannot be read, or an override that is none.
pub fn written(path: &Path, sets: &[String]) -> Result<Table> {
    let (_, mut table) = read(path)?;
    let sets = parse_sets(sets)?;
    apply_sets(&mut table, &sets, &mut Vec::new())?;
    Ok(table)
}

/// Text and tables of a file.
fn read(path: &Path) -> Result<(String, Table)> {
    let file = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigError(format!("{file}: cannot read the config: {e}. Give the path of a TOML file.")))?;
    let table =
        text.parse::<Table>().map_err(|e| ConfigError(format!("{file}: not TOML: {}", e.to_string().trim_end())))?;
    Ok((text, table))
}

type Sets = Vec<(Vec<String>, Value)>;

fn parse_sets(sets: &[String]) -> Result<Sets> {
    sets.iter().map(|s| parse_set(s)).collect()
}

fn apply_sets(table: &mut Table, sets: &Sets, notes: &mut Vec<String>) -> Result<()> {
    drop_foreign_method_keys(table, sets, notes);
    sets.iter().try_for_each(|(path, value)| apply_set(table, path, value.clone()))
}

/// Checks a table of `file`; `text` provides line numbers.
fn from_table(file: &str, text: Option<&str>, mut table: Table, sets: &[String]) -> Result<Parsed> {
    let sets = parse_sets(sets)?;
    let mut notes = Vec::new();
    apply_sets(&mut table, &sets, &mut notes)?;
    let place = Place { file, text, sets: &sets };
    refuse_unknown_tables(&place, &table)?;
    let entry = objective_of(&place, &table)?;
    check_tables(&place, table, entry, notes)
}

/// Every table that the method reads, checked.
pub(super) fn check_tables(
    place: &Place,
    mut table: Table,
    entry: &'static objectives::Entry,
    mut notes: Vec<String>,
) -> Result<Parsed> {
    let refuse = |problem: String| ConfigError(format!("{}: {problem}", place.file));
    let method = check_method(place, entry, &table)?;
    let source = Source::of(&method.needs);
    refuse_unread(place, &mut table, entry.name, source, &mut notes)?;
    let mut checked = Table::new();
    for known in TABLES {
        let read = known.read_by(source);
        if !read.is_empty() {
            let given = sub_table(place, &table, known.name)?;
            checked.insert(known.name.into(), Value::Table(check_table(place, known.name, &read, given)?));
        }
    }
    let mut parsed = Parsed::of(place.file, &checked, method, source).map_err(refuse)?;
    Combination { place, given: &table, parsed: &mut parsed }.check()?;
    for key in parsed.optim.name.unread() {
        if table.get("optim").is_some_and(|optim| optim.get(*key).is_some()) {
            notes.push(format!("optim.{key} of the config is not read by {}: dropped", parsed.optim.name));
        }
    }
    parsed.notes = notes;
    Ok(parsed)
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

/// The [method] table checked, as a method of its own name, whatever public code calls it.
fn check_method(place: &Place, entry: &'static objectives::Entry, table: &Table) -> Result<MethodSettings> {
    let mut given = sub_table(place, table, "method")?.cloned().unwrap_or_default();
    given.remove("name");
    let values = check_table(place, "method", entry.keys, Some(&given))?;
    MethodSettings::new(entry, values, None).map_err(|e| ConfigError(format!("{}: [method]: {e}", place.file)))
}

/// Tables and keys without meaning for the source of the method's pictures are refused with the reason. Those
/// replaced by the method's own keys are dropped with a message.
fn refuse_unread(place: &Place, table: &mut Table, name: &str, source: Source, notes: &mut Vec<String>) -> Result<()> {
    for known in TABLES {
        let Some(given) = sub_table(place, table, known.name)?.cloned() else { continue };
        let (why, read) = (source.why_unread(known.name), known.read_by(source));
        if read.is_empty() {
            let text = format!("[{}] does not go with method.name = \"{name}\", {why}. Remove the table.", known.name);
            return place.refuse(known.name, "", text);
        }
        let unread = |key: &str| given.contains_key(key) && !read.iter().any(|read| read.name == key);
        for key in known.keys().map(|key| key.name).filter(|key| unread(key)) {
            if !source.passes_over(known.name, key) {
                let text =
                    format!("{}.{key} does not go with method.name = \"{name}\", {why}. Remove the key.", known.name);
                return place.refuse(known.name, key, text);
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
