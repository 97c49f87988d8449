//! Numbers of runs and evaluations, as commands write them and reports read them.

mod agreement;
pub mod evaluation;
mod intervals;
mod line;
mod named;
mod sample_plan;

pub use agreement::{kendall_tau_b, pearson};
pub use intervals::paired_bootstrap;
pub use line::Line;
pub use named::{Gain, Named, REWARD, Role};
pub use sample_plan::SamplePlan;

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
