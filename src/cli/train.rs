//! `diffpref train`

use super::terminal;
use anyhow::Result;
use diffpref::progress::Stop;
use diffpref::run_folder::Resume;
use diffpref::runs;
use diffpref::settings;
use diffpref::train::{self, Host, Outcome, Resident};
use diffpref::world::Alone;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  diffpref train configs/quickstart.toml --set optim.lr=2e-4 --set train.out=runs/try"
)]
pub struct Args {
    /// Configuration of the run, a TOML file
    config: PathBuf,
    /// Value of a key in place of the file's; repeatable
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
    sets: Vec<String>,
    /// Continue from the newest checkpoint; auto: start where there is nothing to resume
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_enum)]
    resume: Option<ResumeArg>,
    /// Compute all errors of the reference before the first step; a full fine-tune then trains without the reference
    #[arg(long)]
    ledger_first: bool,
    /// Plan of the run on stdout, after all checks; nothing is written
    #[arg(long)]
    dry_run: bool,
    /// Metrics on stdout, one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Value of `--resume`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum ResumeArg {
    Yes,
    Auto,
}

impl ResumeArg {
    /// The mode of a run; `None`: the option is absent.
    pub fn mode(given: Option<Self>) -> Resume {
        match given {
            Some(Self::Auto) => Resume::Auto,
            Some(Self::Yes) => Resume::Yes,
            None => Resume::No,
        }
    }
}

pub fn run(args: &Args, stop: &Stop) -> Result<()> {
    let progress = terminal::sink(args.json);
    let document = settings::load(&args.config, &args.sets)?;
    for note in &document.notes {
        progress.line(note);
    }
    let mut opened = train::open(&document, progress.as_ref())?;
    if args.ledger_first {
        opened = opened.with_ledger_first()?;
    }
    tch::set_num_threads(opened.config.train.threads as i32);
    if args.dry_run {
        let plan = train::plan::dry_run(&opened)?;
        match args.json {
            true => terminal::print(&format!("{}\n", serde_json::to_string_pretty(&plan)?))?,
            false => terminal::print(&plan.text())?,
        }
        return Ok(());
    }
    let host = Host { world: &Alone, progress: progress.as_ref(), stop };
    let out = opened.config.train.out.clone();
    runs::begun(&out, &opened.config.table()?, progress.as_ref());
    let trained = train::run(&mut Resident::default(), opened, ResumeArg::mode(args.resume), &host);
    runs::ended(&out, &trained, progress.as_ref());
    match trained? {
        Outcome::Finished { out, step } => {
            progress.line(&format!("finished at step {step}: {}/final, {}/report.html", out.display(), out.display()));
        }
        Outcome::AlreadyFinished { out, step } => progress.line(&format!("{}: already at step {step}", out.display())),
    }
    Ok(())
}
