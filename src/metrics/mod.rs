//! Numbers of runs and evaluations, as commands write them and reports read them.

mod agreement;
pub mod evaluation;
pub mod implicit;
pub mod intervals;
mod line;
mod named;
mod sample_plan;
pub mod signs;

pub use agreement::{kendall_tau_b, pearson};
pub use line::Line;
pub use named::{Gain, Named, REWARD, Role};
pub use sample_plan::SamplePlan;

/// A share in text: "62.5 %".
pub fn per_cent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// sigma(-u): share of the largest possible gradient that a pair of logit u still has.
pub fn gradient_factor(u: f64) -> f64 {
    1.0 / (1.0 + u.exp())
}

/// 1 above zero, one half at zero.
pub fn wins(u: f64) -> f64 {
    if u > 0.0 {
        1.0
    } else if u == 0.0 {
        0.5
    } else {
        0.0
    }
}
