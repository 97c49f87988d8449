//! Steps of a scorer's training: losses of micro-batches, gradients, one decision, the update.

use super::corpus::{Corpus, Judged};
use super::settings::Settings;
use super::towers::{Features, Towers};
use super::work::{Captioned, Work};
use crate::data::draws;
use crate::heads::{
    Batch, Group, Head, HpsLabels, Input, MarginSource, Method, Objective, Parameters, Ranking, margin_of_votes,
    more_shares, prompt_weights,
};
use crate::optimizer::{Optimizer, learning_rate};
use crate::progress::{Halted, Stop};
use anyhow::{Result, bail};
use diffpref_native::Generator;
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// The scorer in training with its optimizers.
pub struct Learner {
    pub settings: Settings,
    pub towers: Towers,
    pub head: Box<dyn Head>,
    pub work: Work,
    optimizers: Vec<Trained>,
    /// Training items of each data set.
    sets: Vec<Vec<usize>>,
    /// Order of the items of an epoch, per data set.
    orders: Vec<(u64, Vec<i64>)>,
}

/// A group of trained tensors.
struct Trained {
    optimizer: Optimizer,
    rate: f64,
    turn: Option<u64>,
    parameters: Parameters,
}

/// Numbers of a finished step.
pub struct Step {
    pub loss: f64,
    pub lr: f64,
    pub grad_norm: f64,
    /// lambda of every data set; empty with one.
    pub shares: Vec<f64>,
}

/// A data set's part of a step.
struct OfSet {
    loss: f64,
    /// One per trained tensor.
    gradients: Vec<Tensor>,
}

impl Learner {
    /// Marks the groups as trained, with fresh optimizers.
    pub fn new(settings: Settings, towers: Towers, head: Box<dyn Head>, work: Work, groups: Vec<Group>) -> Self {
        let trained = |group: Group| {
            for (_, tensor) in &group.parameters {
                let _ = tensor.set_requires_grad(true);
            }
            let mut optim = settings.optim.clone();
            optim.weight_decay = group.weight_decay.unwrap_or(optim.weight_decay);
            let optimizer = Optimizer::new(&group.parameters, &optim);
            Trained { optimizer, rate: group.rate, turn: group.turn, parameters: group.parameters }
        };
        let optimizers = groups.into_iter().map(trained).collect();
        let sets = work.sets();
        let orders = sets.iter().map(|_| (u64::MAX, Vec::new())).collect();
        Self { settings, towers, head, work, optimizers, sets, orders }
    }

    /// All trained tensors.
    pub fn trained(&self) -> Parameters {
        let all = self.optimizers.iter().flat_map(|group| &group.parameters);
        all.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// State of all optimizers.
    pub fn optimizer_state(&self) -> Parameters {
        self.optimizers.iter().flat_map(|group| group.optimizer.state()).collect()
    }

    /// Restores trained tensors and optimizers.
    ///
    /// # Errors
    /// A missing part, or one of another shape.
    pub fn restore(&mut self, weights: &HashMap<String, Tensor>, state: &HashMap<String, Tensor>) -> Result<()> {
        for (name, tensor) in self.trained() {
            crate::networks::copy_into(&mut tensor.shallow_clone(), weights, &name)?;
        }
        self.optimizers.iter_mut().try_for_each(|group| group.optimizer.load(state))
    }

    /// Item of a data set at a position of the run: stream `order`, id `epoch`; a further set adds its number.
    fn item_at(&mut self, set: usize, position: u64) -> Result<usize> {
        let n = self.sets[set].len() as u64;
        let (epoch, place) = (position / n, (position % n) as usize);
        if self.orders[set].0 != epoch {
            let seed = self.settings.train.seed;
            let key = match set {
                0 => draws::key(seed, "order", &[&epoch]),
                set => draws::key(seed, "order", &[&epoch, &set]),
            };
            self.orders[set] = (epoch, Generator::cpu(key).randperm(n as i64)?);
        }
        Ok(self.sets[set][self.orders[set].1[place] as usize])
    }

    /// Step `s`, from 1.
    ///
    /// # Errors
    /// `Stopped` before anything changed; `Halted` for a loss or gradient that is not finite; an unreadable picture.
    pub fn step(&mut self, s: u64, stop: &Stop) -> Result<Step> {
        let (per_step, steps) = (self.settings.train.pairs_per_step(), self.settings.train.steps);
        let (loss, shares) = match self.sets.len() {
            1 => (self.accumulate(0, s, stop)?, Vec::new()),
            sets => {
                let of_sets = (0..sets).map(|set| self.of_set(set, s, stop)).collect::<Result<Vec<_>>>()?;
                let shares = self.shares(&of_sets)?;
                self.combine(&of_sets, &shares)?;
                (of_sets.iter().zip(&shares).map(|(of, share)| of.loss * share).sum(), shares)
            }
        };
        let lr = learning_rate(&self.settings.optim, steps, per_step, s);
        let grad_norm = self.update(s, lr)?;
        Ok(Step { loss, lr, grad_norm, shares })
    }

    /// Adds the gradients of a step's items of one data set; the sum of their losses.
    fn accumulate(&mut self, set: usize, s: u64, stop: &Stop) -> Result<f64> {
        let train = &self.settings.train;
        let (per_step, micro_batch, steps) = (train.pairs_per_step(), train.micro_batch as usize, train.steps);
        let positions: Vec<u64> = ((s - 1) * per_step..s * per_step).collect();
        let items = positions.iter().map(|position| self.item_at(set, *position)).collect::<Result<Vec<_>>>()?;
        let progress = (s - 1) as f64 / steps.max(2).saturating_sub(1) as f64;
        let weights = self.weights(&items);
        let mut sum = 0.0;
        for (start, items) in (0..).step_by(micro_batch).zip(items.chunks(micro_batch)) {
            stop.check()?;
            let weights = &weights[start..start + items.len()];
            let mut loss = self.loss(items, &positions[start..], weights, progress)?;
            if let Some(penalty) = self.head.penalty(progress).filter(|_| start == 0) {
                loss += penalty;
            }
            let value = loss.double_value(&[]);
            if !value.is_finite() {
                let text = format!(
                    "the loss of step {s} is {value}; the weights were not changed. Start another run with a lower optim.lr."
                );
                bail!(Halted::before_update(text));
            }
            sum += value;
            loss.f_backward()?;
        }
        Ok(sum)
    }

    /// Loss and gradients of one data set; none are left accumulated.
    fn of_set(&mut self, set: usize, s: u64, stop: &Stop) -> Result<OfSet> {
        let loss = self.accumulate(set, s, stop)?;
        let gradients =
            self.optimizers.iter().flat_map(|group| group.optimizer.accumulated()).map(|g| g.copy()).collect();
        self.optimizers.iter().for_each(|group| group.optimizer.zero_grad());
        Ok(OfSet { loss, gradients })
    }

    /// lambda by the gradients of the head alone.
    fn shares(&self, of_sets: &[OfSet]) -> Result<Vec<f64>> {
        let head: Vec<String> = self.head.parameters().into_iter().map(|(name, _)| name).collect();
        let places: Vec<usize> =
            self.trained().iter().enumerate().filter(|(_, (name, _))| head.contains(name)).map(|(at, _)| at).collect();
        let product = |a: &OfSet, b: &OfSet| -> Result<f64> {
            let one = |at: &usize| -> Result<f64> {
                Ok((&a.gradients[*at] * &b.gradients[*at]).f_sum(Kind::Double)?.f_double_value(&[])?)
            };
            places.iter().map(one).sum()
        };
        let row = |a: &OfSet| of_sets.iter().map(|b| product(a, b)).collect::<Result<Vec<f64>>>();
        Ok(more_shares(&of_sets.iter().map(row).collect::<Result<Vec<_>>>()?))
    }

    /// Accumulates sum_k lambda_k G_k.
    fn combine(&self, of_sets: &[OfSet], shares: &[f64]) -> Result<()> {
        let _frozen = tch::no_grad_guard();
        for (at, (_, tensor)) in self.trained().into_iter().enumerate() {
            let mut grad = tensor.grad();
            if !grad.defined() {
                continue; // outside every graph
            }
            for (of_set, share) in of_sets.iter().zip(shares) {
                let _ = grad.f_add_(&(&of_set.gradients[at] * *share))?;
            }
        }
        Ok(())
    }

    /// Clips by the norm of all gradients together, and updates the groups whose turn it is.
    fn update(&mut self, s: u64, lr: f64) -> Result<f64> {
        let due = |group: &&mut Trained| group.turn.is_none_or(|turn| s % 2 == turn);
        let mut square = 0.0;
        let mut grads = Vec::new();
        for group in self.optimizers.iter_mut().filter(due) {
            let of_group = group.optimizer.accumulated();
            square += group.optimizer.grad_norm(&of_group)?.powi(2);
            grads.push(of_group);
        }
        let norm = square.sqrt();
        for (group, grads) in self.optimizers.iter_mut().filter(due).zip(&grads) {
            group.optimizer.step(grads, norm, lr * group.rate)?;
        }
        self.optimizers.iter().for_each(|group| group.optimizer.zero_grad());
        if self.settings.method.objective() == Objective::Hpsv2 {
            self.towers.clamp_scale();
        }
        Ok(norm)
    }

    /// Weight of each item of a step.
    fn weights(&self, items: &[usize]) -> Vec<f64> {
        let n = items.len() as f64;
        let (Work::Judged { corpus, .. }, method) = (&self.work, &self.settings.method) else {
            return vec![1.0 / n; items.len()];
        };
        let of_prompt: Vec<f64> = items.iter().map(|item| corpus.train[*item].of_prompt).collect();
        match method {
            Method::Pickscore(settings) if settings.as_published => prompt_weights(&of_prompt),
            Method::Pickscore(_) => {
                let mean =
                    corpus.train.iter().map(|item| 1.0 / item.of_prompt).sum::<f64>() / corpus.train.len() as f64;
                of_prompt.iter().map(|count| 1.0 / count / mean / n).collect()
            }
            // Summed over the step.
            Method::Hpsv2(_) => vec![1.0; items.len()],
            Method::Contrastive(_)
            | Method::Uncertainty(_)
            | Method::Btt(_)
            | Method::Ranklist(_)
            | Method::Gpm(_)
            | Method::Dimensions(_)
            | Method::Pal(_)
            | Method::Lore(_)
            | Method::Dprm(_)
            | Method::DisagreementMargin(_)
            | Method::More(_) => vec![1.0 / n; items.len()],
        }
    }

    /// Weighted loss of items, a scalar. `positions`: those of the items, and more.
    fn loss(&self, items: &[usize], positions: &[u64], weights: &[f64], progress: f64) -> Result<Tensor> {
        match &self.work {
            Work::Captions(captions) => {
                let share = items.len() as f64 / self.settings.train.pairs_per_step() as f64;
                Ok(captions.loss(&self.towers, items, positions, self.settings.train.seed)? * share)
            }
            Work::Judged { corpus, features } => {
                let items: Vec<&Judged> = items.iter().map(|item| &corpus.train[*item]).collect();
                let outputs = self.outputs(features, &items)?;
                let losses = self.head.losses(&outputs, &self.batch(corpus, &items, progress));
                let weights = Tensor::from_slice(weights).to_kind(losses.kind()).to_device(losses.device());
                Ok((losses * weights).sum(None::<Kind>))
            }
        }
    }

    /// Outputs `[N, C]` of all pictures of items, in order.
    ///
    /// # Errors
    /// An unreadable picture.
    pub fn outputs(&self, features: &Features, items: &[&Judged]) -> Result<Tensor> {
        let pictures: Vec<usize> = items.iter().flat_map(|item| item.pictures.iter().copied()).collect();
        let of_picture = |item: &&Judged| vec![(item.prompt, item.user.unwrap_or(0) as i64); item.pictures.len()];
        let (prompts, users): (Vec<usize>, Vec<i64>) = items.iter().flat_map(of_picture).unzip();
        let users = Tensor::from_slice(&users).to_device(self.towers.device);
        let (images, prompts) = (features.images(&self.towers, &pictures)?, features.prompts(&self.towers, &prompts)?);
        Ok(self.head.outputs(&Input {
            images: &images,
            prompts: &prompts,
            scale: &self.towers.scale(),
            users: (!self.head.users().is_empty()).then_some(&users),
        }))
    }

    fn batch(&self, corpus: &Corpus, items: &[&Judged], progress: f64) -> Batch {
        let method = &self.settings.method;
        let share = |item: &&Judged| share(method, item) as f32;
        let margin = |item: &&Judged| margin(method, item) as f32;
        let dimensions: Vec<f32> =
            items.iter().flat_map(|item| item.dimensions.iter().map(|share| *share as f32)).collect();
        let mut start = 0;
        let mut list = |item: &&Judged| {
            let list = Ranking { start, places: item.places.clone() };
            start += item.pictures.len() as i64;
            list
        };
        let tensor = |values: &[f32]| Tensor::from_slice(values).to_device(self.towers.device);
        Batch {
            share: tensor(&items.iter().map(share).collect::<Vec<_>>()),
            margins: tensor(&items.iter().map(margin).collect::<Vec<_>>()),
            dimensions: tensor(&dimensions).view([items.len() as i64, corpus.dimensions.len() as i64]),
            records: items
                .iter()
                .flat_map(|item| item.pictures.iter().map(|picture| corpus.records[*picture]))
                .collect(),
            lists: items.iter().map(&mut list).collect(),
            progress,
        }
    }
}

/// Share of the first picture that the loss reads.
fn share(method: &Method, item: &Judged) -> f64 {
    let votes = matches!(method, Method::Hpsv2(settings) if settings.labels == HpsLabels::Soft);
    let strength = matches!(method, Method::DisagreementMargin(own) if own.source == MarginSource::Strength);
    let soft = item.strength.filter(|_| strength).and_then(|strength| strength.soft_label);
    item.votes.filter(|_| votes).or(soft).unwrap_or(item.share)
}

/// Margin of a pair: none for ties and for ambiguous pairs.
fn margin(method: &Method, item: &Judged) -> f64 {
    let Method::DisagreementMargin(settings) = method else { return 0.0 };
    let margin = match settings.source {
        MarginSource::Strength => item.strength.filter(|strength| strength.soft_label.is_none()).map(|one| one.mean),
        MarginSource::Votes => item.votes.map(|votes| margin_of_votes(votes, settings.k)),
    };
    margin.filter(|_| item.share > 0.5).unwrap_or(0.0)
}

impl Captioned {
    /// Contrastive loss of pictures with their captions.
    fn loss(&self, towers: &Towers, items: &[usize], positions: &[u64], seed: u64) -> Result<Tensor> {
        let pictures =
            items.iter().zip(positions).map(|(item, position)| self.captions.picture(*item, seed, *position));
        let images = towers.pictures(&pictures.collect::<Result<Vec<_>>>()?)?;
        let captions: Vec<&str> = items.iter().map(|item| self.captions.caption(*item)).collect();
        let numbers: Vec<i64> = items.iter().map(|item| self.numbers[*item]).collect();
        let numbers = Tensor::from_slice(&numbers).to_device(towers.device);
        Ok(crate::heads::contrastive_loss(&images, &towers.texts(&captions)?, &towers.scale(), &numbers))
    }
}
