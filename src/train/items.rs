//! A micro-batch of items.

use super::history::Statistics;
use super::partial::{Partial, Roots, Terms};
use super::pass::Pass;
use super::records::StepRecords;
use crate::data::batches::Batch;
use crate::objectives::{Compared, Evaluation, Labelled, evaluate};
use crate::progress::Halted;
use crate::world::Alone;
use anyhow::{Result, bail};

impl Pass<'_> {
    /// Errors, losses and their derivatives. `own`: this micro-batch is the whole step, and its statistics are not
    /// taken yet. `evaluated`: its losses, if they are known from the whole step.
    ///
    /// # Errors
    /// [`Halted`] for a loss or an error that is not finite; errors of the networks.
    pub fn items(
        &self,
        batch: &Batch,
        terms: &Terms,
        own: Option<&Statistics>,
        evaluated: Option<Evaluation>,
    ) -> Result<Partial<'_>> {
        let (criterion, number) = (self.criterion, terms.step.number);
        let measures = self.networks.moved.as_ref().is_some_and(|moved| moved.measures(number));
        let mut forward = self.trained(batch, measures)?;
        let terms = match own {
            Some(own) => criterion.terms(terms.step, own, std::slice::from_ref(&forward.errors), &Alone)?,
            None => *terms,
        };
        let mut evaluation = match evaluated {
            Some(evaluated) => evaluated,
            None => evaluate(&criterion.objective, &forward.errors, &terms.step, terms.weighting)?,
        };
        refuse_not_finite(batch, &evaluation)?;
        let lam = criterion.protect_winners(&forward, &mut evaluation);
        let roots: Roots = match forward.parts.take() {
            Some(parts) => Box::new(self.roots_by_image(parts, evaluation.d_theta.shallow_clone())),
            None => Box::new(std::iter::once(Ok(forward.root(&evaluation)))),
        };
        let mut values = criterion.values(&forward.errors, &terms.step);
        values.divergence = forward.divergence;
        Ok(Partial { roots, terms, records: StepRecords::of_items(evaluation, lam, forward.inversion), values })
    }
}

/// A loss or an error that is not finite ends the run before its weights change.
fn refuse_not_finite(batch: &Batch, evaluation: &Evaluation) -> Result<()> {
    let halt = |name: &str, id: &str, level: f64, value: f64| {
        Halted::before_update(format!(
            "{name} of {id} at timestep {level} is {value}; the weights were not changed. Look at the item, or start another run with a lower optim.lr or in float32."
        ))
    };
    let of_pair = |c: &Compared| {
        [("e_theta(w)", Some(c.theta_w)), ("e_theta(l)", c.theta_l), ("e_ref(w)", c.ref_w), ("e_ref(l)", c.ref_l)]
            .into_iter()
            .find_map(|(name, value)| {
                value.filter(|x| !x.is_finite()).map(|x| halt(name, &format!("pair {}", c.id), c.level, x))
            })
    };
    let of_label = |l: &Labelled| {
        [("e_theta", Some(l.theta)), ("e_ref", l.reference)].into_iter().find_map(|(name, value)| {
            value.filter(|x| !x.is_finite()).map(|x| halt(name, &format!("image {}", l.id), l.level, x))
        })
    };
    let found = evaluation.compared.iter().find_map(of_pair).or_else(|| evaluation.labelled.iter().find_map(of_label));
    let lost = evaluation.losses.iter().find(|l| !l.loss.is_finite()).map(|l| {
        let item = &batch.items[l.item];
        halt("loss", &format!("{} {}", item.preference.noun(), item.id), item.level, l.loss)
    });
    match found.or(lost) {
        Some(halted) => bail!(halted),
        None => Ok(()),
    }
}
