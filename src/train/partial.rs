//! Contribution of micro-batches to a step, and their merge.

use super::records::StepRecords;
use crate::objectives::{Step, Weighting};
use crate::world::{World, gathered};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Statistics read by the losses of a step, equal for every micro-batch.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub step: Step,
    pub weighting: Weighting,
}

/// Values of single items behind statistics of later steps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Values {
    pub statistic: Vec<f64>,
    pub weight: Vec<f64>,
    /// e_ref - e_start of preferred images, if the guard of the reference measures at the end of the step.
    pub divergence: Vec<f64>,
}

impl Values {
    fn extend(&mut self, other: Self) {
        self.statistic.extend(other.statistic);
        self.weight.extend(other.weight);
        self.divergence.extend(other.divergence);
    }
}

/// Scalars, sums of the networks' outputs times their derivatives. Their backward passes, one after the other, give the
/// gradients of a micro-batch. A graph is made when its scalar is asked for.
pub type Roots<'a> = Box<dyn Iterator<Item = Result<Tensor>> + 'a>;

/// One micro-batch of a step. Nothing has changed yet: gradients are still graphs.
pub struct Partial<'a> {
    pub roots: Roots<'a>,
    pub terms: Terms,
    pub records: StepRecords,
    pub values: Values,
}

impl Partial<'_> {
    /// A micro-batch with one graph.
    pub fn joint(root: Tensor, terms: Terms, records: StepRecords, values: Values) -> Self {
        Self { roots: Box::new(std::iter::once(Ok(root))), terms, records, values }
    }
}

/// The merged micro-batches of a step. Gradients are in the buffers of the trained tensors.
pub struct Merged {
    pub terms: Terms,
    pub records: StepRecords,
    pub values: Values,
}

impl Merged {
    /// Nothing merged yet.
    pub fn new(terms: Terms) -> Self {
        Self { terms, records: StepRecords::default(), values: Values::default() }
    }

    /// Adds the next micro-batch: its gradients are added in place, and its graph is freed. Called in the order of
    /// the micro-batches, since sums of floats depend on it.
    ///
    /// # Errors
    /// No trained tensor in the graph; errors of libtorch.
    pub fn merge(&mut self, partial: Partial) -> Result<()> {
        for root in partial.roots {
            backward(&root?)?;
        }
        self.terms = partial.terms;
        self.records.extend(partial.records);
        self.values.extend(partial.values);
        Ok(())
    }

    /// The step of all ranks, from those of each in the order of ranks. `grads`: the accumulated gradients.
    ///
    /// # Errors
    /// A rank that does not answer.
    pub fn across(self, world: &dyn World, grads: &mut [Tensor]) -> Result<Self> {
        world.sum(grads)?;
        let mut all = Self::new(self.terms);
        for (records, values) in gathered(world, (self.records, self.values))? {
            all.records.extend(records);
            all.values.extend(values);
        }
        Ok(all)
    }
}

/// Backward pass through the network from a sum of its outputs times their derivatives.
fn backward(root: &Tensor) -> Result<()> {
    if !root.requires_grad() {
        bail!("no trained tensor took part in the prediction: check lora.targets");
    }
    Ok(root.f_backward()?)
}
