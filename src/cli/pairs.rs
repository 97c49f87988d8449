//! `diffpref pairs`: rated candidates to pairs, ranked lists, or pairs to be annotated.

use super::{choices, terminal};
use anyhow::Result;
use diffpref::machine::disk::default_cache_dir;
use diffpref::pairs::{
    By, Combination, Consistency, Earlier, Labelled, OwnLabels, Replay, Request, Requirement, Rule, Strength, Summary,
    Ties, VoteCounts, pairs,
};
use diffpref::progress::Stop;
use std::path::PathBuf;
use std::str::FromStr;
use tch::{Device, Kind};

const EXAMPLES: &str = "Examples:
  diffpref pairs scored/scores.jsonl --report --out paired
  diffpref pairs --votes votes.jsonl --rule all --out paired
  diffpref pairs scored/scores.jsonl --by nima.mean --by brisque.distortion:0.5 --combine borda --rule all --require pareto --out paired
  diffpref pairs pictures --label self:runs/round-1 --consistency-with models/sd15 --out paired";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// scores.jsonl of `diffpref score`; several are merged by picture and prompt. With --label: pictures, as score reads them
    #[arg(value_name = "SCORES", required_unless_present = "votes")]
    scores: Vec<PathBuf>,
    /// Votes of people in place of scores, ranked without the votes that do not fit the others; repeatable
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scores", "by", "lower", "require", "strength", "elo"])]
    votes: Vec<PathBuf>,
    /// Pictures of a prompt that several SCORES have: those of the last one only
    #[arg(long)]
    newest: bool,
    /// Model that ranks the pictures by its own errors, in place of scores: a run's folder or PATH[+LORA[:SCALE]]...
    #[arg(long, value_name = "self:MODEL", conflicts_with_all = ["votes", "by", "lower", "require", "strength", "elo"])]
    label: Option<OwnModel>,
    #[command(flatten)]
    own: OwnArgs,
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
    /// Column `weight` of pairs: sigma(K margin) over its mean
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    margin_weight: Option<f64>,
    /// Share of the rows that is drawn from all rounds, those of --earlier and this one
    #[arg(long, value_name = "SHARE", requires = "earlier", allow_negative_numbers = true)]
    replay: Option<f64>,
    /// File of an earlier round for --replay, the oldest first; repeatable
    #[arg(long, value_name = "FILE", requires = "replay")]
    earlier: Vec<PathBuf>,
    /// Share of the prompts, those with the worst best picture, that refresh.jsonl lists for a next round
    #[arg(long, value_name = "SHARE", conflicts_with = "votes", allow_negative_numbers = true)]
    refresh: Option<f64>,
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

/// Options of --label.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct OwnArgs {
    /// Reference of the implicit rewards of --label [default: the start of the run, or PATH without LoRAs]
    #[arg(long, value_name = "MODEL", requires = "label")]
    reference: Option<String>,
    /// Model whose ranking is compared with that of --label, or halves: even draws with odd ones
    #[arg(long, value_name = "MODEL|halves", requires = "label")]
    consistency_with: Option<Earlier>,
    /// Agreement of both rankings
    #[arg(long, value_enum, default_value_t, requires = "consistency_with")]
    consistency: Consistency,
    /// Shared noise levels per prompt of --label, at least 10
    #[arg(long, value_name = "N", default_value_t = 10, requires = "label")]
    draws: u64,
    /// beta of the implicit rewards of --label
    #[arg(long, value_name = "BETA", default_value_t = 5000.0, requires = "label")]
    beta: f64,
    /// Device of --label: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_parser = choices::device, requires = "label")]
    device: Device,
}

/// `self:MODEL`
#[derive(Debug, Clone)]
struct OwnModel(String);

impl FromStr for OwnModel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let model = text.strip_prefix("self:").filter(|model| !model.is_empty());
        let wrong =
            || format!("{text:?}: expected self:MODEL, where MODEL is a run's folder or PATH[+LORA[:SCALE]]...");
        model.map(|model| Self(model.into())).ok_or_else(wrong)
    }
}

impl OwnArgs {
    fn labels(self, model: OwnModel) -> OwnLabels {
        OwnLabels {
            model: model.0,
            reference: self.reference,
            earlier: self.consistency_with,
            consistency: self.consistency,
            draws: self.draws,
            beta: self.beta,
            device: self.device,
            // Errors of two models differ by a thousandth, which bfloat16 does not resolve.
            kind: Kind::Float,
            workers: std::thread::available_parallelism().map_or(1, |n| n.get()),
            cache_dir: default_cache_dir(),
        }
    }
}

pub fn run(args: Args, stop: &Stop) -> Result<()> {
    let progress = terminal::sink(false);
    let json = args.json;
    let by_default = if args.votes.is_empty() { Combination::default() } else { Combination::Robust };
    let (out, report) = (args.out.clone(), args.report);
    let own = args.own;
    let request = Request {
        scores: args.scores,
        newest: args.newest,
        votes: args.votes,
        own: args.label.map(|model| own.labels(model)),
        by: args.by,
        lower: args.lower,
        combine: args.combine.unwrap_or(by_default),
        rule: args.rule,
        require: args.require,
        min_margin: args.min_margin,
        ties: args.ties,
        strength: args.strength,
        margin_weight: args.margin_weight,
        replay: args.replay.map(|share| Replay { share, earlier: args.earlier }),
        refresh: args.refresh,
        budget: args.budget,
        elo: args.elo,
        report: args.report,
        out: args.out,
    };
    let summary = pairs(&request, progress.as_ref(), stop)?;
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
    text += &summary.labelled.as_ref().map_or(String::new(), labelled_in_words);
    if summary.replayed > 0 {
        text += &format!("replayed: {} rows drawn from all rounds\n", summary.replayed);
    }
    if let Some(n) = summary.refreshed {
        text += &format!("refresh.jsonl: {n} prompts to generate anew\n");
    }
    if let Some(share) = summary.cyclic_triples {
        text += &format!("{:.1} % of triples of candidates form a cycle\n", share * 100.0);
    }
    if let [low, _, median, _, high] = summary.margins[..] {
        text += &format!("margin: median {median:.3}, 5 % below {low:.3}, 5 % above {high:.3}\n");
    }
    text
}

fn labelled_in_words(labelled: &Labelled) -> String {
    let reference = labelled.reference.iter().map(|reference| format!(" against {reference}"));
    let mut text = format!(
        "ranked by the {} of {}{} at {} noise levels\n",
        labelled.by.ranking.in_words(),
        labelled.by.model,
        reference.collect::<String>(),
        labelled.draws
    );
    if let Some(agreed) = &labelled.consistency {
        let with = match &agreed.with {
            Some(with) => format!("the {} of {}", with.ranking.in_words(), with.model),
            None => "itself, even draws with odd ones".into(),
        };
        text += &format!("consistency with {with}: {:.3} (0.5 is chance)\n", agreed.mean);
    }
    text + "a model favours what it paints already: judge the result by a scorer that had no part in it\n"
}
