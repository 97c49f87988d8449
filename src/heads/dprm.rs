//! Distributional preferences (arXiv 2402.09764, from the abstract).
//!
//!     target of a picture: Beta(1 + wins, 1 + losses) cut into K equal bins of [0, 1]
//!     L = W1 = (1/K) sum_{k<K} |F_pred(k) - F_target(k)|;   score = sum_k p_k centre_k

use super::head::{Batch, Group, Head, Input, Measured, Parameters};
use super::shared::{both, drawn, sum_last};
use tch::{Device, Kind, Tensor};

crate::keys! {
    /// Keys of [method].
    pub struct Dprm {
        /// K
        bins: i64 = crate::keys::whole(2, 1000).or("10"),
    }
}

/// Probabilities of the bins under Beta(1 + wins, 1 + losses).
pub fn target(wins: u32, losses: u32, bins: usize) -> Vec<f64> {
    // I_x(a, b) of whole a and b: P(at least a successes of a + b - 1 at probability x).
    let n = wins + losses + 1;
    let below = |x: f64| -> f64 {
        let mut term = (1.0 - x).powi(n as i32);
        let mut sum = 0.0;
        if x >= 1.0 {
            return 1.0;
        }
        for j in 0..=n {
            if j > wins {
                sum += term;
            }
            term *= f64::from(n - j) / f64::from(j + 1) * x / (1.0 - x);
        }
        sum
    };
    let ends: Vec<f64> = (0..=bins).map(|k| below(k as f64 / bins as f64)).collect();
    ends.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// W1 `[N]` between probabilities of bins `[N, K]`.
pub fn distances(predicted: &Tensor, target: &Tensor) -> Tensor {
    let bins = predicted.size()[1];
    let apart = (predicted - target).cumsum(1, None::<Kind>).narrow(1, 0, bins - 1).abs();
    sum_last(&apart) / bins as f64
}

/// Score `[N]` of probabilities `[N, K]`: the mean of the bins' centres.
pub fn scores(probabilities: &Tensor) -> Tensor {
    let bins = probabilities.size()[1];
    let centres: Vec<f64> = (0..bins).map(|k| (k as f64 + 0.5) / bins as f64).collect();
    sum_last(&(probabilities * like(&centres, probabilities)))
}

fn like(values: &[f64], other: &Tensor) -> Tensor {
    Tensor::from_slice(values).to_kind(other.kind()).to_device(other.device())
}

/// Softmax over the bins of a linear map of f_i * f_c.
pub struct Bins {
    /// `[K, P]`
    weight: Tensor,
    /// `[K]`
    bias: Tensor,
}

impl Bins {
    pub fn new(settings: &Dprm, width: i64, seed: u64, device: Device) -> Self {
        let name = "bins.weight";
        Self {
            weight: drawn(seed, &name, &[settings.bins, width], (width as f64).powf(-0.5)).to_device(device),
            bias: Tensor::zeros([settings.bins], (Kind::Float, device)),
        }
    }
}

impl Head for Bins {
    /// `[N, K]`: probabilities.
    fn outputs(&self, input: &Input) -> Tensor {
        let features = input.images * input.prompts.select(1, 0) * input.scale;
        features.linear(&self.weight, Some(&self.bias)).softmax(-1, None::<Kind>)
    }

    /// The mean over both pictures.
    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        let bins = outputs.size()[1];
        let targets: Vec<f64> =
            batch.records.iter().flat_map(|[wins, losses]| target(*wins, *losses, bins as usize)).collect();
        let each = distances(outputs, &like(&targets, outputs).view([-1, bins]));
        each.view([-1, 2]).mean_dim([1].as_slice(), false, None::<Kind>)
    }

    /// P(the first has the higher bin) + P(equal) / 2.
    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        let (first, second) = both(pairs);
        let below = second.cumsum(1, None::<Kind>) - &second * 0.5;
        sum_last(&(first * below))
    }

    fn measures(&self) -> Vec<Measured> {
        vec![Measured::plain("dprm")]
    }

    fn numbers(&self, outputs: &Tensor) -> Tensor {
        scores(outputs).unsqueeze(1)
    }

    fn parameters(&self) -> Parameters {
        vec![("bins.weight".into(), self.weight.shallow_clone()), ("bins.bias".into(), self.bias.shallow_clone())]
    }

    fn groups(&self) -> Vec<Group> {
        vec![Group::plain(self.parameters())]
    }
}
