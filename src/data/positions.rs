//! The item at a position of the run's endless order.
//!
//! Pairs and lists: position p is item `order(pass)[p mod n]` of pass `p / n`. Labelled images: a draw decides the
//! class of position p, and the next item of that class follows, in the order of the class.

use super::draws::Draws;
use super::item::{Item, Preference};
use anyhow::{Context, Result, bail};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Number of cached orders: a step may cross from one pass into the next, and is read twice.
const ORDERS: usize = 2;

/// The order of the items of a run.
pub(super) struct Positions {
    draws: Draws,
    law: Law,
}

enum Law {
    All(Class),
    Slots { share: f64, desirable: Class, undesirable: Class, counts: RefCell<Vec<u64>> },
}

/// Items that share one order.
struct Class {
    /// First id of its orders; `None` with one class only.
    name: Option<&'static str>,
    items: Vec<usize>,
    orders: RefCell<BTreeMap<u64, Vec<i64>>>,
}

impl Positions {
    /// `share`: probability that a position is a desirable image; `None`: one order over all items.
    ///
    /// # Errors
    /// A share for items that are not labelled images, a class without an item.
    pub fn new(items: &[Item], share: Option<f64>, draws: Draws) -> Result<Self> {
        let Some(share) = share else {
            return Ok(Self { draws, law: Law::All(Class::new(None, (0..items.len()).collect())) });
        };
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            match item.preference {
                Preference::Label { desirable: true } => good.push(index),
                Preference::Label { desirable: false } => bad.push(index),
                Preference::Pair { .. } | Preference::List { .. } => {
                    bail!("the item \"{}\" is no labelled image: it belongs to no class", item.id)
                }
            }
        }
        if good.is_empty() || bad.is_empty() {
            bail!("{} desirable and {} undesirable images: expected at least one of each", good.len(), bad.len());
        }
        let (desirable, undesirable) = (Class::new(Some("desirable"), good), Class::new(Some("undesirable"), bad));
        let counts = RefCell::new(vec![0]);
        Ok(Self { draws, law: Law::Slots { share, desirable, undesirable, counts } })
    }

    /// Index of the item at a position, and its pass: the number of completed passes of its class.
    pub fn item(&self, position: u64) -> Result<(usize, u64)> {
        match &self.law {
            Law::All(class) => class.item(position, &self.draws),
            Law::Slots { share, desirable, undesirable, counts } => {
                let before = self.desirable_before(position, *share, counts)?;
                match self.draws.slot(position, *share) {
                    true => desirable.item(before, &self.draws),
                    false => undesirable.item(position - before, &self.draws),
                }
            }
        }
    }

    /// First position after which every item repeats; `None` if that depends on the draws.
    pub fn all_seen_after(&self) -> Option<u64> {
        match &self.law {
            Law::All(class) => Some(class.items.len() as u64),
            Law::Slots { .. } => None,
        }
    }

    /// Desirable positions before this one. `counts[p]` is that of position p, as far as computed.
    fn desirable_before(&self, position: u64, share: f64, counts: &RefCell<Vec<u64>>) -> Result<u64> {
        let mut counts = counts.borrow_mut();
        while let Some(last) = counts.last().copied().filter(|_| counts.len() as u64 <= position) {
            let next = last + u64::from(self.draws.slot(counts.len() as u64 - 1, share));
            counts.push(next);
        }
        counts.get(usize::try_from(position)?).copied().context("a position that was not counted")
    }
}

impl Class {
    fn new(name: Option<&'static str>, items: Vec<usize>) -> Self {
        Self { name, items, orders: RefCell::default() }
    }

    /// The item of the class after `turns` turns, and its pass.
    fn item(&self, turns: u64, draws: &Draws) -> Result<(usize, u64)> {
        let n = self.items.len() as u64;
        let (pass, place) = (turns / n, (turns % n) as usize);
        let mut orders = self.orders.borrow_mut();
        if !orders.contains_key(&pass) {
            let farthest = orders.keys().copied().max_by_key(|known| known.abs_diff(pass));
            if let Some(farthest) = farthest.filter(|_| orders.len() >= ORDERS) {
                orders.remove(&farthest);
            }
            let order = match self.name {
                None => draws.order(pass, self.items.len())?,
                Some(class) => draws.class_order(class, pass, self.items.len())?,
            };
            orders.insert(pass, order);
        }
        let chosen = orders.get(&pass).and_then(|order| order.get(place)).context("an order without this place")?;
        let index = self.items.get(usize::try_from(*chosen)?).context("an order beyond its items")?;
        Ok((*index, pass))
    }
}
