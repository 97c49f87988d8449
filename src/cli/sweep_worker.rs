//! `diffpref sweep-worker`

use super::terminal;
use anyhow::Result;
use diffpref::progress::Stop;
use diffpref::sweep::{self, Folder, Ledger};
use std::path::PathBuf;

const EXAMPLE: &str = "Example:
  diffpref sweep-worker runs/sweeps/dpo-beta-rate

Workers on other machines need the folder at the same place, and the files that the configurations name. The trial of a
worker that died is taken over.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Folder of a sweep that `diffpref sweep` has begun
    folder: PathBuf,
}

pub fn run(args: &Args, stop: &Stop) -> Result<()> {
    let progress = terminal::sink(false);
    let folder = Folder::open(&args.folder)?;
    let (ledger, _) = Ledger::open(&folder.path, &mut |line| progress.line(&line))?;
    let done = sweep::work(&folder, ledger, None, progress.as_ref(), stop)?;
    progress.line(&format!("nothing is left: {} parts finished here, {} failed", done.finished, done.failed));
    Ok(())
}
