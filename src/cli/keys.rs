//! `diffpref keys`: keys of the configuration.

use super::terminal;
use diffpref::keys::{ConfigError, nearest};
use diffpref::settings::{self, Described, tables::TABLES};
use serde_json::{Map, json};

#[derive(clap::Args)]
#[command(after_help = "Example:\n  diffpref keys optim")]
pub struct Args {
    /// Table of the configuration, as train or optim [default: all but [method]]
    table: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let tables: Vec<(&str, Vec<Described>)> = match &args.table {
        None => TABLES.iter().map(|table| (table.name, table.described())).collect(),
        Some(name) => {
            let table = settings::table(name).ok_or_else(|| unknown(name))?;
            vec![(table.name, table.described())]
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

fn unknown(name: &str) -> ConfigError {
    if name == "method" {
        return ConfigError("keys of [method] depend on the method: `diffpref methods NAME` lists them".into());
    }
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let hint = nearest(name, &names).map_or(".".into(), |near| format!(", did you mean {near}?"));
    ConfigError(format!("there is no table [{name}]{hint} Tables: {}.", names.join(", ")))
}
