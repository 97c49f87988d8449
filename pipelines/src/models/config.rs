//! config.json of a component: typed reading, and refusal of values that are not implemented.

use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Upper limit of widths and counts; products of a few of them stay inside an i64.
const LARGEST: i64 = 1 << 20;

/// The keys and values of one config.json.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    values: Map<String, Value>,
}

impl ConfigFile {
    /// Reads `config.json` in a component folder.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::read_file(&dir.join("config.json"))
    }

    pub fn read_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        Self::parse(path, &text)
    }

    /// Parses the text of a config.json; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let parsed = serde_json::from_str(text).map_err(|source| Error::Json { path: path.into(), source })?;
        match parsed {
            Value::Object(values) => Ok(Self { path: path.into(), values }),
            _ => Err(Error::unusable(path, "this is no JSON object", "restore the file from where the model came")),
        }
    }

    /// The keys as JSON.
    pub fn to_json(&self) -> Value {
        Value::Object(self.values.clone())
    }

    /// Writes the keys as `config.json` into another folder.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("create the folder", dir, e))?;
        let text = format!("{:#}\n", Value::Object(self.values.clone()));
        crate::weights::write_file(&dir.join("config.json"), |out| out.write_all(text.as_bytes()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key; null counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// An object inside this one as a configuration of its own; empty if absent.
    pub fn part(&self, key: &str) -> Result<Self> {
        let values = match self.get(key) {
            None => Map::new(),
            Some(Value::Object(values)) => values.clone(),
            Some(_) => return Err(self.refuse(key, "an object")),
        };
        Ok(Self { path: PathBuf::from(format!("{}, {key}", self.path.display())), values })
    }

    /// These values with those of another configuration over them.
    pub fn overlaid(mut self, over: Self) -> Self {
        self.values.extend(over.values);
        self
    }

    /// Refuses keys with a value outside `known`.
    pub fn only_keys(&self, known: &[&str]) -> Result<()> {
        match self.values.iter().find(|(key, value)| !value.is_null() && !known.contains(&key.as_str())) {
            Some((key, _)) => {
                Err(self.refuse(key, format!("no such key: of this part only {} are implemented", known.join(", "))))
            }
            None => Ok(()),
        }
    }

    fn refuse(&self, key: &str, expected: impl Into<String>) -> Error {
        let found = self.get(key).map_or("missing".to_string(), Value::to_string);
        Error::config(&self.path, key, expected, found)
    }

    /// Refuses every value of `key` but the given one; an absent key has that value.
    pub fn only(&self, key: &str, value: &Value) -> Result<()> {
        match self.get(key) {
            None => Ok(()),
            Some(found) if found == value || (found.is_number() && found.as_f64() == value.as_f64()) => Ok(()),
            Some(_) => Err(self.refuse(key, format!("{value}: nothing else is implemented"))),
        }
    }

    /// Refuses every value of `key` but null.
    pub fn absent(&self, key: &str) -> Result<()> {
        match self.get(key) {
            None => Ok(()),
            Some(_) => Err(self.refuse(key, "null: nothing else is implemented")),
        }
    }

    /// A whole number of at least 1.
    pub fn size(&self, key: &str, default: Option<i64>) -> Result<i64> {
        match (self.get(key), default) {
            (None, Some(default)) => Ok(default),
            (value, _) => value.and_then(positive).ok_or_else(|| self.refuse(key, "a whole number of at least 1")),
        }
    }

    pub fn integer(&self, key: &str, default: i64) -> Result<i64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_i64().ok_or_else(|| self.refuse(key, "a whole number")),
        }
    }

    pub fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => {
                let value = value.as_f64().filter(|v| v.is_finite());
                value.ok_or_else(|| self.refuse(key, "a number"))
            }
        }
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.refuse(key, "true or false")),
        }
    }

    pub fn text(&self, key: &str, default: &str) -> Result<String> {
        match self.get(key) {
            None => Ok(default.to_string()),
            Some(value) => value.as_str().map(String::from).ok_or_else(|| self.refuse(key, "a text")),
        }
    }

    /// A list of whole numbers of at least 1.
    pub fn sizes(&self, key: &str) -> Result<Vec<i64>> {
        let refused = || self.refuse(key, "a list of whole numbers of at least 1");
        let list = self.get(key).and_then(Value::as_array).filter(|list| !list.is_empty()).ok_or_else(refused)?;
        list.iter().map(|value| positive(value).ok_or_else(refused)).collect()
    }

    /// One whole number per block of `blocks`; a single number is repeated.
    pub fn per_block(&self, key: &str, default: i64, blocks: usize) -> Result<Vec<i64>> {
        match self.get(key) {
            None => Ok(vec![default; blocks]),
            Some(Value::Array(list)) if list.len() == blocks => self.sizes(key),
            Some(value) => match positive(value) {
                Some(value) => Ok(vec![value; blocks]),
                None => Err(self.refuse(key, format!("a whole number or a list of {blocks}"))),
            },
        }
    }

    /// A list of `blocks` names, each one of `known`; returns their positions in `known`.
    pub fn choices(&self, key: &str, known: &[&str], blocks: usize) -> Result<Vec<usize>> {
        let refused = || self.refuse(key, format!("a list of {blocks} out of {}", known.join(", ")));
        let list = self.get(key).and_then(Value::as_array).filter(|list| list.len() == blocks).ok_or_else(refused)?;
        let place = |value: &Value| known.iter().position(|name| Some(*name) == value.as_str());
        list.iter().map(|value| place(value).ok_or_else(refused)).collect()
    }

    /// An error about a key whose value conflicts with another one.
    pub fn conflict(&self, key: &str, expected: impl Into<String>) -> Error {
        self.refuse(key, expected)
    }
}

fn positive(value: &Value) -> Option<i64> {
    value.as_i64().filter(|n| (1..=LARGEST).contains(n))
}
