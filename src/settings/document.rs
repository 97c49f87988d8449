//! From TOML text and `--set` overrides to a checked table. Unknown keys, wrong types and ranges are refused with
//! file, line, key, the expected and the found value.

use super::combinations::Combination;
use super::parsed::Parsed;
use super::place::Place;
use super::source::Source;
use super::tables::TABLES;
use super::written::{Written, apply_set, check_table, nearest, parse_set, refuse_unknown_tables, sub_table};
use crate::heads;
use crate::keys::{ConfigError, Result};
use crate::objectives::{self, MethodSettings};
use std::path::Path;
use toml::{Table, Value};

/// Reads `path`, applies `sets` (`a.b=value`) in order and checks every key.
///
/// # Errors
/// What is wrong, with file, line and key.
pub fn load(path: &Path, sets: &[String]) -> Result<Parsed> {
    let Written { file, text, table } = Written::read(path)?;
    from_table(&file, Some(&text), table, sets)
}

/// The tables of `path` with `sets` applied: a configuration that needs no overrides. Keys are not checked.
///
/// # Errors
/// A file that cannot be read, or an override that is none.
pub fn overridden(path: &Path, sets: &[String]) -> Result<Table> {
    let Written { mut table, .. } = Written::read(path)?;
    let sets = parse_sets(sets)?;
    apply_sets(&mut table, &sets, &mut Vec::new())?;
    Ok(table)
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
    refuse_unknown_tables(&place, &table, TABLES)?;
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
            None if is_of_scorers(name) => {
                let text = format!(
                    "{}: method.name = \"{name}\" trains a scorer: run `diffpref train-scorer {}`.",
                    place.of("method", "name"),
                    place.file
                );
                return ConfigError(text);
            }
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

/// Whether `train-scorer` knows the name, built or not.
fn is_of_scorers(name: &str) -> bool {
    name.parse::<heads::Objective>().is_ok() || heads::NOT_BUILT.contains(&name)
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
