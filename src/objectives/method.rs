//! From the keys of [method] to a method: its loss and its needs.

use super::shared::{BETA, BetaRule, SCORE_RANGE, SCORER};
use super::{LabelLoss, ListLoss, Needs, Objective, PairLoss, ResidualLoss, StepLoss};
use crate::keys::{Key, Keys};
use pipelines::families::Family;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A method with the values of its keys.
pub struct Method {
    pub objective: Objective,
    pub needs: Needs,
}

impl Method {
    pub fn pairs(needs: Needs, loss: impl PairLoss + 'static) -> Self {
        Self { needs, objective: Objective::Pairs(Box::new(loss)) }
    }

    pub fn lists(needs: Needs, loss: impl ListLoss + 'static) -> Self {
        Self { needs, objective: Objective::Lists(Box::new(loss)) }
    }

    pub fn labels(needs: Needs, loss: impl LabelLoss + 'static) -> Self {
        Self { needs, objective: Objective::Labels(Box::new(loss)) }
    }

    pub fn steps(needs: Needs, loss: impl StepLoss + 'static) -> Self {
        Self { needs, objective: Objective::Steps(Box::new(loss)) }
    }

    pub fn residuals(needs: Needs, loss: impl ResidualLoss + 'static) -> Self {
        Self { needs, objective: Objective::Residuals(Box::new(loss)) }
    }
}

/// The keys of a method as a struct, declared beside its formula.
pub trait MethodKeys: Keys + DeserializeOwned {
    fn method(self) -> Method;
}

/// A registered method: name, description, keys, and constructor.
#[derive(Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    /// Name in its paper.
    pub title: &'static str,
    /// Empty without a paper.
    pub paper: &'static str,
    /// Network passes per step, relative to dpo; for methods that sample: forward passes of one picture per
    /// iteration.
    pub cost: &'static str,
    /// Advice when to use it.
    pub when: &'static str,
    /// Its page below docs/methods/.
    pub page: &'static str,
    pub keys: &'static [Key],
    pub(super) build: fn(Table) -> Result<Method, toml::de::Error>,
}

impl Entry {
    /// A method with the keys of `T`, without description.
    pub const fn of<T: MethodKeys>(name: &'static str) -> Self {
        Self { name, title: "", paper: "", cost: "", when: "", page: "", keys: T::KEYS, build: build::<T> }
    }

    /// The method with these values of its keys, and defaults for the others: those of the family, or of most models
    /// if it is unknown.
    ///
    /// # Errors
    /// A value outside its key's range.
    pub fn method(&self, values: &Table, family: Option<Family>) -> Result<Method, toml::de::Error> {
        let mut method = (self.build)(self.complete(values, family))?;
        if let Some(BetaRule::Auto { from }) = &mut method.needs.beta {
            let key = self.keys.iter().find(|key| key.name == BETA.name);
            *from = key.and_then(|key| self.default_of(key, family)?.as_float()).unwrap_or(1.0);
        }
        Ok(method)
    }

    /// Needs of the method with its defaults.
    ///
    /// # Panics
    /// On a default outside its key's range; a test checks all methods.
    pub fn needs(&self) -> Needs {
        self.method(&Table::new(), None).unwrap_or_else(|e| panic!("defaults of {}: {e}", self.name)).needs
    }

    fn default_of(&self, key: &Key, family: Option<Family>) -> Option<Value> {
        key.default_for(family.and_then(|family| family.default(self.name, key.name)))
    }

    /// `values` with the family's defaults for missing keys, in the order of declaration.
    fn complete(&self, values: &Table, family: Option<Family>) -> Table {
        let value = |key: &Key| values.get(key.name).cloned().or_else(|| self.default_of(key, family));
        self.keys.iter().filter_map(|key| Some((key.name.to_string(), value(key)?))).collect()
    }
}

fn build<T: MethodKeys>(values: Table) -> Result<Method, toml::de::Error> {
    Ok(T::deserialize(values)?.method())
}

/// [method] of a run: the method and its checked values.
#[derive(Clone)]
pub struct MethodSettings {
    entry: &'static Entry,
    values: Table,
    family: Option<Family>,
    pub needs: Needs,
}

impl MethodSettings {
    /// `values`: checked, without `name`. Without `family`, the model is unknown, and values that depend on it must
    /// not be read.
    ///
    /// # Errors
    /// A value outside its key's range.
    pub fn new(entry: &'static Entry, values: Table, family: Option<Family>) -> Result<Self, toml::de::Error> {
        let needs = entry.method(&values, family)?.needs;
        Ok(Self { entry, values, family, needs })
    }

    pub fn name(&self) -> &'static str {
        self.entry.name
    }

    pub fn entry(&self) -> &'static Entry {
        self.entry
    }

    /// The loss.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn objective(&self) -> Result<Objective, toml::de::Error> {
        Ok(self.entry.method(&self.values, self.family)?.objective)
    }

    /// With the defaults of the model's family written out.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_family(&self, family: Family) -> Result<Self, toml::de::Error> {
        Self::new(self.entry, self.entry.complete(&self.values, Some(family)), Some(family))
    }

    /// With the scorer of the pairs.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_scorer(&self, scorer: &str) -> Result<Self, toml::de::Error> {
        self.with(SCORER.name, Value::String(scorer.into()))
    }

    /// With the range of scores of the data.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_score_range(&self, range: [f64; 2]) -> Result<Self, toml::de::Error> {
        self.with(SCORE_RANGE.name, Value::Array(range.into_iter().map(Value::Float).collect()))
    }

    fn with(&self, key: &str, value: Value) -> Result<Self, toml::de::Error> {
        let mut values = self.values.clone();
        values.insert(key.into(), value);
        Self::new(self.entry, values, self.family)
    }

    /// Name and values, in the order of declaration.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.insert("name".into(), Value::String(self.name().into()));
        let values = self.entry.keys.iter().filter_map(|key| Some((key.name.to_string(), self.values.get(key.name)?)));
        table.extend(values.map(|(name, value)| (name, value.clone())));
        table
    }

    /// Reads a table of [`table`](Self::table).
    ///
    /// # Errors
    /// An unknown method, or a value outside its key's range.
    pub fn from_table(mut table: Table) -> Result<Self, String> {
        let name = table.remove("name");
        let name = name.as_ref().and_then(Value::as_str).unwrap_or("dpo");
        let entry = super::find(name).ok_or_else(|| format!("method.name = \"{name}\" is not a method"))?;
        Self::new(entry, table, None).map_err(|e| format!("[method]: {e}"))
    }
}

impl std::fmt::Debug for MethodSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.table().fmt(f)
    }
}

impl serde::Serialize for MethodSettings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.table().serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for MethodSettings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_table(Table::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
