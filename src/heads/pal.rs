//! PAL (arXiv 2406.08469; `src/pal_rm_a`, `src/pal_rm_b` of RamyaLab/pluralistic-alignment): users as mixtures of K
//! prototypes. f and g_k are networks of two layers (GELU) from features into R^H; w_u is the softmax of a free vector.
//!
//!     A  a_u = sum_k w_uk f(p_k);          logit = |f(x_l) - a_u| - |f(x_w) - a_u|;   hinge max(0, 1 - logit), or logistic
//!     B  a_u(c) = sum_k w_uk g_k(f_c);     r = min(e^q, 100) cos(f(f_i), a_u(c));     cross-entropy of winner and loser
//!     bound of A: + sum_k max(0, |f(p_k)| - 4)

use super::head::{Batch, Group, Head, Input, Measured, Parameters};
use super::pickscore::{difference, difference_of};
use super::shared::{cross_entropy, drawn, length, sum_last};
use crate::keys::{Range, one_of, whole, within};
use tch::{Device, Kind, Tensor};

crate::choice! {
    /// `[method] variant`
    pub enum Variant {
        /// An ideal point per user.
        A = "a",
        /// An ideal direction per user and prompt.
        B = "b",
    }
}

crate::choice! {
    /// `[method] loss` of variant A
    pub enum PalLoss {
        Hinge = "hinge",
        Logistic = "logistic",
    }
}

crate::keys! {
    /// Keys of [method].
    pub struct Pal {
        /// a: ideal points; b: ideal directions by the prompt
        variant: Variant = one_of::<Variant>().or_text("b"),
        /// K
        prototypes: i64 = whole(1, 256).or("2"),
        /// width H of both networks
        width: i64 = whole(1, 8192).or("512"),
        /// variant a only
        loss: PalLoss = one_of::<PalLoss>().or_text("hinge"),
        /// learning rate of prototypes and users, times optim.lr
        user_rate: f64 = within(Range::POSITIVE).or("50.0"),
        /// learning rate of q, times optim.lr
        scale_rate: f64 = within(Range::POSITIVE).or("1000.0"),
    }
}

/// Largest e^q.
const LARGEST_SCALE: f64 = 100.0;
/// Length of f(p_k) that the bound of variant A allows.
const BOUND: f64 = 4.0;

/// Ideal points `[N, H]` of weights `[N, K]` and prototypes `[N, K, H]`.
pub fn ideal(weights: &Tensor, prototypes: &Tensor) -> Tensor {
    (weights.unsqueeze(2) * prototypes).sum_dim_intlist([1].as_slice(), false, None::<Kind>)
}

/// -|x - a| of variant A, `[N]`.
pub fn nearness(x: &Tensor, ideal: &Tensor) -> Tensor {
    -length(&(x - ideal))
}

/// min(e^q, 100) cos(x, a) of variant B, `[N]`; `scale`: e^q.
pub fn alignment(x: &Tensor, ideal: &Tensor, scale: &Tensor) -> Tensor {
    sum_last(&(x * ideal)) / (length(x) * length(ideal)) * scale.clamp_max(LARGEST_SCALE)
}

/// Loss of each pair by variant A: logits `[B]`, share of the first `y` `[B]`.
pub fn ideal_point_losses(logit: &Tensor, y: &Tensor, loss: PalLoss) -> Tensor {
    let hinge = |logit: &Tensor| (-logit + 1.0).clamp_min(0.0);
    match loss {
        PalLoss::Hinge => y * hinge(logit) + (1.0 - y) * hinge(&-logit),
        PalLoss::Logistic => cross_entropy(logit, y),
    }
}

/// Two layers with GELU.
struct Mlp {
    name: String,
    first: Tensor,
    first_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
}

impl Mlp {
    /// Normal start values of variance 1 / inputs, zero biases.
    fn new(name: String, inputs: i64, width: i64, seed: u64, device: Device) -> Self {
        let matrix = |layer: &str, inputs: i64| {
            drawn(seed, &format!("{name}.{layer}"), &[width, inputs], (inputs as f64).powf(-0.5)).to_device(device)
        };
        let bias = || Tensor::zeros([width], (Kind::Float, device));
        let (first, second) = (matrix("first.weight", inputs), matrix("second.weight", width));
        Self { name, first, first_bias: bias(), second, second_bias: bias() }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.first, Some(&self.first_bias)).gelu("none").linear(&self.second, Some(&self.second_bias))
    }

    fn parameters(&self) -> Parameters {
        let parts = [
            ("first.weight", &self.first),
            ("first.bias", &self.first_bias),
            ("second.weight", &self.second),
            ("second.bias", &self.second_bias),
        ];
        parts.into_iter().map(|(part, tensor)| (format!("{}.{part}", self.name), tensor.shallow_clone())).collect()
    }
}

/// Prototypes of either variant.
enum Prototypes {
    /// p_k `[K, P]`
    Points(Tensor),
    /// g_k, and q.
    Directions { of_prompts: Vec<Mlp>, scale: Tensor },
}

/// The mixture.
pub struct Mixture {
    settings: Pal,
    users: Vec<String>,
    image: Mlp,
    prototypes: Prototypes,
    /// `[U, K]`
    weights: Tensor,
    /// Users alone are trained.
    only_users: bool,
}

impl Mixture {
    /// Start values of `width` wide features for these users. `only_users`: all else stays fixed.
    pub fn new(settings: &Pal, width: i64, users: Vec<String>, only_users: bool, seed: u64, device: Device) -> Self {
        let image = Mlp::new("image".into(), width, settings.width, seed, device);
        let prototypes = match settings.variant {
            Variant::A => {
                let points = drawn(seed, &"prototypes", &[settings.prototypes, width], 1.0);
                Prototypes::Points(points.to_device(device))
            }
            Variant::B => {
                let one = |k: i64| Mlp::new(format!("prompt.{k}"), width, settings.width, seed, device);
                Prototypes::Directions {
                    of_prompts: (0..settings.prototypes).map(one).collect(),
                    scale: Tensor::full([], -(0.07f64.ln()), (Kind::Float, device)),
                }
            }
        };
        let weights = user_weights(seed, &users, settings.prototypes).to_device(device);
        Self { settings: settings.clone(), users, image, prototypes, weights, only_users }
    }
}

/// Free vectors `[U, K]` of users, N(0, 1): each depends on the name of its user alone.
pub fn user_weights(seed: u64, users: &[String], k: i64) -> Tensor {
    let rows: Vec<Tensor> = users.iter().map(|user| drawn(seed, &format!("user:{user}"), &[k], 1.0)).collect();
    Tensor::stack(&rows, 0)
}

/// Free vectors `[N, K]` of each picture's user.
pub fn free_vectors(input: &Input, weights: &Tensor) -> Tensor {
    let rows = input.images.size()[0];
    match input.users {
        Some(users) => weights.index_select(0, users),
        None => weights.narrow(0, 0, 1).expand([rows, weights.size()[1]], false),
    }
}

impl Head for Mixture {
    fn users(&self) -> &[String] {
        &self.users
    }

    /// `[N, 1]`
    fn outputs(&self, input: &Input) -> Tensor {
        let weights = free_vectors(input, &self.weights).softmax(-1, None::<Kind>);
        let x = self.image.forward(input.images);
        let ratings = match &self.prototypes {
            Prototypes::Points(points) => nearness(&x, &ideal(&weights, &self.image.forward(points).unsqueeze(0))),
            Prototypes::Directions { of_prompts, scale } => {
                let prompts = input.prompts.select(1, 0);
                let each: Vec<Tensor> = of_prompts.iter().map(|g| g.forward(&prompts)).collect();
                alignment(&x, &ideal(&weights, &Tensor::stack(&each, 1)), &scale.exp())
            }
        };
        ratings.unsqueeze(1)
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        let logit = difference(outputs);
        match self.settings.variant {
            Variant::A => ideal_point_losses(&logit, &batch.share, self.settings.loss),
            Variant::B => cross_entropy(&logit, &batch.share),
        }
    }

    fn penalty(&self, _: f64) -> Option<Tensor> {
        match &self.prototypes {
            Prototypes::Points(points) if !self.only_users => {
                Some((length(&self.image.forward(points)) - BOUND).clamp_min(0.0).sum(None::<Kind>))
            }
            Prototypes::Points(_) | Prototypes::Directions { .. } => None,
        }
    }

    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        difference_of(pairs).sigmoid()
    }

    fn measures(&self) -> Vec<Measured> {
        vec![Measured::plain("pal")]
    }

    fn parameters(&self) -> Parameters {
        let prototypes = match &self.prototypes {
            Prototypes::Points(points) => vec![("prototypes".to_string(), points.shallow_clone())],
            Prototypes::Directions { of_prompts, scale } => {
                let mut all: Parameters = of_prompts.iter().flat_map(Mlp::parameters).collect();
                all.push(("scale".into(), scale.shallow_clone()));
                all
            }
        };
        let users = ("users".to_string(), self.weights.shallow_clone());
        self.image.parameters().into_iter().chain(prototypes).chain([users]).collect()
    }

    fn groups(&self) -> Vec<Group> {
        let named = |name: &str, tensor: &Tensor| (name.to_string(), tensor.shallow_clone());
        let users = Group::fast(vec![named("users", &self.weights)], self.settings.user_rate);
        if self.only_users {
            return vec![users];
        }
        let mut networks = self.image.parameters();
        let rest = match &self.prototypes {
            Prototypes::Points(points) => Group::fast(vec![named("prototypes", points)], self.settings.user_rate),
            Prototypes::Directions { of_prompts, scale } => {
                networks.extend(of_prompts.iter().flat_map(Mlp::parameters));
                Group::fast(vec![named("scale", scale)], self.settings.scale_rate)
            }
        };
        vec![Group::plain(networks), rest, users]
    }
}
