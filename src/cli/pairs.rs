//! `diffpref pairs`: rated candidates to pairs, ranked lists, or pairs to be annotated.

use super::terminal;
use anyhow::Result;
use diffpref::pairs::{By, Combination, Request, Requirement, Rule, Strength, Summary, Ties, VoteCounts, pairs};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  diffpref pairs scored/scores.jsonl --report --out paired
  diffpref pairs --votes votes.jsonl --rule all --out paired
  diffpref pairs scored/scores.jsonl --by nima.mean --by brisque.distortion:0.5 --combine borda --rule all --require pareto --out paired";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// scores.jsonl of `diffpref score`; several are merged by picture and prompt
    #[arg(value_name = "SCORES", required_unless_present = "votes")]
    scores: Vec<PathBuf>,
    /// Votes of people in place of scores, ranked without the votes that do not fit the others; repeatable
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scores", "by", "lower", "require", "strength", "elo"])]
    votes: Vec<PathBuf>,
    /// Measure that decides; repeatable [default: the first measure of every scorer]
    #[arg(long, value_name = "SCORER.MEASURE[:WEIGHT]")]
    by: Vec<By>,
    /// Measure where lower is better, for files without a scores.json; repeatable
    #[arg(long, value_name = "SCORER.MEASURE")]
    lower: Vec<String>,
    /// From measures to one number per candidate [default: mean; robust with --votes]
    #[arg(long, value_enum)]
    combine: Option<Combination>,
    /// Which candidates of a prompt become pairs
    #[arg(long, value_enum, default_value_t)]
    rule: Rule,
    /// Requirement on pairs that are not ties; repeatable
    #[arg(long, value_enum)]
    require: Vec<Requirement>,
    /// Smallest difference of the combined number; ties are exempt
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    min_margin: f64,
    /// Pairs with equal combined numbers
    #[arg(long, value_enum, default_value = "keep")]
    ties: Ties,
    /// Strength of pairs by three measures or more
    #[arg(long, value_enum, default_value_t)]
    strength: Strength,
    /// Pairs of `--rule small_margins`
    #[arg(long, value_name = "N", default_value_t = 100)]
    budget: usize,
    /// JSON file {"MODEL": ELO, ..}: calibrates every measure by the ratings of the rows' `model`
    #[arg(long, value_name = "FILE")]
    elo: Option<PathBuf>,
    /// Write report.html: counts, margins, pairs at quantiles of the margin
    #[arg(long)]
    report: bool,
    /// Folder of the pairs and of pairs.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print pairs.json
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let json = args.json;
    let by_default = if args.votes.is_empty() { Combination::default() } else { Combination::Robust };
    let (out, report) = (args.out.clone(), args.report);
    let summary = pairs(&Request {
        scores: args.scores,
        by: args.by,
        lower: args.lower,
        combine: args.combine.unwrap_or(by_default),
        votes: args.votes,
        rule: args.rule,
        require: args.require,
        min_margin: args.min_margin,
        ties: args.ties,
        strength: args.strength,
        budget: args.budget,
        elo: args.elo,
        report: args.report,
        out: args.out,
    })?;
    if json {
        return terminal::print(&format!("{}\n", serde_json::to_string(&summary)?));
    }
    let file = if report { "report.html" } else { summary.rule.file() };
    terminal::print(&format!("{}\n{}\n", in_words(&summary), out.join(file).display()))
}

fn in_words(summary: &Summary) -> String {
    let Summary { written, candidates, prompts, ties, .. } = summary;
    let mut text =
        format!("{written} written from {candidates} candidates of {prompts} prompts, {ties} ties among them\n");
    for (reason, n) in &summary.dropped.0 {
        text += &format!("dropped: {n} {}\n", reason.in_words());
    }
    if summary.flipped > 0 {
        text += &format!("exchanged: {} pairs that are probably mislabelled\n", summary.flipped);
    }
    if let Some(VoteCounts { votes, voters, misfits }) = &summary.votes {
        text += &format!("{votes} votes by {voters} voters\n");
        for (voter, n) in misfits {
            text += &format!("{n} votes of {voter} do not fit the others\n");
        }
    }
    if let Some(share) = summary.cyclic_triples {
        text += &format!("{:.1} % of triples of candidates form a cycle\n", share * 100.0);
    }
    if let [low, _, median, _, high] = summary.margins[..] {
        text += &format!("margin: median {median:.3}, 5 % below {low:.3}, 5 % above {high:.3}\n");
    }
    text
}
