//! The ledger of a run: opened by everything that errors depend on, filled ahead on request, written while training.

use super::environment::{Contents, cpu_capability};
use super::feed::Feed;
use super::host::Host;
use super::opened::Opened;
use crate::data::batches::Batch;
use crate::ledger::{ErrorLedger, Origin, Part, Used};
use crate::machine::hashes::of_bytes;
use crate::networks::{Machine, Networks, SharedLedger, WithLedger, load_start, missing};
use crate::progress::Progress;
use crate::run_folder::RunDir;
use crate::settings::Settings;
use anyhow::Result;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use tch::{Device, Kind};

/// Changes of the program's arithmetic that make stored errors stale.
const ARITHMETIC: u32 = 1;

/// The ledger of a run.
pub struct RunLedger {
    shared: SharedLedger,
    part: Part,
    /// Place of the run's own record; `None` on ranks that do not write.
    run: Option<PathBuf>,
    /// The run's record as it was before this process.
    before: Used,
}

impl RunLedger {
    /// Opens the ledger of a run; `None` if it uses none. `resumed`: counts continue.
    pub fn open(opened: &Opened, contents: &Contents, machine: Machine, dir: &RunDir, resumed: bool) -> Option<Self> {
        let config = &opened.config;
        if !config.stores_errors() {
            return None;
        }
        let (cache_dir, seed) = (&config.data.cache_dir, config.train.seed);
        let ledger = ErrorLedger::open(cache_dir, origin(opened, contents, machine), seed, machine.master);
        let mut before = Used { ledger: ledger.name(), seed, read: 0, computed: 0 };
        if let Some(then) = Used::of_run(&dir.path).filter(|then| resumed && then.ledger == before.ledger) {
            (before.read, before.computed) = (then.read, then.computed);
        }
        let run = dir.writes().then(|| dir.path.clone());
        let ledger = Self { shared: Rc::new(RefCell::new(ledger)), part: Part::Seed(seed), run, before };
        ledger.record();
        Some(ledger)
    }

    /// Passes messages about stored errors on: their number, and what is not read.
    pub fn announce(&self, progress: &dyn Progress) {
        self.say(progress);
        let ledger = self.shared.borrow();
        progress.line(&format!("ledger: {} records in {}", ledger.len(), ledger.path().display()));
    }

    /// Puts the start model of `networks` behind the ledger. A full fine-tune whose ledger is filled has no start model.
    pub fn attach(&self, networks: &mut Networks) {
        let network = networks.start.take();
        networks.start = Some(Box::new(WithLedger { network, ledger: self.shared.clone(), part: self.part }));
    }

    /// Writes new records if enough have come together, and passes messages on.
    pub fn after_step(&self, progress: &dyn Progress) {
        if self.shared.borrow().is_due() {
            self.flush(progress);
        }
    }

    /// Writes all new records and the run's counts, and passes messages on.
    pub fn flush(&self, progress: &dyn Progress) {
        self.shared.borrow_mut().flush();
        self.record();
        self.say(progress);
    }

    /// Writes the rest, and says how many errors were stored already.
    pub fn close(&self, progress: &dyn Progress) {
        self.flush(progress);
        let ledger = self.shared.borrow();
        let (read, computed) = (ledger.read, ledger.computed);
        progress.line(&format!("ledger: {read} errors of the reference read, {computed} computed"));
    }

    fn say(&self, progress: &dyn Progress) {
        let notes = std::mem::take(&mut self.shared.borrow_mut().notes);
        notes.iter().for_each(|note| progress.line(note));
    }

    /// The counts of the run serve `cache ledger`; without them only the hit rate is unknown.
    fn record(&self) {
        let (read, computed) = {
            let ledger = self.shared.borrow();
            (self.before.read + ledger.read, self.before.computed + ledger.computed)
        };
        if let Some(run) = &self.run {
            let _ = Used { read, computed, ..self.before.clone() }.write(run);
        }
    }

    /// Fills the ledger of a full fine-tune before the policy is loaded. The reference is dropped at the end.
    ///
    /// # Errors
    /// Those of [`fill`](Self::fill).
    pub fn fill_alone(&self, opened: &Opened, machine: Machine, feed: &Feed, done: u64, host: &Host) -> Result<()> {
        let mut networks = load_start(&opened.config, &opened.folder, machine)?;
        self.attach(&mut networks);
        self.fill(&opened.config, &networks, feed, done, host)
    }

    /// Computes the errors that the ledger lacks of the steps after `done` and of the held-out items.
    ///
    /// # Errors
    /// `Stopped`: what is computed so far is kept. Errors of the network or the caches.
    pub fn fill(&self, config: &Settings, networks: &Networks, feed: &Feed, done: u64, host: &Host) -> Result<()> {
        let share = host.world.share(config.train.grad_accum);
        let held_out = if config.validates_every() > 0 { feed.validation_len() as u64 } else { 0 };
        let per_step = share.end - share.start;
        let total = config.train.steps.saturating_sub(done) * per_step + held_out;
        host.progress.begin("ledger", 0, total);
        let training = (done + 1..=config.train.steps)
            .flat_map(|s| feed.planned(s, share.clone()))
            .map(|batch| (self.part, batch));
        let validation = feed.validation().take(held_out as usize);
        let validation = validation.map(|item| (Part::HeldOut, item.map(|item| Some(item.batch))));
        let filled = training.chain(validation).zip(1..).try_for_each(|((part, batch), n)| -> Result<()> {
            if let Some(batch) = batch? {
                self.ensure(networks, part, &batch)?;
            }
            host.progress.advance(n, "");
            self.after_step(host.progress);
            Ok(host.stop.check()?)
        });
        host.progress.end();
        self.flush(host.progress);
        filled
    }

    /// Computes the errors of a batch that are not stored yet.
    fn ensure(&self, networks: &Networks, part: Part, batch: &Batch) -> Result<()> {
        if missing(&self.shared, part, batch)? == 0 {
            return Ok(());
        }
        let noised = networks.noise(batch);
        match part {
            Part::Seed(_) => networks.reference_errors(batch, &noised, false),
            Part::HeldOut => networks.held_out_errors(batch, &noised, false),
        }
        .map(drop)
    }
}

/// Everything that errors depend on besides the rows.
fn origin(opened: &Opened, contents: &Contents, machine: Machine) -> Origin {
    let config = &opened.config;
    let files = ["model.path", "model.unet", "lora.init"].map(|name| contents.get(name));
    // The scale of a LoRA to continue from.
    let scale = config.lora.as_ref().filter(|lora| lora.init.is_some()).map(|lora| lora.alpha);
    let hash = |text: String| of_bytes(text.as_bytes());
    let (device, threads) = match machine.device {
        Device::Cpu => (format!("cpu {}", cpu_capability()), config.train.threads.to_string()),
        // Sums on a card do not depend on threads of the processor.
        Device::Cuda(_) => ("cuda".into(), "any".into()),
        Device::Mps => ("mps".into(), "any".into()),
        Device::Vulkan => ("vulkan".into(), "any".into()),
    };
    Origin::new([
        ("arithmetic", format!("{} {ARITHMETIC}", env!("CARGO_PKG_VERSION"))),
        ("libtorch", diffpref_native::LIBTORCH_VERSION.into()),
        ("model", hash(format!("{files:?} {scale:?}"))),
        ("noise process", hash(format!("{:?}", opened.folder.scheduler()))),
        ("dtype", named(machine.compute, machine.master)),
        ("device", device),
        ("threads", threads),
    ])
}

fn named(compute: Kind, master: Kind) -> String {
    format!("{compute:?} {master:?}").to_lowercase()
}
