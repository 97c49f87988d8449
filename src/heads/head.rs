//! The interface of heads: from features of pictures and prompts to numbers, losses and probabilities.

use crate::data::items::ItemKind;
use tch::Tensor;

/// Tensors by name.
pub type Parameters = Vec<(String, Tensor)>;

/// Features of N pictures with their prompts.
pub struct Input<'a> {
    /// Unit features `[N, P]` of the pictures.
    pub images: &'a Tensor,
    /// Unit features `[N, T, P]` of the texts of each picture's prompt: T is the number of [`texts`](Head::texts).
    pub prompts: &'a Tensor,
    /// exp(logit_scale), a scalar.
    pub scale: &'a Tensor,
    /// User of each picture `[N]` int64; `None` for a head without users.
    pub users: Option<&'a Tensor>,
}

/// Judgements on the pictures of a batch. B pairs have 2 B pictures, winner and loser in turn.
pub struct Batch {
    /// Share of the first picture of each pair in [0, 1], `[B]`.
    pub share: Tensor,
    /// Margin of each pair, `[B]`; 0 for heads without margins.
    pub margins: Tensor,
    /// Share of the first picture in each dimension, -1 without a label, `[B, D]`.
    pub dimensions: Tensor,
    /// Wins and losses of each picture over the training set, by picture.
    pub records: Vec<[u32; 2]>,
    /// The lists, in order.
    pub lists: Vec<Ranking>,
    /// Share of the training that is done, in [0, 1].
    pub progress: f64,
}

/// A list among the pictures of a batch.
pub struct Ranking {
    /// Its first picture.
    pub start: i64,
    /// Place of each picture, the lowest the best; equal ones are tied.
    pub places: Vec<f64>,
}

/// A number per picture that a trained scorer writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    pub name: String,
    /// More is better; false: neither.
    pub higher: bool,
}

impl Measured {
    /// A rating.
    pub fn plain(name: &str) -> Self {
        Self { name: name.into(), higher: true }
    }

    /// A property without a preference.
    pub fn neutral(name: &str) -> Self {
        Self { name: name.into(), higher: false }
    }
}

/// Parameters that share a learning rate.
pub struct Group {
    pub parameters: Parameters,
    /// Factor of optim.lr.
    pub rate: f64,
    /// Decoupled decay; `None`: optim.weight_decay.
    pub weight_decay: Option<f64>,
    /// Remainder of the step number modulo 2 of the steps that change them; `None`: every step.
    pub turn: Option<u64>,
}

impl Group {
    /// optim.lr and optim.weight_decay, every step.
    pub fn plain(parameters: Parameters) -> Self {
        Self { parameters, rate: 1.0, weight_decay: None, turn: None }
    }

    /// `rate` times optim.lr without decay, every step.
    pub fn fast(parameters: Parameters, rate: f64) -> Self {
        Self { parameters, rate, weight_decay: Some(0.0), turn: None }
    }
}

/// A preference head over the features of a CLIP.
pub trait Head {
    /// Kind of the items of its loss.
    fn items(&self) -> ItemKind {
        ItemKind::Pairs
    }

    /// Texts whose features it reads for a prompt, always as many.
    fn texts(&self, prompt: &str) -> Vec<String> {
        vec![prompt.into()]
    }

    /// Names of its users; empty: it does not read users.
    fn users(&self) -> &[String] {
        &[]
    }

    /// Names of its dimensions; empty: one judgement per pair.
    fn dimensions(&self) -> &[String] {
        &[]
    }

    /// Outputs `[N, C]` of pictures.
    fn outputs(&self, input: &Input) -> Tensor;

    /// Loss of each item `[B]` from outputs `[N, C]`.
    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor;

    /// Loss that does not depend on the items, a scalar.
    fn penalty(&self, _progress: f64) -> Option<Tensor> {
        None
    }

    /// Probability that the first picture wins, of pairs `[B, 2, C]`: `[B]`, with dimensions `[B, D]`.
    fn probabilities(&self, pairs: &Tensor) -> Tensor;

    /// Columns of [`numbers`](Self::numbers); empty: it only compares.
    fn measures(&self) -> Vec<Measured>;

    /// The measures `[N, M]` of outputs `[N, C]`.
    fn numbers(&self, outputs: &Tensor) -> Tensor {
        outputs.shallow_clone()
    }

    /// Weights beside the towers, by name.
    fn parameters(&self) -> Parameters {
        Vec::new()
    }

    /// The trained ones of [`parameters`](Self::parameters).
    fn groups(&self) -> Vec<Group> {
        Vec::new()
    }
}
