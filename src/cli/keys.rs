//! `diffpref keys`: keys of the configuration.

use super::terminal;
use diffpref::heads::Objective;
use diffpref::keys::{Choice, ConfigError, nearest};
use diffpref::scorer_training;
use diffpref::settings::{Described, tables::TABLES};
use serde_json::{Map, json};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  diffpref keys optim\n  diffpref keys gpm --scorer")]
pub struct Args {
    /// Table of the configuration, as train or optim [default: all but [method]]
    table: Option<String>,
    /// Keys of train-scorer's configuration, those of [method] by the method's name
    #[arg(long)]
    scorer: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let all: Vec<(&str, Vec<Described>)> = match args.scorer {
        false => TABLES.iter().map(|table| (table.name, table.described())).collect(),
        true => of_scorers(),
    };
    let tables = match &args.table {
        None => all,
        Some(name) => {
            let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
            let found =
                names.iter().position(|known| known == name).ok_or_else(|| unknown(name, &names, args.scorer))?;
            all.into_iter().skip(found).take(1).collect()
        }
    };
    if args.json {
        let all: Map<String, serde_json::Value> =
            tables.into_iter().map(|(name, keys)| (name.to_string(), json!(keys))).collect();
        return terminal::print(&format!("{}\n", serde_json::to_string_pretty(&all)?));
    }
    let text: Vec<String> = tables.iter().map(|(name, keys)| format!("[{name}]\n{}", listed(keys))).collect();
    terminal::print(&text.join("\n"))
}

/// Keys with values, default and meaning, three lines at most each.
pub fn listed(keys: &[Described]) -> String {
    let line = |key: &Described| {
        let default = key.default_words();
        let default = if default.is_empty() { default } else { format!(" [{default}]") };
        format!("  {}{default}\n      {}\n      {}\n", key.key, key.help, key.values)
    };
    keys.iter().map(line).collect()
}

/// Tables of train-scorer's configuration, and the keys of [method] by method.
fn of_scorers() -> Vec<(&'static str, Vec<Described>)> {
    let tables = scorer_training::settings::TABLES.iter().map(|table| (table.name, table.described()));
    let methods = Objective::ALL.iter().map(|objective| {
        let keys = objective.keys().iter().map(|key| Described::of(objective.name(), key));
        (objective.name(), keys.collect())
    });
    tables.chain(methods).collect()
}

fn unknown(name: &str, names: &[&str], scorer: bool) -> ConfigError {
    if name == "method" && !scorer {
        return ConfigError("keys of [method] depend on the method: `diffpref methods NAME` lists them".into());
    }
    let hint = nearest(name, names).map_or(".".into(), |near| format!(", did you mean {near}?"));
    ConfigError(format!("there is no table [{name}]{hint} Tables: {}.", names.join(", ")))
}
