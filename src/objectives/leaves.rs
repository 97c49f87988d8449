//! Inputs of an objective: errors of policy and reference, row by row, and views of them as pairs, lists or labelled
//! images. Notation: docs/methods.md, section 0.

use super::groups::Places;
use crate::data::batches::{BatchItem, image_of_each};
use crate::data::items::Preference;
use pipelines::LevelRange;
use tch::{Kind, Tensor};

/// Errors of a micro-batch. An error is the mean over C, H, W of the squared residual, prediction minus target.
/// Tensors are `[R]`, detached, in the type of the master weights.
#[derive(Debug)]
pub struct Errors {
    /// Rows and preferences of the items.
    pub items: Vec<BatchItem>,
    /// e_theta in the network's own parameterisation.
    pub theta: Tensor,
    /// e_ref in the same parameterisation; `None` for methods without a reference.
    pub reference: Option<Tensor>,
    /// Drift between the residuals of policy and reference; for methods that need it.
    pub drift: Option<Drift>,
    /// Factor from an error to the error in epsilon space: 1 for epsilon models, abar_t for v models (docs/methods.md
    /// 0.2).
    pub epsilon_factor: Tensor,
    /// lambda(t) of `timesteps.weighting`, by default 1.
    pub lambda: Tensor,
    /// One embedding per item `[n, D]`, that of the prompt as conditioned on; for methods that need it.
    pub prompts: Option<Tensor>,
    /// Noise levels of the model's process.
    pub range: LevelRange,
}

/// Drift of the predictions for the first images from the reference's, d = noise_pred - noise_pred_ref. `[n]` each.
#[derive(Debug)]
pub struct Drift {
    /// mean d^2
    pub square: Tensor,
    /// mean of residual x d
    pub pull: Tensor,
}

impl Drift {
    pub(super) fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Self {
        Self { square: f(&self.square), pull: f(&self.pull) }
    }

    /// The drifts of several micro-batches, in their order; `None` unless all have one.
    fn joined(drifts: Vec<Option<&Drift>>) -> Option<Self> {
        let drifts: Vec<&Drift> = drifts.into_iter().collect::<Option<_>>()?;
        let all = |part: fn(&Drift) -> &Tensor| Tensor::cat(&drifts.iter().map(|d| part(d)).collect::<Vec<_>>(), 0);
        Some(Self { square: all(|d| &d.square), pull: all(|d| &d.pull) })
    }
}

impl Errors {
    /// These leaves with `theta` and drift as leaves of a backward pass.
    pub fn as_leaves(&self) -> Self {
        let leaf = |t: &Tensor| t.detach().set_requires_grad(true);
        Self { theta: leaf(&self.theta), drift: self.drift.as_ref().map(|d| d.map(leaf)), ..self.shallow() }
    }

    fn shallow(&self) -> Self {
        Self {
            items: self.items.clone(),
            theta: self.theta.shallow_clone(),
            reference: self.reference.as_ref().map(Tensor::shallow_clone),
            drift: self.drift.as_ref().map(|d| d.map(Tensor::shallow_clone)),
            epsilon_factor: self.epsilon_factor.shallow_clone(),
            lambda: self.lambda.shallow_clone(),
            prompts: self.prompts.as_ref().map(Tensor::shallow_clone),
            range: self.range,
        }
    }

    /// Micro-batches as one batch: the rows of the first, then those of the second, and so on. `None` for none.
    pub fn joined(batches: &[Self]) -> Option<Self> {
        let range = batches.first()?.range;
        let all = |part: fn(&Self) -> &Tensor| Tensor::cat(&batches.iter().map(part).collect::<Vec<_>>(), 0);
        let each = |part: fn(&Self) -> Option<&Tensor>| {
            let parts: Option<Vec<&Tensor>> = batches.iter().map(part).collect();
            parts.map(|parts| Tensor::cat(&parts, 0))
        };
        let (mut items, mut rows) = (Vec::new(), 0);
        for batch in batches {
            let moved = |row: &i64| row + rows;
            items.extend(
                batch
                    .items
                    .iter()
                    .map(|item| BatchItem { rows: item.rows.iter().map(moved).collect(), ..item.clone() }),
            );
            rows += batch.theta.size()[0];
        }
        Some(Self {
            items,
            theta: all(|b| &b.theta),
            reference: each(|b| b.reference.as_ref()),
            drift: Drift::joined(batches.iter().map(|b| b.drift.as_ref()).collect()),
            epsilon_factor: all(|b| &b.epsilon_factor),
            lambda: all(|b| &b.lambda),
            prompts: each(|b| b.prompts.as_ref()),
            range,
        })
    }

    /// Policy errors in the space of margins, `[R]`.
    pub fn epsilon_theta(&self) -> Tensor {
        &self.theta * &self.epsilon_factor
    }

    /// Reference errors in the space of margins, `[R]`.
    pub fn epsilon_reference(&self) -> Option<Tensor> {
        self.reference.as_ref().map(|r| r * &self.epsilon_factor)
    }

    /// Image `k` of every item: `[n]` of `[R]`; `None` if the batch has no such image.
    pub fn image(&self, values: &Tensor, k: usize) -> Option<Tensor> {
        image_of_each(&self.items, values, k)
    }

    /// One number per item as a tensor, `[n]`, of the errors' type and device.
    fn numbers(&self, of: impl Fn(&BatchItem) -> f64) -> Tensor {
        let values: Vec<f64> = self.items.iter().map(of).collect();
        Tensor::from_slice(&values).to_device(self.theta.device()).to_kind(self.theta.kind())
    }
}

/// The trainer supplies exactly what a method's needs declare. Reading anything else is a defect of the method.
fn named<'a>(value: &'a Option<Tensor>, what: &str) -> &'a Tensor {
    value.as_ref().unwrap_or_else(|| panic!("a method reads {what}, which its needs do not name"))
}

/// Pairs, `[n]` each: winners and losers of a micro-batch, as trained.
pub struct Pairs {
    theta_w: Tensor,
    theta_l: Option<Tensor>,
    ref_w: Option<Tensor>,
    ref_l: Option<Tensor>,
    native_w: Tensor,
    drift: Option<Drift>,
    half_beta: Tensor,
    scores: Option<[Tensor; 2]>,
    ties: Tensor,
    prompts: Option<Tensor>,
    places: Places,
}

impl Pairs {
    pub fn of(errors: &Errors, beta: f64) -> Self {
        let theta = errors.epsilon_theta();
        let reference = errors.epsilon_reference();
        let side = |values: &Tensor, k: usize| errors.image(values, k);
        let winners = |values: &Tensor| errors.image(values, 0).unwrap_or_else(|| values.shallow_clone());
        let drift = errors.drift.as_ref().map(|d| d.map(|t| t * winners(&errors.epsilon_factor)));
        let scored = errors.items.iter().all(|item| item.scores.as_ref().is_some_and(|s| s.len() == 2));
        let score = |k: usize| errors.numbers(|item| item.scores.as_ref().map_or(0.0, |s| s[k]));
        Self {
            theta_w: winners(&theta),
            theta_l: side(&theta, 1),
            ref_w: reference.as_ref().map(winners),
            ref_l: reference.as_ref().and_then(|r| side(r, 1)),
            native_w: winners(&errors.theta),
            drift,
            half_beta: winners(&errors.lambda) * (0.5 * beta),
            scores: scored.then(|| [score(0), score(1)]),
            ties: errors.numbers(|item| f64::from(item.preference == Preference::Pair { tie: true })),
            prompts: errors.prompts.as_ref().map(Tensor::shallow_clone),
            places: Places::of(errors),
        }
    }

    /// e_theta of the winners in the space of margins.
    pub fn theta_w(&self) -> &Tensor {
        &self.theta_w
    }

    pub fn theta_l(&self) -> &Tensor {
        named(&self.theta_l, "e_theta(l)")
    }

    pub fn ref_w(&self) -> &Tensor {
        named(&self.ref_w, "e_ref(w)")
    }

    pub fn ref_l(&self) -> &Tensor {
        named(&self.ref_l, "e_ref(l)")
    }

    /// e_theta of the winners in the network's own parameterisation.
    pub fn native_w(&self) -> &Tensor {
        &self.native_w
    }

    /// Drift of the policy from the reference on the winners.
    pub fn drift(&self) -> &Drift {
        self.drift.as_ref().unwrap_or_else(|| panic!("a method reads the drift, which its needs do not name"))
    }

    /// h_w = e_ref(w) - e_theta(w), the implicit reward of the winners.
    pub fn h_w(&self) -> Tensor {
        self.ref_w() - self.theta_w()
    }

    /// h_l = e_ref(l) - e_theta(l)
    pub fn h_l(&self) -> Tensor {
        self.ref_l() - self.theta_l()
    }

    /// h = h_w - h_l
    pub fn h(&self) -> Tensor {
        self.h_w() - self.h_l()
    }

    /// beta lambda(t) / 2
    pub fn half_beta(&self) -> &Tensor {
        &self.half_beta
    }

    /// z = 0.5 beta lambda h_w
    pub fn z(&self) -> Tensor {
        self.h_w() * &self.half_beta
    }

    /// y = 0.5 beta lambda h_l
    pub fn y(&self) -> Tensor {
        self.h_l() * &self.half_beta
    }

    /// The DPO logit u = 0.5 beta lambda h
    pub fn u(&self) -> Tensor {
        self.h() * &self.half_beta
    }

    /// The scorer's values of winners and losers.
    pub fn scores(&self) -> [&Tensor; 2] {
        let [w, l] =
            self.scores.as_ref().unwrap_or_else(|| panic!("a method reads scores, which its needs do not name"));
        [w, l]
    }

    /// 1 for a tie, 0 for a preference.
    pub fn ties(&self) -> &Tensor {
        &self.ties
    }

    /// Embeddings of the prompts, `[n, D]`.
    pub fn prompts(&self) -> &Tensor {
        named(&self.prompts, "embeddings of prompts")
    }

    /// Noise levels and blocks of the pairs.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Whether the inputs of a logit exist.
    pub fn compared(&self) -> bool {
        self.theta_l.is_some() && self.ref_w.is_some()
    }
}

/// One ranked list of k images, `[k]` each.
pub struct List {
    /// Win fractions, in the order of the images.
    pub phi: Vec<f64>,
    /// s_i = 0.5 beta lambda h_i
    pub s: Tensor,
}

impl List {
    /// The lists of a micro-batch; other items are skipped.
    pub fn all_of(errors: &Errors, beta: f64) -> Vec<Self> {
        let Some(reference) = errors.epsilon_reference() else { return Vec::new() };
        let s = (reference - errors.epsilon_theta()) * &errors.lambda * (0.5 * beta);
        let list = |item: &BatchItem| match &item.preference {
            Preference::List { phi } => {
                let rows = Tensor::from_slice(&item.rows).to_device(s.device());
                Some(Self { phi: phi.clone(), s: s.index_select(0, &rows) })
            }
            Preference::Pair { .. } | Preference::Label { .. } => None,
        };
        errors.items.iter().filter_map(list).collect()
    }

    /// (better, worse) of every two images with different phi, better ones by rank; images of equal phi keep the
    /// list's order.
    pub fn ranked_pairs(&self) -> Vec<(usize, usize)> {
        ranked_pairs(&self.phi)
    }

    /// Elements of `s` (or of another `[k]`) by index, `[m]`.
    pub fn pick(values: &Tensor, indices: impl Iterator<Item = usize>) -> Tensor {
        let indices: Vec<i64> = indices.map(|i| i as i64).collect();
        values.index_select(0, &Tensor::from_slice(&indices).to_device(values.device()))
    }

    /// Numbers as a tensor of the type and device of `s`.
    pub fn like(&self, values: &[f64]) -> Tensor {
        Tensor::from_slice(values).to_device(self.s.device()).to_kind(self.s.kind())
    }
}

/// (better, worse) of every two images with different `phi`.
pub fn ranked_pairs(phi: &[f64]) -> Vec<(usize, usize)> {
    let order = descending(phi);
    let mut pairs = Vec::new();
    for (place, better) in order.iter().enumerate() {
        for worse in &order[place + 1..] {
            if phi[*better] > phi[*worse] {
                pairs.push((*better, *worse));
            }
        }
    }
    pairs
}

/// Indices by descending value; equal values keep their order.
pub fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order
}

/// Labelled images, `[n]` each.
pub struct Labels {
    /// g = lambda(t) (e_ref - e_theta)
    pub g: Tensor,
    pub beta: f64,
    /// +1 desirable, -1 undesirable
    pub sign: Tensor,
    theta: Tensor,
    drift: Option<Drift>,
    prompts: Option<Tensor>,
    places: Places,
}

impl Labels {
    pub fn of(errors: &Errors, beta: f64) -> Self {
        let theta = errors.epsilon_theta();
        let reference = errors.epsilon_reference();
        let desirable = |item: &BatchItem| item.preference == Preference::Label { desirable: true };
        Self {
            g: (named(&reference, "e_ref") - &theta) * &errors.lambda,
            drift: errors.drift.as_ref().map(|d| d.map(|t| t * &errors.epsilon_factor)),
            theta,
            prompts: errors.prompts.as_ref().map(Tensor::shallow_clone),
            places: Places::of(errors),
            beta,
            sign: errors.numbers(|item| if desirable(item) { 1.0 } else { -1.0 }),
        }
    }

    /// 0.5 beta g: z of a desirable image, y of an undesirable one.
    pub fn rewards(&self) -> Tensor {
        &self.g * (0.5 * self.beta)
    }

    /// e_theta in the space of margins.
    pub fn theta(&self) -> &Tensor {
        &self.theta
    }

    /// Drift of the policy from the reference in the space of margins.
    pub fn drift(&self) -> &Drift {
        self.drift.as_ref().unwrap_or_else(|| panic!("a method reads the drift, which its needs do not name"))
    }

    /// Embeddings of the prompts, `[n, D]`.
    pub fn prompts(&self) -> &Tensor {
        named(&self.prompts, "embeddings of prompts")
    }

    /// Noise levels and blocks of the images.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Desirable and undesirable images of each group of indices; a group of one class is absent.
    pub fn sides(&self, groups: Vec<Vec<i64>>) -> Vec<[Vec<i64>; 2]> {
        let signs = super::numbers(&self.sign);
        let split = |members: Vec<i64>| {
            let (good, bad): (Vec<i64>, Vec<i64>) = members.into_iter().partition(|i| signs[*i as usize] > 0.0);
            (!good.is_empty() && !bad.is_empty()).then_some([good, bad])
        };
        groups.into_iter().filter_map(split).collect()
    }

    /// 1 for a desirable image, else 0.
    pub fn desirable(&self) -> Tensor {
        self.sign.gt(0.0).to_kind(self.g.kind())
    }

    /// Type and device of new tensors.
    pub fn kind(&self) -> Kind {
        self.g.kind()
    }
}
