//! Combinations of tables and keys: those without meaning are refused with the reason.

use super::parsed::Parsed;
use super::place::Place;
use super::source::Source;
use super::tables::reference::{Ledger, ReferenceKind, no_ledger};
use super::tables::rollout::Prompts;
use super::tables::safeguard::Safeguard;
use super::tables::timesteps::{Law, TimestepWeighting};
use super::tables::train::PairSplit;
use super::tables::validate::{HeldOut, HeldOutItems};
use super::tables::weights;
use crate::data::items::{ItemKind, Labels, Ties};
use crate::keys::Result;
use crate::objectives::Needs;
use toml::Table;

/// Keys of [timesteps] for one law only.
const OF_LAW: [(&str, Law); 3] = [("gamma", Law::Discounted), ("n_bins", Law::Discounted), ("values", Law::List)];
/// Keys of [reference] for a moving reference only.
const OF_UPDATED: [&str; 3] = ["every", "divergence_limit", "divergence_ema"];

/// A configuration while its combinations are checked.
pub(super) struct Combination<'a> {
    pub place: &'a Place<'a>,
    /// As the user wrote it: which keys are given.
    pub given: &'a Table,
    pub parsed: &'a mut Parsed,
}

impl Combination<'_> {
    /// Checks all of them, and takes out tables that the method does not read.
    pub fn check(&mut self) -> Result<()> {
        self.init_without_rank()?;
        self.reference()?;
        self.pair_split()?;
        if let Some(starts) = &self.parsed.starts {
            self.prompts("rollout", &starts.prompts)?;
        }
        if self.parsed.source == Source::Rollouts {
            self.held_out()?;
            return self.rollouts();
        }
        if self.parsed.method.needs.truncated.is_some() {
            self.own_average()?;
        }
        if self.parsed.source == Source::Items {
            self.timesteps()?;
            self.safeguard()?;
            self.weights()?;
            self.stop_at()?;
        }
        if self.parsed.source.has_items() {
            self.ties()?;
            self.labels()?;
            self.scorer()?;
        }
        Ok(())
    }

    fn needs(&self) -> &Needs {
        &self.parsed.method.needs
    }

    pub(super) fn name(&self) -> &'static str {
        self.parsed.method.name()
    }

    pub(super) fn refuse<T>(&self, table: &str, key: &str, text: String) -> Result<T> {
        self.place.refuse(table, key, text)
    }

    fn is_given(&self, table: &str, key: &str) -> bool {
        self.given.get(table).is_some_and(|t| t.get(key).is_some())
    }

    /// Prompts in the configuration itself; a file is read later.
    fn prompts(&self, table: &str, prompts: &Prompts) -> Result<()> {
        let expected = match prompts {
            Prompts::List(list) if list.is_empty() => "at least one prompt".into(),
            Prompts::List(list) => match list.iter().position(|prompt| prompt.trim().is_empty()) {
                Some(blank) => format!("prompts that are not blank, number {} is", blank + 1),
                None => return Ok(()),
            },
            Prompts::File(file) if file.to_string_lossy().trim().is_empty() => {
                "a list of prompts, or the path of a file of them".into()
            }
            Prompts::File(_) => return Ok(()),
        };
        let given = self.given.get(table).and_then(|t| t.get("prompts")).map_or(String::new(), ToString::to_string);
        self.refuse(table, "prompts", format!("{table}.prompts = {given}: expected {expected}."))
    }

    /// A method that samples is validated on prompts, or not at all.
    fn held_out(&self) -> Result<()> {
        match &self.parsed.validate {
            Some(validate) => match &validate.held_out {
                HeldOut::Prompts { prompts } => self.prompts("validate", prompts),
                HeldOut::Items(_) => Ok(()),
            },
            None if self.given.contains_key("validate") => self.refuse(
                "validate",
                "",
                format!("[validate] of method.name = \"{}\" has no prompts: name in validate.prompts what is sampled and not trained on, or remove the table.", self.name()),
            ),
            None => Ok(()),
        }
    }

    /// A run ends by the gradient factor of held-out logits only where these exist and are measured.
    fn stop_at(&self) -> Result<()> {
        let Some(validate) = &self.parsed.validate else { return Ok(()) };
        let HeldOut::Items(HeldOutItems { stop_at_gradient_factor: Some(_), .. }) = &validate.held_out else {
            return Ok(());
        };
        let reason = match self.needs() {
            _ if validate.often.every == 0 => "does not go with validate.every = 0: nothing is validated".into(),
            Needs { items: ItemKind::Lists, .. } => return Ok(()),
            Needs { items: ItemKind::Pairs, reference: true, loser: true, .. } => return Ok(()),
            _ => format!("does not go with method.name = \"{}\": its loss has no logit of a pair", self.name()),
        };
        let text = format!("validate.stop_at_gradient_factor {reason}. Remove the key.");
        self.refuse("validate", "stop_at_gradient_factor", text)
    }

    /// The average that denoises is one of weights that the method keeps itself.
    fn own_average(&self) -> Result<()> {
        let decay = self.parsed.ema.decay;
        match decay > 0.0 {
            true => self.refuse(
                "ema",
                "decay",
                format!("ema.decay = {decay} does not go with method.name = \"{}\", which averages the weights itself: method.ema_decay. Remove the key.", self.name()),
            ),
            false => Ok(()),
        }
    }

    /// Rank 0 is a full fine-tune: start values of a LoRA would be ignored.
    fn init_without_rank(&self) -> Result<()> {
        match (&self.parsed.lora.init, self.parsed.lora.rank) {
            (Some(init), 0) => self.refuse(
                "lora",
                "init",
                format!("lora.init = {init:?} with lora.rank = 0: expected the rank of that LoRA. Set lora.rank, or remove lora.init."),
            ),
            _ => Ok(()),
        }
    }

    fn reference(&mut self) -> Result<()> {
        if !self.needs().reference {
            if self.given.contains_key("reference") {
                return self.refuse(
                    "reference",
                    "",
                    format!("[reference] does not go with method.name = \"{}\", which compares with no reference. Remove the table.", self.name()),
                );
            }
            self.parsed.reference = None;
        }
        self.ledger()?;
        if self.parsed.reference.as_ref().is_none_or(|reference| reference.kind == ReferenceKind::Updated) {
            return Ok(());
        }
        match OF_UPDATED.into_iter().find(|key| self.is_given("reference", key)) {
            Some(key) => self.refuse(
                "reference",
                key,
                format!("reference.{key} does not go with a frozen reference. Set reference.kind = \"updated\", or remove the key."),
            ),
            None => Ok(()),
        }
    }

    /// Stored errors are those of a frozen reference at draws that do not depend on the policy.
    fn ledger(&self) -> Result<()> {
        let Some(reference) = &self.parsed.reference else { return Ok(()) };
        let on = reference.ledger.given() == Some(Ledger::On);
        match no_ledger(self.needs(), reference.kind).filter(|_| on) {
            Some(why) => self.refuse(
                "reference",
                "ledger",
                format!(
                    "reference.ledger = \"on\" does not go with method.name = \"{}\": {why}. Remove the key.",
                    self.name()
                ),
            ),
            None => Ok(()),
        }
    }

    fn timesteps(&self) -> Result<()> {
        let Some(timesteps) = &self.parsed.timesteps else { return Ok(()) };
        let law = timesteps.law;
        if let Some((key, of)) = OF_LAW.iter().find(|(key, of)| *of != law && self.is_given("timesteps", key)) {
            return self.refuse(
                "timesteps",
                key,
                format!("timesteps.{key} does not go with timesteps.law = \"{law}\", only with \"{of}\". Remove one of them."),
            );
        }
        if law == Law::List {
            if timesteps.values.is_none() {
                return self.refuse(
                    "timesteps",
                    "law",
                    "timesteps.law = \"list\" without timesteps.values: expected a list of timesteps. Add it.".into(),
                );
            }
            if let Some(key) = ["min", "max"].into_iter().find(|key| self.is_given("timesteps", key)) {
                return self.refuse("timesteps", key, format!("timesteps.{key} does not apply to timesteps.law = \"list\", which has only values. Remove the key."));
            }
        }
        if timesteps.weighting == TimestepWeighting::TimestepAware && !self.needs().timestep_weighting {
            let name = self.name();
            return self.refuse(
                "timesteps",
                "weighting",
                format!("timesteps.weighting = \"timestep_aware\" does not go with method.name = \"{name}\": lambda(t) multiplies a logit, and {name} has none of a reference. Set it to \"none\"."),
            );
        }
        Ok(())
    }

    /// Images of an item can be parted where the objective reads errors of several.
    fn pair_split(&self) -> Result<()> {
        if self.parsed.train.pair_split.given() != Some(PairSplit::On) {
            return Ok(());
        }
        let needs = self.needs();
        let why = match (needs.items, self.parsed.source) {
            _ if needs.drift => "its drift from the start model is differentiated together with the errors",
            (_, Source::Rollouts) => "it trains on steps of trajectories",
            _ if needs.truncated.is_some() => "it trains on one predicted picture per item",
            (ItemKind::Labels, _) => "it trains on one image per item",
            (ItemKind::Pairs, _) if !needs.loser => "it trains on winners alone",
            (ItemKind::Pairs | ItemKind::Lists, _) => return Ok(()),
        };
        self.refuse(
            "train",
            "pair_split",
            format!(
                "train.pair_split = \"on\" does not go with method.name = \"{}\": {why}. Remove the key.",
                self.name()
            ),
        )
    }

    /// The safeguard protects winners from the push on their losers.
    fn safeguard(&mut self) -> Result<()> {
        let on = self.parsed.safeguard.as_ref().is_some_and(|safeguard| safeguard.name == Safeguard::Sdpo);
        if !on && self.is_given("safeguard", "mu") {
            return self.refuse(
                "safeguard",
                "mu",
                "safeguard.mu does not go with safeguard.name = \"none\", only with \"sdpo\". Remove the key.".into(),
            );
        }
        let (items, loser) = (self.needs().items, self.needs().loser);
        if items == ItemKind::Pairs && loser {
            return Ok(());
        }
        if on {
            let why = match items {
                ItemKind::Pairs => "no loser is trained".to_string(),
                ItemKind::Lists | ItemKind::Labels => format!("it trains on {}, which have no loser", items.noun()),
            };
            return self.refuse(
                "safeguard",
                "name",
                format!(
                    "safeguard.name = \"sdpo\" does not go with method.name = \"{}\": {why}. Remove [safeguard].",
                    self.name()
                ),
            );
        }
        self.parsed.safeguard = None;
        Ok(())
    }

    fn weights(&self) -> Result<()> {
        let Some(weights) = &self.parsed.weights else { return Ok(()) };
        self.weights_as_published(weights)?;
        let (items, source) = (self.needs().items, weights.source);
        if items != ItemKind::Pairs && source != weights::Source::None {
            return self.refuse(
                "weights",
                "source",
                format!("weights.source = \"{source}\" does not go with method.name = \"{}\": it reads `weight` of pairs, and the method trains on {}. Remove the key.", self.name(), items.noun()),
            );
        }
        match ["b", "c"].into_iter().find(|key| self.is_given("weights", key)) {
            Some(key) if source != weights::Source::VideoDpo => self.refuse(
                "weights",
                key,
                format!("weights.{key} does not go with weights.source = \"{source}\", only with \"videodpo\". Remove the key."),
            ),
            _ => Ok(()),
        }
    }

    /// Lists may be weighed by their method, pairs only by some methods, labelled images never.
    fn weights_as_published(&self, weights: &weights::Parsed) -> Result<()> {
        let needs = self.needs();
        let weighs = weights.source != weights::Source::None || needs.weights || needs.items == ItemKind::Lists;
        match weights.as_published && !weighs {
            true => self.refuse(
                "weights",
                "as_published",
                format!("weights.as_published = true does not go with method.name = \"{}\" and weights.source = \"none\": there are no weights. Remove the key, or set weights.source.", self.name()),
            ),
            false => Ok(()),
        }
    }

    fn ties(&self) -> Result<()> {
        let kept = self.parsed.items.as_ref().is_some_and(|items| items.ties == Ties::Keep);
        if !kept || self.needs().ties {
            return Ok(());
        }
        self.refuse(
            "data",
            "ties",
            format!("data.ties = \"keep\" does not go with method.name = \"{}\", which has no model of ties and would train them as wins. Take method.name = \"todo\", or data.ties = \"drop\".", self.name()),
        )
    }

    fn given_labels(&self) -> Labels {
        self.parsed.items.as_ref().map(|items| items.labels.clone()).unwrap_or_default()
    }

    fn labels(&self) -> Result<()> {
        let labels = self.given_labels();
        if self.needs().items == ItemKind::Lists && labels != Labels::Given {
            return self.refuse(
                "data",
                "labels",
                format!("data.labels = \"{labels}\" does not go with method.name = \"{}\": lists are ranked by all their scores. Remove the key.", self.name()),
            );
        }
        Ok(())
    }

    /// A method that reads scores needs a scorer's name; one that requires labels by it takes the name from
    /// data.labels.
    fn scorer(&mut self) -> Result<()> {
        let name = self.name();
        let Some(scores) = &self.needs().scores else { return Ok(()) };
        let (given, labels) = (scores.scorer.clone(), self.given_labels());
        if !scores.ranks {
            return match given {
                Some(_) => Ok(()),
                None => self.refuse("method", "name", format!("method.name = \"{name}\" reads scores: method.scorer is missing. Name a scorer of the rows' `scores`.")),
            };
        }
        let Labels::Score(scorer) = labels else {
            return self.refuse(
                "data",
                "labels",
                format!("method.name = \"{name}\" trains on pairs that a scorer has ranked: expected data.labels = \"score:NAME\", found \"{labels}\"."),
            );
        };
        if let Some(given) = given.filter(|given| *given != scorer) {
            return self.refuse(
                "method",
                "scorer",
                format!("method.scorer = \"{given}\" with data.labels = \"score:{scorer}\": expected the scorer that ranked the pairs. Remove method.scorer."),
            );
        }
        match self.parsed.method.with_scorer(&scorer) {
            Ok(method) => self.parsed.method = method,
            Err(e) => return self.refuse("method", "scorer", e.to_string()),
        }
        Ok(())
    }
}
