//! `diffpref cache`

use super::terminal;
use anyhow::Result;
use clap::Subcommand;
use diffpref::caches::{self, LedgersRequest};
use diffpref::machine::disk::default_cache_dir;
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  diffpref cache ledger
  diffpref cache ledger --runs runs --runs /data/runs --prune";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List stored errors of references: size, records, runs that name them, share that was read
    Ledger(Ledger),
}

#[derive(clap::Args)]
struct Ledger {
    /// As data.cache_dir [default: ~/.cache/diffpref]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Folder of runs; repeatable [default: runs]
    #[arg(long, value_name = "DIR")]
    runs: Vec<PathBuf>,
    /// Remove what no run in these folders names
    #[arg(long)]
    prune: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    match &args.action {
        Action::Ledger(args) => ledger(args),
    }
}

fn ledger(args: &Ledger) -> Result<()> {
    let request = LedgersRequest {
        cache_dir: args.cache_dir.clone().unwrap_or_else(default_cache_dir),
        runs: (!args.runs.is_empty()).then(|| args.runs.clone()),
        prune: args.prune,
    };
    let ledgers = caches::ledgers(&request)?;
    match args.json {
        true => terminal::print(&format!("{}\n", serde_json::to_string_pretty(&ledgers)?)),
        false => terminal::print(&ledgers.text()),
    }
}
