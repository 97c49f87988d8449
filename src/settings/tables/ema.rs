//! [ema]: the average of the weights.

use crate::keys::{Range, within};

crate::keys! {
    pub struct EmaConfig {
        /// 0: none; ema <- decay ema + (1 - decay) weights
        decay: f64 = within(Range::FRACTION).or("0.0"),
    }
}
