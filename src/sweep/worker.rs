//! A worker: claims work, does it, and settles the claim, until nothing is left.

use super::folder::Folder;
use super::judge::{judge_trial, train_trial};
use super::ledger::{Entries, Ledger, Spent, Status};
use super::next::{belongs, ready};
use super::owner::{Alive, Watch};
use super::pulse::Pulse;
use super::work::{Stage, Work};
use crate::progress::{Progress, Stop, Stopped};
use crate::run_folder::Busy;
use crate::train::Resident;
use anyhow::{Context, Result, anyhow, bail};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Longest pause between two looks at the claims of others.
const PAUSE: Duration = Duration::from_secs(2);
/// Errors of the operating system after which every further trial would fail too: no space, file too large, quota.
const FULL: [i32; 3] = [libc::ENOSPC, libc::EFBIG, libc::EDQUOT];

/// Work that one worker has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    pub finished: usize,
    pub failed: usize,
}

struct Worker<'a> {
    folder: &'a Folder,
    ledger: Ledger,
    alive: Alive,
    watch: Watch,
    resident: Resident,
    progress: &'a dyn Progress,
    stop: &'a Stop,
    done: Done,
}

/// Works until nothing is left to do: also work of others that die meanwhile. `only`: the number of one trial, whose work
/// alone is done, as far as it waits for no other trial.
///
/// # Errors
/// [`Stopped`] after a signal; a full disk; an unusable database. A failed trial is no error.
pub fn work(
    folder: &Folder,
    ledger: Ledger,
    only: Option<usize>,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Done> {
    let alive = Alive::begin(&folder.path)?;
    let watch = Watch::new(Duration::from_secs_f64(folder.sweep.lease_s));
    let mut worker =
        Worker { folder, ledger, alive, watch, resident: Resident::default(), progress, stop, done: Done::default() };
    let mut said = false;
    loop {
        stop.check()?;
        if let Some(work) = worker.next(only)? {
            worker.do_one(&work)?;
            said = false;
            continue;
        }
        let entries = worker.ledger.entries()?;
        let others = entries.iter().filter(|(work, entry)| {
            entry.status == Status::Claimed && only.is_none_or(|number| belongs(folder, work, number))
        });
        let others: Vec<String> = others.map(|(work, _)| work.title()).collect();
        if others.is_empty() {
            return Ok(worker.done);
        }
        if !said {
            progress.line(&format!("waiting for other workers: {}", others.join("; ")));
            said = true;
        }
        std::thread::sleep(PAUSE.min(Duration::from_secs_f64(folder.sweep.lease_s / 4.0)));
    }
}

impl Worker<'_> {
    /// Claims dead workers' work, else free work.
    fn next(&mut self, only: Option<usize>) -> Result<Option<Work>> {
        let Self { folder, ledger, alive, watch, progress, .. } = self;
        let (now, me) = (Instant::now(), &alive.owner);
        ledger.alone(|rows| {
            let entries = rows.entries()?;
            for (work, entry) in entries.iter().filter(|(_, entry)| entry.status == Status::Claimed) {
                let wanted = only.is_none_or(|number| belongs(folder, work, number));
                if wanted && watch.is_dead(&folder.path, &work.title(), &entry.owner, entry.beats, me, now) {
                    progress.line(&format!("{}: its worker is gone, it is continued here", work.title()));
                    rows.claim(work, me)?;
                    return Ok(Some(*work));
                }
            }
            let work = ready(folder, &entries, only)?.first().copied();
            if let Some(work) = &work {
                rows.claim(work, me)?;
            }
            Ok(work)
        })
    }

    fn do_one(&mut self, work: &Work) -> Result<()> {
        let trial = self.folder.plan.trial(work.trial).context("the database has a trial that the sweep lacks")?;
        self.progress.line(&format!("{}: {}", self.folder.title(trial), work.stage));
        let entries = self.ledger.entries()?;
        let pulse = Pulse::begin(&self.folder.path, work, &self.alive.owner, self.folder.sweep.lease_s, self.stop)?;
        let started = Instant::now();
        let outcome = self.run(work, &entries);
        if pulse.is_lost() {
            bail!(
                "{}: another worker took it over, because this one was silent for longer than lease_s; this one ends",
                work.title()
            );
        }
        drop(pulse);
        let spent = Spent { seconds: started.elapsed().as_secs_f64(), ..outcome.as_ref().copied().unwrap_or_default() };
        self.settle(work, outcome, spent)
    }

    fn settle(&mut self, work: &Work, outcome: Result<Spent>, spent: Spent) -> Result<()> {
        let owner = &self.alive.owner;
        let settle = |status: Status, reason: Option<&str>| self.ledger.settle(work, owner, status, reason, spent);
        match outcome {
            Ok(_) => {
                settle(Status::Finished, None)?;
                self.done.finished += 1;
                self.progress.line(&format!("{}: done after {:.0} s", work.title(), spent.seconds));
                Ok(())
            }
            Err(error) if error.is::<Stopped>() => {
                settle(Status::Free, None)?;
                Err(error)
            }
            // Its former worker still writes: later.
            Err(error) if error.is::<Busy>() => {
                settle(Status::Free, None)?;
                self.progress.line(&format!("{}: {error:#}", work.title()));
                std::thread::sleep(PAUSE);
                Ok(())
            }
            Err(error) if is_full(&error) => {
                // The database may be on the same disk: a claim of this process counts as free once it ends.
                let _ = settle(Status::Free, None);
                Err(error.context(format!(
                    "{}: the disk is full. Free space and start the sweep again: finished trials are kept, this one continues",
                    work.title()
                )))
            }
            Err(error) => {
                let reason = format!("{error:#}");
                settle(Status::Failed, Some(&reason))?;
                self.done.failed += 1;
                self.progress.line(&format!("{}: failed: {reason}", work.title()));
                Ok(())
            }
        }
    }

    fn run(&mut self, work: &Work, entries: &Entries) -> Result<Spent> {
        let trial = self.folder.plan.trial(work.trial).context("no such trial")?;
        let (folder, progress, stop, resident) = (self.folder, self.progress, self.stop, &mut self.resident);
        let run = || match work.stage {
            Stage::Train => train_trial(folder, trial, work, resident, progress, stop),
            Stage::Choose | Stage::Judge => {
                judge_trial(folder, entries, trial, work.stage, progress, stop).map(|()| Spent::default())
            }
        };
        catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Err(anyhow!("a fault of the program: {}", text_of(panic.as_ref()))))
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

fn is_full(error: &anyhow::Error) -> bool {
    let of_system = |error: &std::io::Error| error.raw_os_error().is_some_and(|code| FULL.contains(&code));
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(of_system)
            || FULL.iter().any(|code| cause.to_string().contains(&std::io::Error::from_raw_os_error(*code).to_string()))
    })
}
