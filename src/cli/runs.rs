//! `diffpref runs`

use super::terminal;
use anyhow::Result;
use clap::Subcommand;
use diffpref::keys::ConfigError;
use diffpref::machine::files::write_atomically;
use diffpref::runs::{self, Filter, Form, Order, Record, Store};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  diffpref runs list --where 'method.beta > 1000 and val_margin > 0' --sort -val_margin
  diffpref runs show quickstart
  diffpref runs compare try-1 try-2 --out compare.html
  diffpref runs rm try-1 --yes
  diffpref runs rebuild";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// Folder of the runs, with their database
    #[arg(long, value_name = "DIR", default_value = "runs", global = true)]
    root: PathBuf,
}

#[derive(Subcommand)]
enum Action {
    /// List runs
    List(List),
    /// Show all that is known of a run
    Show {
        /// Folder of the run, or its path below --root
        run: PathBuf,
        /// One JSON object on stdout
        #[arg(long)]
        json: bool,
    },
    /// Compare runs in a page: settings that differ, newest values, curves
    Compare {
        /// Folders of runs, or their paths below --root
        #[arg(required = true, num_args = 2..)]
        runs: Vec<PathBuf>,
        /// The page
        #[arg(long, value_name = "FILE", default_value = "compare.html")]
        out: PathBuf,
    },
    /// Remove the folders of runs
    Rm {
        /// Folders of runs, or their paths below --root
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Confirms the removal
        #[arg(long)]
        yes: bool,
    },
    /// Read all run folders again
    Rebuild,
}

#[derive(clap::Args)]
struct List {
    /// Condition on values, such as 'method.beta > 1000 and status = "finished"'
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<Filter>,
    /// Key to sort by; -KEY: the largest first
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    sort: Option<Order>,
    /// Keys to show, separated by commas
    #[arg(long, value_name = "KEY,..", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// Comma-separated values
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// All values of every run as a JSON array
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    if !args.root.is_dir() {
        return Err(ConfigError(format!("--root {}: there is no such folder", args.root.display())).into());
    }
    let store = Store::open(&args.root, &mut |line| terminal::say(&line))?;
    match args.action {
        Action::List(list) => self::list(&store, &list),
        Action::Show { run, json } => {
            let record = store.find(&run)?;
            match json {
                true => terminal::print(&format!("{}\n", serde_json::to_string_pretty(&record)?)),
                false => terminal::print(&runs::described(&record)),
            }
        }
        Action::Compare { runs, out } => {
            let records = runs.iter().map(|run| store.find(run)).collect::<Result<Vec<Record>>>()?;
            write_atomically(&out, runs::compare(&store.root, &records)?.as_bytes())?;
            terminal::print(&format!("{}\n", out.display()))
        }
        Action::Rm { runs, yes } => rm(&store, &runs, yes),
        Action::Rebuild => {
            let count = store.rebuild(&mut |line| terminal::say(&line))?;
            terminal::print(&format!("{count} runs in {}\n", store.root.join(runs::FILE).display()))
        }
    }
}

fn list(store: &Store, list: &List) -> Result<()> {
    let form = match (list.csv, list.json) {
        (true, _) => Form::Csv,
        (false, true) => Form::Json,
        (false, false) => Form::Text,
    };
    let rows = runs::rows(store.all()?, list.condition.as_ref(), list.sort.as_ref())?;
    terminal::print(&runs::shown(&rows, list.columns.as_deref(), form)?)
}

fn rm(store: &Store, runs: &[PathBuf], yes: bool) -> Result<()> {
    let records = runs.iter().map(|run| store.find(run)).collect::<Result<Vec<Record>>>()?;
    if !yes {
        let names: Vec<&str> = records.iter().map(|record| record.path.as_str()).collect();
        let text = format!("{} would be removed with all files; confirm with --yes", names.join(", "));
        return Err(ConfigError(text).into());
    }
    for record in &records {
        runs::remove(store, record)?;
        terminal::print(&format!("removed {}\n", record.path))?;
    }
    Ok(())
}
