//! Intervals of the real numbers.

use toml::Value;

/// An interval of the real numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    pub low: f64,
    pub high: f64,
    pub low_open: bool,
    pub high_open: bool,
}

impl Range {
    /// Every finite number.
    pub const ANY: Range = Range { low: f64::NEG_INFINITY, high: f64::INFINITY, low_open: true, high_open: true };
    pub const POSITIVE: Range = Range { low: 0.0, high: f64::INFINITY, low_open: true, high_open: true };
    pub const NOT_NEGATIVE: Range = Range { low: 0.0, high: f64::INFINITY, low_open: false, high_open: true };
    /// [0, 1]
    pub const UNIT: Range = Range { low: 0.0, high: 1.0, low_open: false, high_open: false };
    /// [0, 1)
    pub const FRACTION: Range = Range { low: 0.0, high: 1.0, low_open: false, high_open: true };
    /// (0, 1)
    pub const INSIDE: Range = Range { low: 0.0, high: 1.0, low_open: true, high_open: true };
    /// (0, 1]
    pub const SHARE: Range = Range { low: 0.0, high: 1.0, low_open: true, high_open: false };

    fn holds(&self, x: f64) -> bool {
        let above = if self.low_open { x > self.low } else { x >= self.low };
        let below = if self.high_open { x < self.high } else { x <= self.high };
        above && below
    }

    /// `value` as a number, if it is one in the interval; whole numbers become reals.
    pub fn number(&self, value: &Value) -> Option<f64> {
        let x = value.as_float().or_else(|| value.as_integer().map(|i| i as f64))?;
        (x.is_finite() && self.holds(x)).then_some(x)
    }

    pub fn words(&self) -> String {
        match (self.high.is_infinite(), self.low_open) {
            (true, _) if self.low.is_infinite() => "a number".into(),
            (true, true) => format!("a number above {}", self.low),
            (true, false) => format!("a number of at least {}", self.low),
            (false, _) => {
                let (a, b) = (if self.low_open { '(' } else { '[' }, if self.high_open { ')' } else { ']' });
                format!("a number in {a}{}, {}{b}", self.low, self.high)
            }
        }
    }
}
