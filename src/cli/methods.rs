//! `diffpref methods`: what can be trained.

use super::keys::listed;
use super::terminal;
use diffpref::keys::{ConfigError, nearest};
use diffpref::objectives::{Entry, MethodDescription, REGISTRY, find};
use diffpref::settings::Described;
use serde::Serialize;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  diffpref methods inpo")]
pub struct Args {
    /// Method to describe with its keys [default: a list of all]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Method {
    #[serde(flatten)]
    description: MethodDescription,
    keys: Vec<Described>,
}

impl Method {
    fn of(entry: &Entry) -> Self {
        let keys = entry.keys.iter().map(|key| Described::of(entry.name, key)).collect();
        Self { description: entry.described(), keys }
    }

    fn text(&self) -> String {
        let d = &self.description;
        let needs = if d.needs.is_empty() { "nothing else".into() } else { d.needs.join(", ") };
        let lines = [
            ("title", d.title),
            ("paper", if d.paper.is_empty() { "none" } else { d.paper }),
            ("data", &d.data),
            ("reference", d.reference),
            ("needs", &needs),
            ("cost", d.cost),
            ("take it", d.when),
        ];
        let lines: String = lines.iter().map(|(name, value)| format!("  {name:10} {value}\n")).collect();
        format!("{}\n{lines}\n[method]\n  name = \"{}\"\n{}", d.name, d.name, listed(&self.keys))
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let chosen: Vec<Method> = match &args.name {
        None => REGISTRY.iter().map(Method::of).collect(),
        Some(name) => vec![Method::of(find(name).ok_or_else(|| unknown(name))?)],
    };
    if args.json {
        return terminal::print(&format!("{}\n", serde_json::to_string_pretty(&chosen)?));
    }
    let text = match (&args.name, chosen.as_slice()) {
        (Some(_), [method]) => method.text(),
        _ => chosen
            .iter()
            .map(|m| format!("{:14} {:32} {}\n", m.description.name, m.description.data, m.description.when))
            .collect(),
    };
    terminal::print(&text)
}

fn unknown(name: &str) -> ConfigError {
    let names: Vec<&str> = REGISTRY.iter().map(|entry| entry.name).collect();
    let hint = nearest(name, &names).map_or(".".into(), |near| format!(", did you mean {near}?"));
    ConfigError(format!("there is no method {name}{hint} Methods: {}.", names.join(", ")))
}
