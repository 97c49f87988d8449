//! An axis: the values of a key, or of several keys together, and when it is read.

use crate::keys::{Kind, nearest};
use crate::objectives;
use crate::settings::tables;
use toml::{Table, Value};

/// Overrides of an axis: key and value.
pub type Sets = Vec<(String, Value)>;

/// Keys of an axis that belong to the evaluation.
pub const EVAL_KEYS: [&str; 4] = ["eval.guidance_scale", "eval.steps", "eval.alpha", "eval.beta"];

/// An axis of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Its key, or the name of a zipped group.
    pub name: String,
    pub keys: Vec<String>,
    pub domain: Domain,
    /// Keys with the values that they must have.
    pub when: Vec<(String, Vec<Value>)>,
}

/// Values of an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// A label and its overrides.
    Listed(Vec<(String, Sets)>),
    /// All numbers between two.
    Range(Span),
    /// Factors of the value in the configuration.
    Times(Vec<f64>),
}

/// Numbers between two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    pub from: f64,
    pub to: f64,
    pub log: bool,
    /// Number of values in a grid.
    pub points: Option<usize>,
    /// Whole numbers only.
    pub whole: bool,
}

impl Span {
    /// The number at `u` in [0, 1]. Six digits keep configurations readable.
    pub fn at(&self, u: f64) -> Value {
        let number = match self.log {
            true => (self.from.ln() + u * (self.to.ln() - self.from.ln())).exp(),
            false => self.from + u * (self.to - self.from),
        };
        let short = format!("{number:.5e}").parse().unwrap_or(number);
        match self.whole {
            true => Value::Integer(number.round() as i64),
            false => Value::Float(short),
        }
    }

    /// Values of a grid, both ends included.
    fn grid(&self, points: usize) -> Vec<Value> {
        let last = points.saturating_sub(1).max(1) as f64;
        (0..points).map(|i| self.at(i as f64 / last)).collect()
    }
}

impl Axis {
    /// All axes of a table, in order. A table below a name is a table of keys: `method.beta` may stand without quotes.
    ///
    /// # Errors
    /// What is no axis, with its name.
    pub fn all(table: &Table) -> Result<Vec<Self>, String> {
        let mut axes = Vec::new();
        for (name, value) in table {
            let nested = value.as_table().filter(|_| is_table(name));
            match nested {
                Some(inner) => {
                    for (key, value) in inner {
                        axes.push(Self::of(&format!("{name}.{key}"), value)?);
                    }
                }
                None => axes.push(Self::of(name, value)?),
            }
        }
        Ok(axes)
    }

    fn of(name: &str, value: &Value) -> Result<Self, String> {
        let (domain, keys, when) = match value {
            Value::Array(values) => (listed(name, values), vec![name.to_string()], Vec::new()),
            Value::Table(table) => {
                let (domain, keys) = domain(name, table)?;
                (domain, keys, conditions(name, table.get("when"))?)
            }
            other => {
                return Err(format!(
                    "axes: {name} = {other}: expected a list of values, or a table with values, from and to, times, or zip."
                ));
            }
        };
        if matches!(&domain, Domain::Listed(values) if values.is_empty())
            || matches!(&domain, Domain::Times(values) if values.is_empty())
        {
            return Err(format!("axes: {name} is empty: expected at least one value. Remove the axis, or add values."));
        }
        Ok(Self { name: name.into(), keys, domain, when })
    }

    /// Values of a grid. `base`: the configuration before this axis.
    ///
    /// # Errors
    /// A range without a number of points; a factor of a key that the configuration lacks.
    pub fn grid(&self, base: &Table) -> Result<Vec<(String, Sets)>, String> {
        match &self.domain {
            Domain::Listed(values) => Ok(values.clone()),
            Domain::Times(factors) => {
                let current = number_of(base, &self.name).ok_or_else(|| {
                    format!("axes: {} = {{ times = .. }}: the configuration has no such number. Set it there, or list values.", self.name)
                })?;
                let value = |factor: &f64| {
                    Span { from: current * factor, to: current * factor, log: false, points: None, whole: false }
                        .at(0.0)
                };
                Ok(listed_values(&self.name, factors.iter().map(value)))
            }
            Domain::Range(span) => {
                let points = span.points.ok_or_else(|| {
                    format!(
                        "axes: {}: points is missing, the number of values of a grid between from and to.",
                        self.name
                    )
                })?;
                Ok(listed_values(&self.name, span.grid(points)))
            }
        }
    }

    /// The value at `u` in [0, 1).
    ///
    /// # Errors
    /// As [`grid`](Self::grid), for factors.
    pub fn at(&self, u: f64, base: &Table) -> Result<(String, Sets), String> {
        if let Domain::Range(span) = &self.domain {
            let value = span.at(u);
            return Ok((value.to_string(), vec![(self.name.clone(), value)]));
        }
        let values = self.grid(base)?;
        let index = ((u * values.len() as f64) as usize).min(values.len() - 1);
        Ok(values[index].clone())
    }

    /// Whether the configuration fulfils the conditions.
    pub fn applies(&self, table: &Table) -> bool {
        self.when
            .iter()
            .all(|(key, wanted)| value_of(table, key).is_some_and(|value| wanted.iter().any(|w| equal(w, &value))))
    }

    /// Refuses keys that do not exist and values of the wrong type. `table`: the configuration with earlier axes.
    ///
    /// # Errors
    /// The axis, and the nearest key or the expected values.
    pub fn check(&self, table: &Table) -> Result<(), String> {
        for key in &self.keys {
            let declared = declared(key, table).map_err(|problem| format!("axes: {}: {problem}", self.name))?;
            let Some(declared) = declared else { continue };
            let values: Vec<Value> = match &self.domain {
                Domain::Listed(values) => {
                    values.iter().flat_map(|(_, sets)| sets).filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
                }
                Domain::Range(span) => vec![span.at(0.0), span.at(1.0)],
                Domain::Times(_) => Vec::new(),
            };
            for value in values {
                declared.check(&value).map_err(|expected| format!("axes: {key} = {value}: expected {expected}."))?;
            }
        }
        Ok(())
    }
}

/// Whether keys may stand below the name.
fn is_table(name: &str) -> bool {
    ["method", "eval"].contains(&name) || tables::TABLES.iter().any(|table| table.name == name)
}

/// A value of a configuration by its dotted key, or the key's default.
pub fn value_of(table: &Table, key: &str) -> Option<Value> {
    let (name, key) = key.split_once('.')?;
    let given = table.get(name).and_then(|t| t.get(key)).cloned();
    let default = || match (name, key) {
        ("method", "name") => Some(Value::String("dpo".into())),
        ("method", _) => method_of(table)?.keys.iter().find(|known| known.name == key)?.default_value(),
        _ => tables::key(name, key)?.default_value(),
    };
    given.or_else(default)
}

fn number_of(table: &Table, key: &str) -> Option<f64> {
    let value = value_of(table, key)?;
    value.as_float().or_else(|| value.as_integer().map(|i| i as f64))
}

fn equal(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|i| i as f64));
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn method_of(table: &Table) -> Option<&'static objectives::Entry> {
    let name = table.get("method").and_then(|t| t.get("name")).and_then(Value::as_str).unwrap_or("dpo");
    objectives::find(name)
}

/// The declaration of a key; `None` for keys of the evaluation.
fn declared(key: &str, table: &Table) -> Result<Option<&'static crate::keys::Key>, String> {
    if key.starts_with("eval.") {
        return match EVAL_KEYS.contains(&key) {
            true => Ok(None),
            false => Err(unknown(key, &EVAL_KEYS)),
        };
    }
    if let Some(own) = [("train.seed", "seeds"), ("train.out", "out")].into_iter().find(|(own, _)| *own == key) {
        return Err(format!("{key} is set by the sweep: its key is {}.", own.1));
    }
    let every = |entry: &objectives::Entry| entry.keys.iter().map(|k| format!("method.{}", k.name)).collect::<Vec<_>>();
    let of_tables =
        tables::TABLES.iter().flat_map(|t| t.keys().map(|k| format!("{}.{}", t.name, k.name)).collect::<Vec<_>>());
    let Some((name, part)) = key.split_once('.') else {
        let all: Vec<String> = of_tables.collect();
        return Err(unknown(key, &all.iter().map(String::as_str).collect::<Vec<_>>()));
    };
    if (name, part) == ("method", "name") {
        return Ok(None);
    }
    if name != "method" {
        if let Some(found) = tables::key(name, part) {
            return Ok(Some(found));
        }
        let all: Vec<String> = of_tables.chain(objectives::REGISTRY.iter().flat_map(every)).collect();
        return Err(unknown(key, &all.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    // An unknown method is refused with the configuration, where the message names all.
    let Some(entry) = method_of(table) else { return Ok(None) };
    if let Some(found) = entry.keys.iter().find(|known| known.name == part) {
        return Ok(Some(found));
    }
    if objectives::REGISTRY.iter().any(|other| other.keys.iter().any(|known| known.name == part)) {
        return Err(format!(
            "{} has no key {key}: give the axis a condition, such as when = {{ \"method.name\" = \"dpo\" }}.",
            entry.name
        ));
    }
    let own = every(entry);
    Err(unknown(key, &own.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn unknown(key: &str, known: &[&str]) -> String {
    let hint = nearest(key, known).map_or(".".into(), |near| format!(", did you mean {near}?"));
    format!("there is no key {key}{hint} `diffpref keys` lists them.")
}

fn listed(name: &str, values: &[Value]) -> Domain {
    Domain::Listed(listed_values(name, values.iter().cloned()))
}

fn listed_values(name: &str, values: impl IntoIterator<Item = Value>) -> Vec<(String, Sets)> {
    values.into_iter().map(|value| (label(&value), vec![(name.to_string(), value)])).collect()
}

/// A value in a title: texts without quotes.
fn label(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

const FORMS: &str =
    "expected values = [..], from and to (with log = true, points = N), times = [..], or zip = { KEY = [..], .. }";

fn domain(name: &str, table: &Table) -> Result<(Domain, Vec<String>), String> {
    let known = ["values", "from", "to", "log", "points", "times", "zip", "names", "when"];
    if let Some(other) = table.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("axes: {name}: unknown key {other}: {FORMS}."));
    }
    let own = vec![name.to_string()];
    match (table.get("values"), table.get("times"), table.get("zip"), table.get("from").zip(table.get("to"))) {
        (Some(Value::Array(values)), None, None, None) => Ok((listed(name, values), own)),
        (None, Some(Value::Array(factors)), None, None) => {
            let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|i| i as f64));
            let factors = factors.iter().map(number).collect::<Option<Vec<f64>>>();
            Ok((Domain::Times(factors.ok_or_else(|| format!("axes: {name}: times: expected numbers."))?), own))
        }
        (None, None, Some(Value::Table(zipped)), None) => zip(name, zipped, table.get("names")),
        (None, None, None, Some((from, to))) => Ok((Domain::Range(span(name, table, from, to)?), own)),
        _ => Err(format!("axes: {name}: {FORMS}.")),
    }
}

fn span(name: &str, table: &Table, from: &Value, to: &Value) -> Result<Span, String> {
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|i| i as f64));
    let wrong = |what: &str| format!("axes: {name}: {what}.");
    let (from, to) = number(from).zip(number(to)).ok_or_else(|| wrong("from and to: expected numbers"))?;
    let log = match table.get("log") {
        None => false,
        Some(Value::Boolean(log)) => *log,
        Some(_) => return Err(wrong("log: expected true or false")),
    };
    let points = match table.get("points") {
        None => None,
        Some(Value::Integer(points)) if *points >= 1 => Some(*points as usize),
        Some(_) => return Err(wrong("points: expected a whole number of at least 1")),
    };
    if from >= to || !from.is_finite() || !to.is_finite() {
        return Err(wrong(&format!("from = {from} and to = {to}: the range is empty, expected from below to")));
    }
    if log && from <= 0.0 {
        return Err(wrong(&format!("from = {from}: a log range needs a number above 0")));
    }
    let whole = name
        .split_once('.')
        .and_then(|(t, k)| tables::key(t, k))
        .is_some_and(|key| matches!(key.kind, Kind::Int { .. }));
    Ok(Span { from, to, log, points, whole })
}

fn zip(name: &str, zipped: &Table, names: Option<&Value>) -> Result<(Domain, Vec<String>), String> {
    let mut columns = Vec::new();
    for (key, values) in zipped {
        let values = values.as_array().ok_or_else(|| format!("axes: {name}: zip.{key}: expected a list of values."))?;
        columns.push((key.clone(), values.clone()));
    }
    let length = columns.first().map_or(0, |(_, values)| values.len());
    if let Some((key, values)) = columns.iter().find(|(_, values)| values.len() != length) {
        return Err(format!(
            "axes: {name}: zip.{key} has {} values, the first key {length}: expected equally many.",
            values.len()
        ));
    }
    let names = match names {
        None => None,
        Some(Value::Array(names)) if names.len() == length && names.iter().all(Value::is_str) => {
            Some(names.iter().map(label).collect::<Vec<_>>())
        }
        Some(_) => return Err(format!("axes: {name}: names: expected {length} texts, one per value.")),
    };
    let row = |i: usize| {
        let sets: Sets = columns.iter().map(|(key, values)| (key.clone(), values[i].clone())).collect();
        let own = sets.iter().map(|(_, value)| label(value)).collect::<Vec<_>>().join(" / ");
        (names.as_ref().map_or(own, |names| names[i].clone()), sets)
    };
    let keys = columns.iter().map(|(key, _)| key.clone()).collect();
    Ok((Domain::Listed((0..length).map(row).collect()), keys))
}

fn conditions(name: &str, when: Option<&Value>) -> Result<Vec<(String, Vec<Value>)>, String> {
    let Some(when) = when else { return Ok(Vec::new()) };
    let table = when
        .as_table()
        .ok_or_else(|| format!("axes: {name}: when: expected a table such as {{ \"method.name\" = \"dpo\" }}."))?;
    let one = |(key, value): (&String, &Value)| {
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        (key.clone(), values)
    };
    Ok(table.iter().map(one).collect())
}
