//! `diffpref scorers`

use super::terminal;
use anyhow::Result;
use diffpref::scorers::{Better, Declaration, Measure, REGISTRY, Range, Scope};
use serde_json::{Value, json};

#[derive(clap::Args)]
#[command(after_help = "Example:\n  diffpref scorers --json")]
pub struct Args {
    /// Print JSON: one list of scorers with their measures
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if args.json {
        let scorers: Vec<Value> = REGISTRY.iter().map(as_json).collect();
        return terminal::print(&format!("{}\n", serde_json::to_string_pretty(&scorers)?));
    }
    terminal::print(&REGISTRY.iter().map(in_words).collect::<Vec<_>>().join("\n"))
}

fn as_json(scorer: &Declaration) -> Value {
    json!({
        "name": scorer.name,
        "about": scorer.about,
        "measures": scorer.measures,
        "example": scorer.example,
        "path": scorer.files.as_ref().map(|files| files.form),
        "weights": scorer.files.as_ref().and_then(|files| files.weights),
        "reads_vae": scorer.reads_vae,
        "licence": scorer.licence,
        "citation": scorer.citation,
    })
}

fn in_words(scorer: &Declaration) -> String {
    let files = scorer.files.as_ref().map_or("none", |files| files.form);
    let vae = if scorer.reads_vae { "; the VAE of the model" } else { "" };
    let example = match scorer.example {
        "" => String::new(),
        path => format!("  example: --scorer {}={path}\n", scorer.name),
    };
    let measures = match scorer.measures {
        [] => "  measures: those that it describes when it is opened\n".to_string(),
        known => known.iter().map(measure_in_words).collect(),
    };
    format!(
        "{}: {}\n{measures}  files: {files}{vae}\n{example}  licence: {}\n  citation: {}\n",
        scorer.name, scorer.about, scorer.licence, scorer.citation
    )
}

/// "    log_odds          log-odds in [-10, 10], higher is better, of picture and prompt"
fn measure_in_words(measure: &Measure) -> String {
    let end = |end: Option<f64>, open: &str| end.map_or(open.to_string(), |number| number.to_string());
    let range = match measure.range {
        Range::Decision => "0 or 1".to_string(),
        Range::Real { min: None, max: None } => "any number".to_string(),
        Range::Real { min, max } => format!("{} to {}", end(min, "-inf"), end(max, "inf")),
    };
    let unit = if measure.unit.is_empty() { String::new() } else { format!(" ({})", measure.unit) };
    let better = match measure.better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
        Better::Neither => "neither is better",
    };
    let scope = match measure.scope {
        Scope::Picture => "prompt not read",
        Scope::Prompt => "depends on the prompt",
    };
    format!("  {:<18} {range}{unit}, {better}, {scope}\n", measure.name)
}
