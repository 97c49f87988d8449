//! What a run will cost, said once after its first twenty steps.

use super::session::Session;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

const AFTER_STEPS: u64 = 20;

/// Time spent by phase since the start or the resume.
pub struct Forecast {
    first_step: u64,
    spent: BTreeMap<&'static str, f64>,
    said: bool,
}

impl Forecast {
    pub fn new(first_step: u64) -> Self {
        Self { first_step, spent: BTreeMap::new(), said: false }
    }

    pub fn spent(&mut self, phase: &'static str, seconds: f64) {
        *self.spent.entry(phase).or_default() += seconds;
    }

    /// The forecast, once, when enough steps are known.
    pub fn due(&mut self, session: &Session) -> Option<String> {
        let done = session.step - self.first_step;
        if self.said || done < AFTER_STEPS {
            return None;
        }
        self.said = true;
        let all: f64 = self.spent.values().sum();
        let left = session.config.train.steps - session.step;
        let seconds = all / done as f64 * left as f64;
        let shares: Vec<String> =
            self.spent.iter().map(|(phase, s)| format!("{phase} {:.0} %", 100.0 * s / all.max(1e-9))).collect();
        let next = |every: u64| {
            if every == 0 { "off".to_string() } else { format!("step {}", (session.step / every + 1) * every) }
        };
        Some(format!(
            "forecast: {left} steps left, about {} (until {} UTC); next validation {}, next samples {}; disk {:.1} MiB a checkpoint; time: {}",
            duration(seconds),
            clock(SystemTime::now() + Duration::from_secs_f64(seconds.min(1e9))),
            next(session.config.validate.every),
            next(session.config.sample.every),
            session.checkpoint_bytes() as f64 / f64::from(1 << 20),
            shares.join(", ")
        ))
    }
}

/// `1 h 05 min`, `3 min 20 s`, `12 s`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// Hours and minutes of a moment, UTC.
fn clock(at: SystemTime) -> String {
    let s = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    format!("{:02}:{:02}", s / 3600 % 24, s / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(duration(12.4), "12 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(3900.0), "1 h 05 min");
    }
}
