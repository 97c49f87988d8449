//! Relative preference optimisation: "Relative Preference Optimization: Enhancing LLM Alignment through Contrasting
//! Responses across Identical and Diverse Prompts", arXiv 2402.10958; for diffusion, arXiv 2406.06382.
//!
//! ```text
//! M_ij = z_i - y_j,   w_ij = softmax_j(-(1 - cos(p_i, p_j)) / tau),   p embeddings of the prompts
//! inside    loss = mean_i mean_j -log sigma(w_ij M_ij)
//! outside   loss = mean_i sum_j -w_ij log sigma(M_ij)
//! diagonal  loss = mean_i 0.8 (-log sigma M_ii) + 0.2 mean_{j != i} (-log sigma M_ij)
//! ```
//!
//! "inside" is the authors' code: the weights of a row sum to 1, so that their pull on the logits shrinks with 1/n.
//! "outside" is our default. Items are compared within blocks of one noise level, since implicit rewards of different
//! levels differ in size; blocks are no part of the paper. A dropped prompt has the embedding of the empty one.

use super::groups::index;
use super::{
    BETA_AUTO, BetaRule, Entry, LabelLoss, Labels, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step, WholeStep,
};
use crate::data::items::ItemKind;
use crate::keys::{Range, one_of, whole, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "Relative PO",
    paper: "arXiv 2402.10958",
    cost: "1 (1.5 with accumulation)",
    when: "prompts that are alike: winners and losers compared across them",
    page: "distribution.md#relative_po",
    ..Entry::of::<RelativePo>("relative_po")
};

crate::choice! {
    /// Compared winners and losers
    pub enum Form {
        /// All of a block, by the similarity of their prompts.
        Paired = "paired",
        /// As paired, on labelled images.
        Unpaired = "unpaired",
        /// A pair with weight 0.8, all others of its block with 0.2.
        Diagonal = "diagonal",
    }
}

crate::choice! {
    /// Place of the weights
    pub enum Weights {
        /// Factors of the logits, as published.
        Inside = "inside",
        /// Factors of the losses.
        Outside = "outside",
    }
}

/// Share of a pair's own margin in the diagonal form.
const OWN: f64 = 0.8;

crate::keys! {
    pub struct RelativePo {
        beta: BetaRule = BETA_AUTO,
        /// paired: all winners with all losers of a block; unpaired: the same on labelled images;
        /// diagonal: 0.8 of the pair itself, 0.2 of the others
        form: Form = one_of::<Form>().or_text("paired"),
        /// inside: factors of the logits, as published; outside: factors of the losses
        weights: Weights = one_of::<Weights>().or_text("outside"),
        /// temperature of the similarity of prompts
        tau: f64 = within(Range::POSITIVE).or("0.5"),
        /// items that share one timestep and are compared
        block: u64 = whole(2, 65_536).or("8"),
        ; offline: Offline,
    }
}

impl MethodKeys for RelativePo {
    fn method(self) -> Method {
        let items = match self.form {
            Form::Paired | Form::Diagonal => ItemKind::Pairs,
            Form::Unpaired => ItemKind::Labels,
        };
        let needs = Needs {
            items,
            whole_step: Some(WholeStep { least: self.block, block: Some(self.block) }),
            prompts: self.form != Form::Diagonal,
            ..Needs::pairs(self.beta, self.offline)
        };
        match self.form {
            Form::Paired | Form::Diagonal => Method::pairs(needs, self),
            Form::Unpaired => Method::labels(needs, self),
        }
    }
}

impl PairLoss for RelativePo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let (z, y) = (pairs.z(), pairs.y());
        let mut losses = z.zeros_like();
        for members in pairs.places().by_block() {
            let members = index(&members, &z);
            let margins = z.index_select(0, &members).unsqueeze(1) - y.index_select(0, &members).unsqueeze(0);
            let of_block = match self.form {
                Form::Diagonal => diagonal(&margins),
                Form::Paired | Form::Unpaired => {
                    let prompts = pairs.prompts().index_select(0, &members);
                    self.weighted(&margins, &self.similar(&prompts, &prompts))
                }
            };
            losses = losses.index_add(0, &members, &of_block);
        }
        losses
    }
}

impl RelativePo {
    /// w of embeddings `[k, D]` and `[m, D]`, `[k, m]`
    fn similar(&self, winners: &Tensor, losers: &Tensor) -> Tensor {
        let unit = |p: &Tensor| p / p.norm_scalaropt_dim(2.0, [1], true).clamp_min(1e-12);
        let cosine = unit(winners).matmul(&unit(losers).transpose(0, 1));
        ((cosine - 1.0) / self.tau).softmax(1, None)
    }

    /// Losses of the rows of margins `[k, m]`, `[k]`
    fn weighted(&self, margins: &Tensor, weights: &Tensor) -> Tensor {
        match self.weights {
            Weights::Inside => -(margins * weights).log_sigmoid().mean_dim(1, false, None),
            Weights::Outside => -(margins.log_sigmoid() * weights).sum_dim_intlist(1, false, None),
        }
    }
}

/// Losses of the diagonal form, `[k]`; a pair alone in its block is compared with itself only.
fn diagonal(margins: &Tensor) -> Tensor {
    let k = margins.size()[0];
    let losses = -margins.log_sigmoid();
    let own = losses.diagonal(0, 0, 1);
    if k == 1 {
        return own;
    }
    let others = (losses.sum_dim_intlist(1, false, None) - &own) / (k - 1) as f64;
    own * OWN + others * (1.0 - OWN)
}

impl LabelLoss for RelativePo {
    fn losses(&self, labels: &Labels, _: &Step) -> Tensor {
        let rewards = labels.rewards();
        let mut losses = rewards.zeros_like();
        for sides in labels.sides(labels.places().by_block()) {
            let [good, bad] = sides.map(|members| index(&members, &rewards));
            let margins = rewards.index_select(0, &good).unsqueeze(1) - rewards.index_select(0, &bad).unsqueeze(0);
            let prompts = |members: &Tensor| labels.prompts().index_select(0, members);
            let of_block = self.weighted(&margins, &self.similar(&prompts(&good), &prompts(&bad)));
            losses = losses.index_add(0, &good, &of_block);
        }
        losses
    }

    /// A desirable image is compared with all undesirable ones of its block; those have no loss of their own.
    fn counted(&self, labels: &Labels) -> Option<Vec<bool>> {
        let mut counted = vec![false; labels.sign.numel()];
        for [good, _] in labels.sides(labels.places().by_block()) {
            good.into_iter().for_each(|i| counted[i as usize] = true);
        }
        Some(counted)
    }
}
