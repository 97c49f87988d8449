//! Steps of a scorer's training: losses of micro-batches, gradients, one decision, the update.

use super::corpus::{Corpus, Judged};
use super::settings::Settings;
use super::towers::{Features, Towers};
use super::work::{Captioned, Work};
use crate::data::draws;
use crate::heads::{Batch, Group, Head, HpsLabels, Input, Method, Objective, Parameters, Ranking, prompt_weights};
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
    /// Order of the items of an epoch.
    order: (u64, Vec<i64>),
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
        Self { settings, towers, head, work, optimizers, order: (u64::MAX, Vec::new()) }
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

    /// Item at a position of the run: stream `order`, id `epoch`.
    fn item_at(&mut self, position: u64) -> Result<usize> {
        let n = self.work.len() as u64;
        let (epoch, place) = (position / n, (position % n) as usize);
        if self.order.0 != epoch {
            let key = draws::key(self.settings.train.seed, "order", &[&epoch]);
            self.order = (epoch, Generator::cpu(key).randperm(n as i64)?);
        }
        Ok(self.order.1[place] as usize)
    }

    /// Step `s`, from 1.
    ///
    /// # Errors
    /// `Stopped` before anything changed; `Halted` for a loss or gradient that is not finite; an unreadable picture.
    pub fn step(&mut self, s: u64, stop: &Stop) -> Result<Step> {
        let train = &self.settings.train;
        let (per_step, micro_batch, steps) = (train.pairs_per_step(), train.micro_batch as usize, train.steps);
        let positions: Vec<u64> = ((s - 1) * per_step..s * per_step).collect();
        let items = positions.iter().map(|position| self.item_at(*position)).collect::<Result<Vec<_>>>()?;
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
        let lr = learning_rate(&self.settings.optim, steps, per_step, s);
        let grad_norm = self.update(s, lr)?;
        Ok(Step { loss: sum, lr, grad_norm })
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
            | Method::Dprm(_) => vec![1.0 / n; items.len()],
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
        let soft = matches!(&self.settings.method, Method::Hpsv2(settings) if settings.labels == HpsLabels::Soft);
        let share = |item: &&Judged| item.votes.filter(|_| soft).unwrap_or(item.share) as f32;
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
