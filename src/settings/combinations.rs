//! Combinations of tables and keys: those without meaning are refused with the reason.

use super::document::Place;
use super::source::Source;
use super::{ConfigError, Result};
use crate::data::items::ItemKind;
use crate::data::ranking::Labels;
use crate::objectives::{Entry, Needs};
use toml::{Table, Value};

/// Keys of [timesteps] for one law only.
const OF_LAW: [(&str, &str); 3] = [("gamma", "discounted"), ("n_bins", "discounted"), ("values", "list")];
/// Keys of [reference] for a moving reference only.
const OF_UPDATED: [&str; 3] = ["every", "divergence_limit", "divergence_ema"];

/// A document while its combinations are checked.
pub(super) struct Combination<'a> {
    pub place: &'a Place<'a>,
    /// The tables as written by the user.
    pub given: &'a Table,
    /// Every key checked on its own, with defaults.
    pub checked: &'a mut Table,
    pub entry: &'a Entry,
    pub needs: Needs,
    pub source: Source,
}

impl Combination<'_> {
    /// Checks all combinations and fills in keys that follow from others.
    pub fn check(&mut self) -> Result<()> {
        self.init_without_rank()?;
        self.reference()?;
        if self.source.has_prompts() {
            self.prompts("rollout")?;
        }
        if let Some(rollouts) = self.needs.rollouts {
            self.held_out()?;
            return self.rollouts(&rollouts);
        }
        if self.needs.truncated.is_some() {
            self.own_average()?;
        }
        if self.source == Source::Items {
            self.timesteps()?;
            self.safeguard()?;
            self.weights()?;
        }
        if !self.source.has_items() {
            return Ok(());
        }
        self.ties()?;
        self.labels()?;
        self.scorer()
    }

    /// Prompts in the configuration itself; a file is read later.
    fn prompts(&self, table: &str) -> Result<()> {
        let prompts = self.checked.get(table).and_then(|t| t.get("prompts"));
        match prompts.map(wrong_prompts) {
            Some(Some(expected)) => {
                let given = prompts.map_or(String::new(), Value::to_string);
                self.refuse(table, "prompts", format!("{table}.prompts = {given}: expected {expected}."))
            }
            _ => Ok(()),
        }
    }

    /// A method that samples is validated on prompts, or not at all.
    fn held_out(&mut self) -> Result<()> {
        if self.checked.get("validate").is_some_and(|t| t.get("prompts").is_some()) {
            return self.prompts("validate");
        }
        if self.given.contains_key("validate") {
            return self.refuse(
                "validate",
                "",
                format!("[validate] of method.name = \"{}\" has no prompts: name in validate.prompts what is sampled and not trained on, or remove the table.", self.entry.name),
            );
        }
        self.checked.remove("validate");
        Ok(())
    }

    /// The denoising network is an average that the method keeps itself.
    fn own_average(&self) -> Result<()> {
        let decay = self.checked.get("ema").and_then(|t| t.get("decay")).and_then(Value::as_float).unwrap_or(0.0);
        match decay > 0.0 {
            true => self.refuse(
                "ema",
                "decay",
                format!("ema.decay = {decay} does not go with method.name = \"{}\", which averages the weights itself: method.ema_decay. Remove the key.", self.entry.name),
            ),
            false => Ok(()),
        }
    }

    fn given(&self, table: &str, key: &str) -> Option<&Value> {
        self.given.get(table).and_then(|t| t.get(key))
    }

    pub(super) fn text(&self, table: &str, key: &str) -> &str {
        self.checked.get(table).and_then(|t| t.get(key)).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn refuse<T>(&self, table: &str, key: &str, text: String) -> Result<T> {
        Err(ConfigError(format!("{}: {text}", self.place.of(table, key))))
    }

    fn remove(&mut self, table: &str, key: &str) {
        if let Some(Value::Table(t)) = self.checked.get_mut(table) {
            t.remove(key);
        }
    }

    /// Rank 0 is a full fine-tune: start values of a LoRA would be ignored.
    fn init_without_rank(&self) -> Result<()> {
        let value = |key: &str| self.checked.get("lora").and_then(|t| t.get(key));
        match (value("init"), value("rank").and_then(Value::as_integer)) {
            (Some(init), Some(0)) => self.refuse(
                "lora",
                "init",
                format!("lora.init = {init} with lora.rank = 0: expected the rank of that LoRA. Set lora.rank, or remove lora.init."),
            ),
            _ => Ok(()),
        }
    }

    fn reference(&mut self) -> Result<()> {
        let name = self.entry.name;
        if !self.needs.reference {
            if self.given.contains_key("reference") {
                return self.refuse(
                    "reference",
                    "",
                    format!("[reference] does not go with method.name = \"{name}\", which compares with no reference. Remove the table."),
                );
            }
            self.checked.remove("reference");
            return Ok(());
        }
        if self.text("reference", "kind") == "updated" {
            return Ok(());
        }
        for key in OF_UPDATED {
            if self.given("reference", key).is_some() {
                return self.refuse(
                    "reference",
                    key,
                    format!("reference.{key} does not go with a frozen reference. Set reference.kind = \"updated\", or remove the key."),
                );
            }
            self.remove("reference", key);
        }
        Ok(())
    }

    fn timesteps(&mut self) -> Result<()> {
        let law = self.text("timesteps", "law").to_string();
        for (key, of) in OF_LAW {
            if of == law {
                continue;
            }
            if self.given("timesteps", key).is_some() {
                return self.refuse(
                    "timesteps",
                    key,
                    format!("timesteps.{key} does not go with timesteps.law = \"{law}\", only with \"{of}\". Remove one of them."),
                );
            }
            self.remove("timesteps", key);
        }
        if law == "list" {
            if self.given("timesteps", "values").is_none() {
                return self.refuse(
                    "timesteps",
                    "law",
                    "timesteps.law = \"list\" without timesteps.values: expected a list of timesteps. Add it.".into(),
                );
            }
            for key in ["min", "max"] {
                if self.given("timesteps", key).is_some() {
                    return self.refuse("timesteps", key, format!("timesteps.{key} does not apply to timesteps.law = \"list\", which has only values. Remove the key."));
                }
                self.remove("timesteps", key);
            }
        }
        if self.text("timesteps", "weighting") == "timestep_aware" && !self.needs.timestep_weighting {
            let name = self.entry.name;
            return self.refuse(
                "timesteps",
                "weighting",
                format!("timesteps.weighting = \"timestep_aware\" does not go with method.name = \"{name}\": lambda(t) multiplies a logit, and {name} has none of a reference. Set it to \"none\"."),
            );
        }
        Ok(())
    }

    /// The safeguard protects winners from the push on their losers.
    fn safeguard(&mut self) -> Result<()> {
        let needs = &self.needs;
        let on = self.text("safeguard", "name") == "sdpo";
        if !on && self.given("safeguard", "mu").is_some() {
            return self.refuse(
                "safeguard",
                "mu",
                "safeguard.mu does not go with safeguard.name = \"none\", only with \"sdpo\". Remove the key.".into(),
            );
        }
        if needs.items == ItemKind::Pairs && needs.loser {
            return Ok(());
        }
        if on {
            let (name, why) = match needs.items {
                ItemKind::Pairs => (self.entry.name, "no loser is trained".to_string()),
                items => (self.entry.name, format!("it trains on {}, which have no loser", items.noun())),
            };
            return self.refuse(
                "safeguard",
                "name",
                format!(
                    "safeguard.name = \"sdpo\" does not go with method.name = \"{name}\": {why}. Remove [safeguard]."
                ),
            );
        }
        self.checked.remove("safeguard");
        Ok(())
    }

    fn weights(&mut self) -> Result<()> {
        self.weights_as_published()?;
        let (items, source) = (self.needs.items, self.text("weights", "source").to_string());
        if items != ItemKind::Pairs && source != "none" {
            return self.refuse(
                "weights",
                "source",
                format!("weights.source = \"{source}\" does not go with method.name = \"{}\": it reads `weight` of pairs, and the method trains on {}. Remove the key.", self.entry.name, items.noun()),
            );
        }
        if source == "videodpo" {
            return Ok(());
        }
        for key in ["b", "c"] {
            if self.given("weights", key).is_some() {
                return self.refuse(
                    "weights",
                    key,
                    format!("weights.{key} does not go with weights.source = \"{source}\", only with \"videodpo\". Remove the key."),
                );
            }
            self.remove("weights", key);
        }
        Ok(())
    }

    /// Lists may be weighed by their method, pairs only by some methods, labelled images never.
    fn weights_as_published(&self) -> Result<()> {
        let needs = &self.needs;
        let weighs = self.text("weights", "source") != "none" || needs.weights || needs.items == ItemKind::Lists;
        let asked = self.given("weights", "as_published").and_then(Value::as_bool) == Some(true);
        match asked && !weighs {
            true => self.refuse(
                "weights",
                "as_published",
                format!("weights.as_published = true does not go with method.name = \"{}\" and weights.source = \"none\": there are no weights. Remove the key, or set weights.source.", self.entry.name),
            ),
            false => Ok(()),
        }
    }

    fn ties(&self) -> Result<()> {
        if self.text("data", "ties") != "keep" || self.needs.ties {
            return Ok(());
        }
        self.refuse(
            "data",
            "ties",
            format!("data.ties = \"keep\" does not go with method.name = \"{}\", which has no model of ties and would train them as wins. Take method.name = \"todo\", or data.ties = \"drop\".", self.entry.name),
        )
    }

    fn labels(&self) -> Result<()> {
        let text = self.text("data", "labels");
        let Some(labels) = Labels::parse(text) else {
            return self.refuse(
                "data",
                "labels",
                format!("data.labels = \"{text}\": expected \"given\", \"score:NAME\", or \"vote:A,B,..\" of at least two scorers."),
            );
        };
        if self.needs.items == ItemKind::Lists && labels != Labels::Given {
            return self.refuse(
                "data",
                "labels",
                format!("data.labels = \"{text}\" does not go with method.name = \"{}\": lists are ranked by all their scores. Remove the key.", self.entry.name),
            );
        }
        Ok(())
    }

    /// A method that reads scores needs a scorer's name; one that requires labels by it takes the name from
    /// data.labels.
    fn scorer(&mut self) -> Result<()> {
        let name = self.entry.name;
        let Some(scores) = self.needs.scores.clone() else { return Ok(()) };
        let given = scores.scorer.unwrap_or_default();
        if scores.ranks {
            let Some(Labels::Score(scorer)) = Labels::parse(self.text("data", "labels")) else {
                return self.refuse(
                    "data",
                    "labels",
                    format!("method.name = \"{name}\" trains on pairs that a scorer has ranked: expected data.labels = \"score:NAME\", found \"{}\".", self.text("data", "labels")),
                );
            };
            if !given.is_empty() && given != scorer {
                return self.refuse(
                    "method",
                    "scorer",
                    format!("method.scorer = \"{given}\" with data.labels = \"score:{scorer}\": expected the scorer that ranked the pairs. Remove method.scorer."),
                );
            }
            if let Some(Value::Table(method)) = self.checked.get_mut("method") {
                method.insert("scorer".into(), Value::String(scorer));
            }
            return Ok(());
        }
        if given.is_empty() {
            return self.refuse("method", "name", format!("method.name = \"{name}\" reads scores: method.scorer is missing. Name a scorer of the rows' `scores`."));
        }
        Ok(())
    }
}

/// Expected form instead of this list of prompts, or of this path.
fn wrong_prompts(prompts: &Value) -> Option<String> {
    match prompts {
        Value::Array(list) if list.is_empty() => Some("at least one prompt".into()),
        Value::Array(list) => {
            let blank = list.iter().position(|p| p.as_str().is_some_and(|p| p.trim().is_empty()))?;
            Some(format!("prompts that are not blank, number {} is", blank + 1))
        }
        Value::String(file) if file.trim().is_empty() => {
            Some("a list of prompts, or the path of a file of them".into())
        }
        _ => None,
    }
}
