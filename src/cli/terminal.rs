//! Progress for people and programs: bars on a terminal, plain lines in a pipe, metric lines.

use super::signal_point;
use anyhow::Context;
use diffpref::progress::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The sink that fits the kind of stderr.
pub fn sink(json: bool) -> Box<dyn Progress> {
    signal_point::observed(if std::io::stderr().is_terminal() {
        Box::new(Bars { json, lines: MultiProgress::new(), stack: RefCell::default() })
    } else {
        Box::new(Lines { json, stack: RefCell::default() })
    })
}

/// indicatif bars, one below the other for the current phases.
struct Bars {
    json: bool,
    lines: MultiProgress,
    stack: RefCell<Vec<ProgressBar>>,
}

impl Progress for Bars {
    fn begin(&self, phase: &str, done: u64, total: u64) {
        let bar = self.lines.add(ProgressBar::new(total));
        let template = if std::env::var_os("NO_COLOR").is_some() {
            "{prefix:9} {bar:30} {pos}/{len}  {msg}  {elapsed} passed, {eta} left"
        } else {
            "{prefix:9.bold} {bar:30.cyan/blue} {pos}/{len}  {msg}  {elapsed} passed, {eta} left"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(phase.to_string());
        bar.set_position(done);
        // The remaining time follows from the speed of this process, right after a resume too.
        bar.reset_eta();
        self.stack.borrow_mut().push(bar);
    }

    fn advance(&self, done: u64, note: &str) {
        if let Some(bar) = self.stack.borrow().last() {
            bar.set_message(note.to_string());
            bar.set_position(done);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.stack.borrow_mut().pop() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        // Above the bars.
        self.lines.suspend(|| say(text));
    }

    fn metrics(&self, json: &str) {
        self.lines.suspend(|| print_metrics(self.json, json));
    }
}

/// Plain lines: every n-th optimizer step; other phases at most one line every ten seconds.
struct Lines {
    json: bool,
    stack: RefCell<Vec<Phase>>,
}

struct Phase {
    name: String,
    first: u64,
    done: u64,
    total: u64,
    note: String,
    began: Instant,
    said: Option<Instant>,
    /// Steps between lines; `None`: time decides.
    every: Option<u64>,
}

const PAUSE: Duration = Duration::from_secs(10);

impl Phase {
    fn text(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let done = self.done - self.first.min(self.done);
        let left = if done == 0 {
            String::new()
        } else {
            let left = seconds / done as f64 * self.total.saturating_sub(self.done) as f64;
            format!("  {left:.0} s left")
        };
        format!("{} {}/{}  {}{left}", self.name, self.done, self.total, self.note)
    }

    fn due(&self) -> bool {
        match self.every {
            Some(every) => self.done.is_multiple_of(every.max(1)) || self.done == self.total,
            None => self.said.is_none_or(|at| at.elapsed() >= PAUSE),
        }
    }
}

impl Lines {
    fn push(&self, name: &str, done: u64, total: u64, every: Option<u64>) {
        let (began, note) = (Instant::now(), String::new());
        let phase = Phase { name: name.into(), first: done, done, total, note, began, said: None, every };
        self.stack.borrow_mut().push(phase);
    }
}

impl Progress for Lines {
    fn begin(&self, phase: &str, done: u64, total: u64) {
        self.push(phase, done, total, None);
    }

    fn begin_steps(&self, phase: &str, done: u64, total: u64, every: u64) {
        self.push(phase, done, total, Some(every));
    }

    fn advance(&self, done: u64, note: &str) {
        if let Some(phase) = self.stack.borrow_mut().last_mut() {
            phase.done = done;
            phase.note = note.into();
            if phase.due() {
                phase.said = Some(Instant::now());
                say(&phase.text());
            }
        }
    }

    fn end(&self) {
        if let Some(phase) = self.stack.borrow_mut().pop()
            && phase.done > phase.first
        {
            let seconds = phase.began.elapsed().as_secs_f64();
            say(&format!("{} {}/{}  {}  after {seconds:.1} s", phase.name, phase.done, phase.total, phase.note));
        }
    }

    fn line(&self, text: &str) {
        say(text);
    }

    fn metrics(&self, json: &str) {
        print_metrics(self.json, json);
    }
}

fn print_metrics(wanted: bool, json: &str) {
    if wanted {
        // A closed reader is no reason to stop training.
        let _ = writeln!(std::io::stdout().lock(), "{json}");
    }
}

/// One line to stderr. A closed pipe (`2>&1 | head`) is no reason to stop.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A result to stdout. A closed pipe (`| head`) is no error, a full disk is.
pub fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("cannot write to stdout"),
        _ => Ok(()),
    }
}
