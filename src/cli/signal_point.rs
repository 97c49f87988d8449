//! A hook for tests: a signal that the process sends itself at a fixed point of its work, so that tests stop and kill runs
//! in the same place every time.
//!
//! `DIFFPREF_TEST_SIGNAL="TERM train 2, validate 1"` sends SIGTERM once the phase `train` has 2 units done and, after
//! that, the phase `validate` has 1. Phases are those of progress: encode, rollout, train, validate, sample. With
//! `+ 5` at the end the signal waits until the work has asked 5 more times whether to stop; a training step asks after
//! each micro-batch.

use diffpref::progress::{Progress, Stop};
use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const VARIABLE: &str = "DIFFPREF_TEST_SIGNAL";

static POINT: OnceLock<Point> = OnceLock::new();

struct Point {
    signal: i32,
    /// Phases and how many of their units are done, to be reached one after the other.
    stages: Vec<(String, u64)>,
    /// How often the work asks after the last stage.
    asks: u64,
    reached: AtomicUsize,
    asked: AtomicU64,
    stop: Stop,
}

/// `stop`, which fires the signal of the environment where there is one.
///
/// # Errors
/// The variable is set and not understood.
pub fn watched(stop: Stop) -> Result<Stop, String> {
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(stop) };
    let wrong = || format!("{VARIABLE}=\"{text}\": expected a point such as \"TERM train 2, validate 1 + 5\"");
    let point = Point::parse(&text, stop.clone()).ok_or_else(wrong)?;
    POINT.get_or_init(|| point);
    Ok(stop.heard_by(|| {
        if let Some(point) = POINT.get() {
            point.ask();
        }
    }))
}

/// `sink`, which tells the point what is done.
pub fn observed(sink: Box<dyn Progress>) -> Box<dyn Progress> {
    match POINT.get() {
        Some(point) => Box::new(Observed { sink, point, phases: RefCell::default() }),
        None => sink,
    }
}

impl Point {
    fn parse(text: &str, stop: Stop) -> Option<Self> {
        let (signal, rest) = text.trim().split_once(' ')?;
        let signal = match signal {
            "INT" => libc::SIGINT,
            "TERM" => libc::SIGTERM,
            "KILL" => libc::SIGKILL,
            _ => return None,
        };
        let (stages, asks) = rest.split_once('+').unwrap_or((rest, "0"));
        let stage = |stage: &str| {
            let (phase, done) = stage.trim().split_once(' ')?;
            Some((phase.to_string(), done.trim().parse().ok()?))
        };
        let stages = stages.split(',').map(stage).collect::<Option<Vec<_>>>()?;
        let asks = asks.trim().parse().ok()?;
        Some(Self { signal, stages, asks, reached: AtomicUsize::new(0), asked: AtomicU64::new(0), stop })
    }

    fn pass(&self, phase: &str, done: u64) {
        let reached = self.reached.load(SeqCst);
        if self.stages.get(reached).is_some_and(|(name, least)| name == phase && done >= *least) {
            self.reached.store(reached + 1, SeqCst);
            if reached + 1 == self.stages.len() && self.asks == 0 {
                self.fire();
            }
        }
    }

    fn ask(&self) {
        if self.reached.load(SeqCst) == self.stages.len() && self.asked.fetch_add(1, SeqCst) + 1 == self.asks {
            self.fire();
        }
    }

    /// Sends the signal and waits until it has been noticed.
    fn fire(&self) {
        eprintln!("{VARIABLE}: the point is reached");
        // SAFETY: raising a signal has no preconditions.
        unsafe { libc::raise(self.signal) };
        while self.stop.requested().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Observed {
    sink: Box<dyn Progress>,
    point: &'static Point,
    phases: RefCell<Vec<String>>,
}

impl Progress for Observed {
    fn begin(&self, phase: &str, done: u64, total: u64) {
        self.sink.begin(phase, done, total);
        self.phases.borrow_mut().push(phase.into());
        self.point.pass(phase, done);
    }

    fn begin_steps(&self, phase: &str, done: u64, total: u64, every: u64) {
        self.sink.begin_steps(phase, done, total, every);
        self.phases.borrow_mut().push(phase.into());
        self.point.pass(phase, done);
    }

    fn advance(&self, done: u64, note: &str) {
        self.sink.advance(done, note);
        if let Some(phase) = self.phases.borrow().last() {
            self.point.pass(phase, done);
        }
    }

    fn end(&self) {
        self.sink.end();
        self.phases.borrow_mut().pop();
    }

    fn line(&self, text: &str) {
        self.sink.line(text);
    }

    fn metrics(&self, json: &str) {
        self.sink.metrics(json);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_signal_stages_and_a_number_of_asks() {
        let point = Point::parse("TERM train 2, validate 1 + 5", Stop::default()).unwrap();
        assert_eq!((point.signal, point.asks), (libc::SIGTERM, 5));
        assert_eq!(point.stages, [("train".to_string(), 2), ("validate".to_string(), 1)]);
        for wrong in ["", "TERM", "HUP train 2", "TERM train", "TERM train 2 +", "TERM train two"] {
            assert!(Point::parse(wrong, Stop::default()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn stages_are_reached_one_after_the_other() {
        let point = Point::parse("TERM train 2, validate 1 + 5", Stop::default()).unwrap();
        for (phase, done, reached) in
            [("validate", 3, 0), ("train", 1, 0), ("train", 2, 1), ("validate", 0, 1), ("validate", 1, 2)]
        {
            point.pass(phase, done);
            assert_eq!(point.reached.load(SeqCst), reached, "{phase} {done}");
        }
    }
}
