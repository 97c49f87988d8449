//! Methods for people: what `diffpref methods` prints and the index in docs/methods/ holds.

use super::{Entry, Inverter, Needs, Other};
use serde::Serialize;

/// A method as people read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MethodDescription {
    pub name: &'static str,
    pub title: &'static str,
    pub paper: &'static str,
    /// Kind of data that it trains on.
    pub data: String,
    /// Model that it compares with.
    pub reference: &'static str,
    /// Other inputs.
    pub needs: Vec<String>,
    pub cost: &'static str,
    pub when: &'static str,
    pub page: &'static str,
}

impl Entry {
    pub fn described(&self) -> MethodDescription {
        let needs = self.needs();
        MethodDescription {
            name: self.name,
            title: self.title,
            paper: self.paper,
            data: data(&needs),
            reference: reference(&needs),
            needs: others(&needs),
            cost: self.cost,
            when: self.when,
            page: self.page,
        }
    }
}

fn data(needs: &Needs) -> String {
    let winners = if needs.loser { "" } else { " (winners)" };
    match (needs.rollouts, needs.truncated) {
        (Some(_), _) => "prompts and scorers".into(),
        (None, Some(_)) => "pictures or prompts".into(),
        (None, None) if needs.scores.is_some() => format!("{} with scores", needs.items.noun()),
        (None, None) => format!("{}{winners}", needs.items.noun()),
    }
}

fn reference(needs: &Needs) -> &'static str {
    match needs.rollouts.map(|rollouts| (rollouts.other, rollouts.drift.is_some())) {
        Some((Other::Sampler, false)) => "policy as it sampled",
        Some((Other::Sampler, true)) => "policy as it sampled, and the start model",
        Some((Other::Start, _)) => "start model",
        None if needs.reference => "start model",
        None => "none",
    }
}

fn others(needs: &Needs) -> Vec<String> {
    let scores = needs.scores.as_ref();
    let statistic = needs.statistic.map(|statistic| format!("{} over whole steps", statistic.name));
    let inversion = needs.inversion.map(|inversion| match inversion.inverter {
        Inverter::Ddim => "latents by DDIM inversion",
        Inverter::ReNoise => "latents by ReNoise inversion",
    });
    let flags = [
        (scores.is_some_and(|scores| scores.ranks), "pairs ranked by a scorer"),
        (needs.swapped, "labels swapped"),
        (needs.ties, "ties, where they are kept"),
        (needs.drift, "drift from the reference"),
        (needs.whole_step.is_some(), "all items of a step"),
        (needs.prompts, "embeddings of prompts"),
    ];
    let flags = flags.into_iter().filter(|(on, _)| *on).map(|(_, words)| words);
    flags.chain(inversion).map(String::from).chain(statistic).collect()
}
