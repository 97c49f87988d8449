//! The sink of progress and the stop signal of a long call.
//!
//! Library code reports to a [`Progress`] and polls a [`Stop`]. Terminals, pipes and signals belong to the CLI.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// A sink for progress. Implementations: a terminal bar, plain lines, JSON lines, nothing.
pub trait Progress {
    /// Begins a phase ("encode", "train", "sample", "validate") of `total` units, `done` of which are done already.
    fn begin(&self, phase: &str, done: u64, total: u64);
    /// `begin` for a phase whose units are optimizer steps: plain lines appear every `every` steps.
    fn begin_steps(&self, phase: &str, done: u64, total: u64, _every: u64) {
        self.begin(phase, done, total);
    }
    /// Sets the number of finished units of the current phase; `note` appears next to the bar.
    fn advance(&self, done: u64, note: &str);
    /// Ends the phase. `begin` may nest: the bar of the outer phase returns.
    fn end(&self);
    /// One line for the user: a warning, a forecast, a decision taken.
    fn line(&self, text: &str);
    /// One line about the size and duration of a phase.
    fn forecast(&self, text: &str) {
        self.line(text);
    }
    /// One finished metrics line (a JSON object), for `--json`.
    fn metrics(&self, _json: &str) {}
}

/// Reports nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn end(&self) {}
    fn line(&self, _: &str) {}
}

/// The signals that ask a run to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// The exit code that tells a caller which signal ended the program.
    pub fn exit_code(self) -> u8 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
        }
    }
}

/// A call was stopped by a signal at a point from which it can continue later.
#[derive(Debug, thiserror::Error)]
#[error("stopped by {}", match .0 { Signal::Interrupt => "Ctrl-C", Signal::Terminate => "SIGTERM" })]
pub struct Stopped(pub Signal);

/// The numbers diverged: the run cannot continue from here.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Halted {
    reason: String,
    /// Whether the weights of the last finished step are valid and hence checkpointed. Otherwise the last checkpoint
    /// is the state to continue from, and no newer one may replace it.
    pub last_step_is_good: bool,
}

impl Halted {
    /// Detected before the weights changed.
    pub fn before_update(reason: String) -> Self {
        Self { reason, last_step_is_good: true }
    }

    /// Detected when the weights may be damaged.
    pub fn too_late(reason: String) -> Self {
        Self { reason, last_step_is_good: false }
    }
}

/// A flag shared between the signal handler and the work.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    signal: Arc<AtomicI32>,
    listener: Option<fn()>,
}

impl Stop {
    /// As this one, and calls `listener` whenever the work asks for the signal.
    pub fn heard_by(self, listener: fn()) -> Self {
        Self { listener: Some(listener), ..self }
    }

    pub fn request(&self, signal: Signal) {
        self.signal.store(i32::from(signal.exit_code()), Ordering::SeqCst);
    }

    /// The signal that requested the stop, if any.
    pub fn requested(&self) -> Option<Signal> {
        if let Some(listener) = self.listener {
            listener();
        }
        match self.signal.load(Ordering::SeqCst) {
            130 => Some(Signal::Interrupt),
            143 => Some(Signal::Terminate),
            _ => None,
        }
    }

    /// `Err(Stopped)` after a stop signal; called between units of work.
    pub fn check(&self) -> Result<(), Stopped> {
        self.requested().map_or(Ok(()), |s| Err(Stopped(s)))
    }
}
