//! A frozen reference whose errors are kept in a ledger.
//!
//! The bytes of an error depend on how many rows pass the network together. A record is therefore one forward pass of
//! its own: the images of one training item, or a held-out item with all its draws. What else is in a micro-batch does
//! not matter.

use super::super::noised::{Noised, Space};
use super::super::policy::Policy;
use super::measured::{Measured, Reference};
use crate::data::batches::Batch;
use crate::ledger::{ErrorLedger, Part, of_rows};
use crate::objectives::numbers;
use anyhow::{Result, bail};
use pipelines::families::Denoiser;
use pipelines::models::AdapterSet;
use std::cell::RefCell;
use std::rc::Rc;
use tch::Tensor;

/// The ledger of a run, which the trainer writes to disk.
pub type SharedLedger = Rc<RefCell<ErrorLedger>>;

/// A reference behind its ledger.
pub struct WithLedger {
    /// `None`: the ledger has all errors that the run needs, and no network is loaded.
    pub network: Option<Box<dyn Reference>>,
    pub ledger: SharedLedger,
    /// Draws of the training items.
    pub part: Part,
}

/// Rows of the forward passes of a batch: an item's for training, all together for a held-out item.
fn passes(part: Part, batch: &Batch) -> Vec<Vec<i64>> {
    match part {
        Part::Seed(_) => batch.items.iter().map(|item| item.rows.clone()).collect(),
        Part::HeldOut => vec![(0..batch.levels.rows()).collect()],
    }
}

/// Forward passes of a batch whose errors a ledger lacks.
///
/// # Errors
/// Errors of libtorch.
pub fn missing(ledger: &SharedLedger, part: Part, batch: &Batch) -> Result<usize> {
    let ledger = ledger.borrow();
    let mut missing = 0;
    for rows in passes(part, batch) {
        missing += usize::from(!ledger.holds(&of_rows(batch, &rows)?));
    }
    Ok(missing)
}

impl WithLedger {
    /// Errors `[R]` of a batch: stored ones, and those of `compute` for rows that are not stored yet.
    fn of_passes(&self, part: Part, policy: &Policy, batch: &Batch, noised: &Noised) -> Result<Tensor> {
        let total = batch.levels.rows();
        let mut errors = vec![0f64; total as usize];
        for rows in passes(part, batch) {
            let key = of_rows(batch, &rows)?;
            let stored = self.ledger.borrow_mut().get(&key, rows.len());
            let found = match (stored, &self.network) {
                (Some(found), _) => found,
                (None, Some(network)) => {
                    let is_whole = rows.iter().copied().eq(0..total);
                    let selected = (!is_whole).then(|| noised.select(&rows));
                    let measured = network.errors(policy, batch, selected.as_ref().unwrap_or(noised), false)?;
                    let found = numbers(&measured.errors);
                    self.ledger.borrow_mut().put(part, key, found.clone());
                    found
                }
                (None, None) => {
                    let ids: Vec<&str> = batch.items.iter().map(|item| item.id.as_str()).collect();
                    bail!(
                        "the ledger {} lacks the reference's errors of {}, and the reference is not loaded: images or prompts have changed since it was filled. Continue with --resume --ledger-first.",
                        self.ledger.borrow().path().display(),
                        ids.join(", ")
                    )
                }
            };
            for (row, error) in rows.iter().zip(found) {
                errors[*row as usize] = error;
            }
        }
        Ok(Tensor::from_slice(&errors).to_kind(noised.target.kind()).to_device(noised.target.device()))
    }

    fn measured(
        &self,
        part: Part,
        policy: &Policy,
        batch: &Batch,
        noised: &Noised,
        residuals: bool,
    ) -> Result<Measured> {
        // Inverted latents and selected rows are not those of the batch, whose hash is the key.
        let is_of_batch = noised.space == Space::Native && noised.levels.rows() == batch.levels.rows();
        if !residuals && is_of_batch {
            let errors = self.of_passes(part, policy, batch, noised)?;
            return Ok(Measured { errors, residuals: None });
        }
        match &self.network {
            Some(network) => network.errors(policy, batch, noised, residuals),
            None => {
                bail!("the reference is not loaded, and the ledger has no predictions. Run without --ledger-first.")
            }
        }
    }
}

impl Reference for WithLedger {
    fn errors(&self, policy: &Policy, batch: &Batch, noised: &Noised, residuals: bool) -> Result<Measured> {
        self.measured(self.part, policy, batch, noised, residuals)
    }

    fn held_out_errors(&self, policy: &Policy, batch: &Batch, noised: &Noised, residuals: bool) -> Result<Measured> {
        self.measured(Part::HeldOut, policy, batch, noised, residuals)
    }

    fn network<'a>(&'a self, policy: &'a Policy) -> Option<(&'a Denoiser, Option<AdapterSet>)> {
        self.network.as_ref()?.network(policy)
    }

    fn into_network(self: Box<Self>) -> Option<Denoiser> {
        self.network?.into_network()
    }

    fn own_tensors(&self) -> Vec<(String, Tensor)> {
        self.network.as_ref().map(|network| network.own_tensors()).unwrap_or_default()
    }
}
