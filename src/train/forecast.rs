//! Forecast of a run's duration, reported once after its first twenty steps.

use super::session::Session;
use crate::machine::bytes::in_words;
use crate::machine::clock::utc_after;
use std::collections::BTreeMap;
use std::time::Instant;

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

    /// Runs `work` and adds its time to `phase`.
    pub fn timed<T>(&mut self, phase: &'static str, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.spent(phase, began.elapsed().as_secs_f64());
        done
    }

    pub fn spent(&mut self, phase: &'static str, seconds: f64) {
        *self.spent.entry(phase).or_default() += seconds;
    }

    /// The forecast, once, after enough steps.
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
        let config = &session.config;
        let validation = match config.validates_every() {
            _ if session.start_errors.is_none() => "off".into(),
            every => {
                next(session.step, every, config.train.steps).unwrap_or_else(|| format!("step {}", config.train.steps))
            }
        };
        let samples = next(session.step, config.sample.every, config.train.steps).unwrap_or_else(|| "none".into());
        Some(format!(
            "forecast: {left} steps left, about {} (until {} UTC); next validation {}, next samples {}; disk {} a checkpoint; time: {}",
            duration(seconds),
            utc_after(seconds),
            validation,
            samples,
            in_words(session.checkpoint_bytes()),
            shares.join(", ")
        ))
    }
}

/// The next step at a multiple of `every` up to `steps`; `None` without one, or with `every` 0.
fn next(step: u64, every: u64, steps: u64) -> Option<String> {
    let at = step.checked_div(every)?.saturating_add(1).saturating_mul(every);
    (at <= steps).then(|| format!("step {at}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(duration(12.4), "12 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(3900.0), "1 h 05 min");
    }

    #[test]
    fn what_comes_next_lies_within_the_run() {
        assert_eq!(next(20, 50, 100).as_deref(), Some("step 50"));
        assert_eq!(next(50, 50, 100).as_deref(), Some("step 100"));
        assert_eq!((next(60, 50, 90), next(60, 0, 90)), (None, None));
    }
}
