//! Evaluation of an objective on a micro-batch: its loss, the derivative with respect to every error, and the values
//! behind the metrics.

use super::{Drift, Errors, Labels, List, Objective, Pairs, Step};
use crate::data::items::Preference;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

/// Selection and normalisation of loss weights (docs/methods.md, section 0.7).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weighting {
    /// No weights, for losses reported by validation.
    Off,
    /// The items' own weights unchanged; those of the method divided by this mean.
    Divided(f64),
}

/// The loss of one item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ItemLoss {
    /// Index among the items of the micro-batch.
    pub item: usize,
    /// Weighted: the differentiated value.
    pub loss: f64,
    pub unweighted: f64,
}

/// Two images, the first of which is preferred. Errors are in the space of margins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub id: String,
    pub level: f64,
    pub theta_w: f64,
    pub theta_l: Option<f64>,
    pub ref_w: Option<f64>,
    pub ref_l: Option<f64>,
    /// The logit; `None` for a method without a reference.
    pub u: Option<f64>,
    /// True for a tie.
    pub tie: bool,
}

impl Compared {
    /// h_w = e_ref(w) - e_theta(w)
    pub fn h_w(&self) -> Option<f64> {
        Some(self.ref_w? - self.theta_w)
    }

    /// h_l = e_ref(l) - e_theta(l)
    pub fn h_l(&self) -> Option<f64> {
        Some(self.ref_l? - self.theta_l?)
    }

    /// h = h_w - h_l
    pub fn h(&self) -> Option<f64> {
        Some(self.h_w()? - self.h_l()?)
    }
}

/// One labelled image. Errors are in the space of margins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    pub id: String,
    pub level: f64,
    pub desirable: bool,
    pub theta: f64,
    pub reference: Option<f64>,
}

/// Result of an objective on a micro-batch.
#[derive(Debug)]
pub struct Evaluation {
    /// One per item; absent for an item that the method leaves out.
    pub losses: Vec<ItemLoss>,
    /// d(sum of losses)/d e_theta, `[R]`, in the network's own parameterisation.
    pub d_theta: Tensor,
    /// d(sum of losses)/d drift.
    pub d_drift: Option<Drift>,
    pub compared: Vec<Compared>,
    pub labelled: Vec<Labelled>,
    /// Weights and factors inside logits, one per term.
    pub effective_weights: Vec<f64>,
}

/// The sum of losses and its parts, before differentiation.
struct Total {
    sum: Tensor,
    losses: Vec<ItemLoss>,
    effective_weights: Vec<f64>,
}

/// Evaluates `objective` and differentiates the sum of its losses.
///
/// # Errors
/// When libtorch refuses the backward pass.
pub fn evaluate(
    objective: &Objective,
    errors: &Errors,
    step: &Step,
    weighting: Weighting,
) -> Result<Evaluation, TchError> {
    let leaves = errors.as_leaves();
    let total = total(objective, &leaves, step, weighting);
    let mut inputs = vec![leaves.theta.shallow_clone()];
    if let Some(drift) = &leaves.drift {
        inputs.extend([drift.square.shallow_clone(), drift.pull.shallow_clone()]);
    }
    let grads = match total.sum.requires_grad() {
        true => Tensor::f_run_backward(&[&total.sum], &inputs, false, false)?,
        false => Vec::new(), // every item was left out
    };
    let grad = |i: usize| grads.get(i).filter(|g| g.defined()).map_or_else(|| inputs[i].zeros_like(), Tensor::detach);
    let d_drift = leaves.drift.as_ref().map(|_| Drift { square: grad(1), pull: grad(2) });
    let (compared, labelled) = records(objective, errors, step);
    Ok(Evaluation {
        d_theta: grad(0).set_requires_grad(false),
        d_drift,
        losses: total.losses,
        effective_weights: total.effective_weights,
        compared,
        labelled,
    })
}

/// Evaluates micro-batches as one batch, for a loss that reads a whole step: one result per micro-batch.
///
/// # Errors
/// When libtorch refuses the backward pass.
pub fn evaluate_together(
    objective: &Objective,
    batches: &[Errors],
    step: &Step,
    weighting: Weighting,
) -> Result<Vec<Evaluation>, TchError> {
    let Some(joined) = Errors::joined(batches) else { return Ok(Vec::new()) };
    let mut rest = evaluate(objective, &joined, step, weighting)?;
    Ok(batches.iter().map(|batch| rest.take(batch)).collect())
}

impl Evaluation {
    /// Removes the part of the first micro-batch of those left.
    fn take(&mut self, batch: &Errors) -> Self {
        let (items, rows) = (batch.items.len(), batch.theta.size()[0]);
        let first = |values: &Tensor, n: i64| values.narrow(0, 0, n);
        let mut part = Self {
            losses: self.losses.iter().copied().filter(|loss| loss.item < items).collect(),
            d_theta: first(&self.d_theta, rows),
            d_drift: self.d_drift.as_ref().map(|d| d.map(|t| first(t, items as i64))),
            compared: Vec::new(),
            labelled: Vec::new(),
            effective_weights: Vec::new(),
        };
        self.losses.retain(|loss| loss.item >= items);
        self.losses.iter_mut().for_each(|loss| loss.item -= items);
        let left = |values: &Tensor, n: i64| values.narrow(0, n, values.size()[0] - n);
        self.d_theta = left(&self.d_theta, rows);
        self.d_drift = self.d_drift.as_ref().map(|d| d.map(|t| left(t, items as i64)));
        // One record per item, or none.
        part.compared = self.compared.drain(..items.min(self.compared.len())).collect();
        part.labelled = self.labelled.drain(..items.min(self.labelled.len())).collect();
        part.effective_weights = self.effective_weights.drain(..items.min(self.effective_weights.len())).collect();
        part
    }
}

fn total(objective: &Objective, errors: &Errors, step: &Step, weighting: Weighting) -> Total {
    match objective {
        Objective::Pairs(method) => {
            let pairs = Pairs::of(errors, step.beta);
            let losses = method.losses(&pairs, step);
            let own = method.weights(&pairs, step);
            let has_weights = own.is_some() || errors.items.iter().any(|item| item.weight.is_some());
            let own = own.map_or_else(|| vec![1.0; errors.items.len()], |w| numbers(&w));
            let weights: Vec<f64> = errors
                .items
                .iter()
                .zip(own)
                .map(|(item, own)| match weighting {
                    Weighting::Off => 1.0,
                    Weighting::Divided(mean) => item.weight.unwrap_or(1.0) * own / mean,
                })
                .collect();
            let effective_weights = match method.multiplier(&pairs) {
                Some(factors) => weights.iter().zip(numbers(&factors)).map(|(w, f)| w * f).collect(),
                None if has_weights => weights.clone(),
                None => Vec::new(),
            };
            Total { effective_weights, ..one_an_item(&losses, &weights) }
        }
        Objective::Labels(method) => {
            let labels = Labels::of(errors, step.beta);
            let losses = method.losses(&labels, step);
            let mut total = one_an_item(&losses, &vec![1.0; errors.items.len()]);
            if let Some(counted) = method.counted(&labels) {
                total.losses.retain(|loss| counted[loss.item]);
            }
            total
        }
        Objective::Lists(method) => {
            let lists = List::all_of(errors, step.beta);
            let mut total =
                Total { sum: errors.theta.sum(errors.theta.kind()) * 0.0, losses: vec![], effective_weights: vec![] };
            for (item, list) in lists.iter().enumerate() {
                let Some(terms) = method.terms(list, step) else { continue };
                let weights = match (&terms.weights, weighting) {
                    (Some(weights), Weighting::Divided(mean)) => {
                        let weights = weights.detach() / mean;
                        total.effective_weights.extend(numbers(&weights));
                        weights
                    }
                    (None, Weighting::Divided(_)) | (_, Weighting::Off) => terms.losses.detach().ones_like(),
                };
                let weighted = (&terms.losses * &weights).sum(terms.losses.kind());
                let unweighted = terms.losses.sum(terms.losses.kind()).double_value(&[]);
                total.losses.push(ItemLoss { item, loss: weighted.double_value(&[]), unweighted });
                total.sum += weighted;
            }
            total
        }
        Objective::Steps(_) | Objective::Residuals(_) => not_of_errors(),
    }
}

/// These methods have no errors: a call is a defect of the trainer, not of the user.
fn not_of_errors() -> ! {
    panic!("a method that samples while it trains has no loss of errors")
}

fn one_an_item(losses: &Tensor, weights: &[f64]) -> Total {
    let factor = Tensor::from_slice(weights).to_device(losses.device()).to_kind(losses.kind());
    let weighted = losses * factor;
    let items = numbers(&weighted).into_iter().zip(numbers(losses)).enumerate();
    Total {
        sum: weighted.sum(weighted.kind()),
        losses: items.map(|(item, (loss, unweighted))| ItemLoss { item, loss, unweighted }).collect(),
        effective_weights: Vec::new(),
    }
}

/// The values whose mean is the statistic of the step.
pub fn statistic_values(objective: &Objective, errors: &Errors, step: &Step) -> Vec<f64> {
    match objective {
        Objective::Pairs(method) => numbers(&method.statistic(&Pairs::of(errors, step.beta), step)),
        Objective::Labels(method) => numbers(&method.statistic(&Labels::of(errors, step.beta), step)),
        Objective::Lists(_) | Objective::Steps(_) | Objective::Residuals(_) => Vec::new(),
    }
}

/// The method's own loss weights, one per term, before normalisation.
pub fn weight_values(objective: &Objective, errors: &Errors, step: &Step) -> Vec<f64> {
    match objective {
        Objective::Pairs(method) => {
            method.weights(&Pairs::of(errors, step.beta), step).map(|w| numbers(&w)).unwrap_or_default()
        }
        Objective::Lists(method) => {
            let terms = List::all_of(errors, step.beta).into_iter().filter_map(|list| method.terms(&list, step));
            terms.filter_map(|terms| terms.weights.as_ref().map(numbers)).flatten().collect()
        }
        Objective::Labels(_) | Objective::Steps(_) | Objective::Residuals(_) => Vec::new(),
    }
}

fn records(objective: &Objective, errors: &Errors, step: &Step) -> (Vec<Compared>, Vec<Labelled>) {
    let theta = numbers(&errors.epsilon_theta());
    let reference = errors.epsilon_reference().map(|r| numbers(&r));
    let of_reference = |row: i64| reference.as_ref().map(|r| r[row as usize]);
    match objective {
        Objective::Pairs(method) => {
            let pairs = Pairs::of(errors, step.beta);
            let u = pairs.compared().then(|| numbers(&method.logits(&pairs, step)));
            let record = |(i, item): (usize, &crate::data::batches::BatchItem)| {
                let (w, l) = (item.rows[0], item.rows.get(1).copied());
                Compared {
                    id: item.id.clone(),
                    level: item.level,
                    theta_w: theta[w as usize],
                    theta_l: l.map(|l| theta[l as usize]),
                    ref_w: of_reference(w),
                    ref_l: l.and_then(of_reference),
                    u: u.as_ref().map(|u| u[i]),
                    tie: item.preference == Preference::Pair { tie: true },
                }
            };
            (errors.items.iter().enumerate().map(record).collect(), Vec::new())
        }
        Objective::Lists(_) => {
            let lists = List::all_of(errors, step.beta);
            let compared = errors.items.iter().zip(&lists).flat_map(|(item, list)| {
                let s = numbers(&list.s);
                let record = |(w, l): (usize, usize)| Compared {
                    id: item.id.clone(),
                    level: item.level,
                    theta_w: theta[item.rows[w] as usize],
                    theta_l: Some(theta[item.rows[l] as usize]),
                    ref_w: of_reference(item.rows[w]),
                    ref_l: of_reference(item.rows[l]),
                    u: Some(s[w] - s[l]),
                    tie: false,
                };
                list.ranked_pairs().into_iter().map(record).collect::<Vec<_>>()
            });
            (compared.collect(), Vec::new())
        }
        Objective::Labels(_) => {
            let record = |item: &crate::data::batches::BatchItem| Labelled {
                id: item.id.clone(),
                level: item.level,
                desirable: item.preference == Preference::Label { desirable: true },
                theta: theta[item.rows[0] as usize],
                reference: of_reference(item.rows[0]),
            };
            (Vec::new(), errors.items.iter().map(record).collect())
        }
        Objective::Steps(_) | Objective::Residuals(_) => not_of_errors(),
    }
}

/// A 1-d tensor as numbers.
pub fn numbers(t: &Tensor) -> Vec<f64> {
    let flat = t.detach().to_device(Device::Cpu).to_kind(Kind::Double).contiguous().view([-1]);
    flat.iter::<f64>().map(Iterator::collect).unwrap_or_default()
}
