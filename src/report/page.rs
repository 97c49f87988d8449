//! Content of the page, filled into its template.

use super::evaluation::Section;
use super::evaluations::Evaluations;
use super::implicit;
use super::metrics::Metrics;
use super::pictures::{SampleGrid, sample_grid};
use super::plots::{Curve, Frame, bars, colours, curves};
use super::rewards;
use super::template;
use super::verdict::{Verdict, rules};
use crate::data::report::DataReport;
use crate::metrics::{Line, REWARD, Role};
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;

/// All variables of the template.
#[derive(Serialize)]
struct Page {
    title: String,
    step: u64,
    steps: Option<u64>,
    /// None: the page of an evaluation without a run.
    verdict: Option<Verdict>,
    rules: Vec<(&'static str, String)>,
    /// Findings about the data of the run.
    data_notes: Vec<String>,
    first_plot: Option<Plot>,
    plots: Vec<Plot>,
    /// One per score of the samples.
    scores: Vec<ScorePlot>,
    samples: Option<SampleGrid>,
    evaluation: Option<Section>,
    /// None: nothing was evaluated on pairs.
    on_pairs: Option<implicit::Section>,
    newest: Vec<(String, String)>,
    settings: Option<String>,
    environment: Option<String>,
    files: Vec<FileLine>,
}

#[derive(Serialize)]
struct Plot {
    title: &'static str,
    caption: &'static str,
    svg: String,
    /// (name, colour)
    legend: Vec<(String, String)>,
}

/// A score of the samples while training, named after its scorer.
#[derive(Serialize)]
struct ScorePlot {
    title: String,
    caption: &'static str,
    svg: String,
}

#[derive(Serialize)]
struct FileLine {
    name: String,
    size: String,
    about: &'static str,
}

/// The page of a run as HTML; without a verdict that of evaluations alone.
///
/// # Errors
/// A damaged file of the run, or a plot that cannot be drawn.
pub fn html(
    run_dir: &Path,
    metrics: &Metrics,
    verdict: Option<Verdict>,
    steps: Option<u64>,
    evaluations: Evaluations,
) -> Result<String> {
    let title = run_dir.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
    let page = Page {
        title: title.unwrap_or_else(|| "run".into()),
        step: metrics.last_step(),
        steps,
        verdict,
        rules: rules(),
        data_notes: data_notes(run_dir)?,
        first_plot: first_plot(metrics)?,
        plots: plots(metrics)?,
        scores: score_plots(metrics)?,
        samples: sample_grid(run_dir)?,
        evaluation: evaluations.pictures.map(Section::of).transpose()?,
        on_pairs: evaluations.pairs.map(implicit::Section::of).transpose()?,
        newest: newest_values(metrics)?,
        settings: std::fs::read_to_string(run_dir.join("resolved.toml")).ok(),
        environment: std::fs::read_to_string(run_dir.join("environment.json")).ok(),
        files: files(run_dir),
    };
    template::filled("report.html", include_str!("report.html"), &page)
}

/// Notes of data-report.json; none without one.
fn data_notes(run_dir: &Path) -> Result<Vec<String>> {
    let file = run_dir.join("data-report.json");
    let Ok(text) = std::fs::read(&file) else { return Ok(Vec::new()) };
    let report: DataReport =
        serde_json::from_slice(&text).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(report.notes())
}

fn first_plot(metrics: &Metrics) -> Result<Option<Plot>> {
    let frame = Frame { width: 760, height: 280, reference: Some(0.0) };
    let gains = metrics.series(|line| Some(line.named.gain(REWARD)?.mean));
    if !gains.is_empty() {
        let low = metrics.series(|line| Some(line.named.gain(REWARD)?.interval?.0));
        let high = metrics.series(|line| Some(line.named.gain(REWARD)?.interval?.1));
        let gain = Curve::marked("val_reward_gain", gains).with_band(low, high);
        let caption = "How far the reward on prompts that are never trained on lies above that of the model it started from, with the \
                       same noise; the band is the 95 % interval over prompts. Above zero with its whole band: it learns.";
        return plot("Held-out reward", caption, vec![gain], &frame);
    }
    let margin = Curve::marked("val_margin", metrics.series(|line| line.val_margin))
        .with_band(metrics.series(|line| line.val_margin_lo), metrics.series(|line| line.val_margin_hi));
    let caption = "How much more the model improved on winners than on losers, on pairs it never trains on, against the model \
                   it started from; the band is the 95 % interval over prompts. Above zero with its whole band: it learns.";
    plot("Held-out margin", caption, vec![margin], &frame)
}

/// Rewards next to watched scores.
fn score_plots(metrics: &Metrics) -> Result<Vec<ScorePlot>> {
    let frame = Frame { width: 430, height: 240, reference: None };
    let trained = "A score that the reward is made of: mean over the samples of an iteration.";
    let watched = "A score that is not trained on. Where it falls while the reward rises, the reward is hacked.";
    let mut out = Vec::new();
    for (role, caption) in [(Role::Trained, trained), (Role::Watched, watched)] {
        for name in rewards::scorers(metrics, role) {
            let curve = Curve::marked("", metrics.series(|line| line.named.score(role, name)));
            let title = role.key(name).replace('_', " ");
            out.extend(curves(&[curve], &frame)?.map(|svg| ScorePlot { title, caption, svg }));
        }
    }
    Ok(out)
}

fn plots(metrics: &Metrics) -> Result<Vec<Plot>> {
    let frame = |reference| Frame { width: 430, height: 240, reference };
    let noisy = |name: &'static str, of: fn(&Line) -> Option<f64>| Curve::noisy(name, metrics.series(of));
    let marked = |name: &'static str, of: fn(&Line) -> Option<f64>| Curve::marked(name, metrics.series(of));
    let tenths = metrics.margin_by_t(0.25);
    let by_t = bars(&tenths, &frame(Some(0.0)))?.map(|svg| Plot {
        title: "Margin by noise level",
        caption: "Mean margin of the newest quarter of the steps, by tenth of the timesteps: 0 hardly noisy, 9 nearly pure noise.",
        svg,
        legend: Vec::new(),
    });
    let plots = [
        plot(
            "Reward of the samples",
            "Mean over the samples of an iteration, before shaping. Every iteration has other prompts, so it is noisy.",
            vec![marked("rollout_reward", |line| line.rollout_reward)],
            &frame(None),
        )?,
        plot(
            "Diversity of the samples",
            "How far the pictures of a prompt differ, in latents. A falling curve: the model paints one picture again and again.",
            vec![marked("diversity", |line| line.diversity)],
            &frame(None),
        )?,
        plot(
            "Distance from the start model",
            "kl: mean log-ratio of the samples against the start model, a latent's element.",
            vec![marked("kl", |line| line.iteration.and(line.named.kl()))],
            &frame(Some(0.0)),
        )?,
        plot(
            "Clamped",
            "Share of transitions whose gradient a clamp took: at 1 nothing is learnt any more.",
            vec![noisy("clamped_fraction", |line| line.clamped_fraction)],
            &frame(None),
        )?,
        plot(
            "Accuracy",
            "Share of pairs that the model orders as the preference does; 0.5 is a coin toss. Training pairs are seen at one \
             noise draw a step, held-out ones at several, so the held-out curve is smoother.",
            vec![
                noisy("implicit_acc", |line| line.implicit_acc),
                marked("val_implicit_acc", |line| line.val_implicit_acc),
            ],
            &frame(Some(0.5)),
        )?,
        plot(
            "Loss",
            "What is differentiated. It moves little even in runs that learn.",
            vec![noisy("loss", |line| line.loss), marked("val_loss", |line| line.val_loss)],
            &frame(None),
        )?,
        plot(
            "Gaps, held out",
            "Error of the model minus error of the starting model, on winners and losers. Both growing is the known way to noisy pictures.",
            vec![marked("val_gap_w", |line| line.val_gap_w), marked("val_gap_l", |line| line.val_gap_l)],
            &frame(Some(0.0)),
        )?,
        plot(
            "Gaps, training pairs",
            "The same on the pairs of each step.",
            vec![noisy("gap_w", |line| line.gap_w), noisy("gap_l", |line| line.gap_l)],
            &frame(Some(0.0)),
        )?,
        by_t,
        plot(
            "What the pairs still teach",
            "gradient_factor: 0.5 at the start, near 0 when the pairs teach nothing any more.",
            vec![
                noisy("gradient_factor", |line| line.gradient_factor),
                marked("val_gradient_factor", |line| line.val_gradient_factor),
            ],
            &frame(Some(0.5)),
        )?,
        plot("Gradient norm", "Before clipping.", vec![noisy("grad_norm", |line| line.grad_norm)], &frame(None))?,
        plot("Learning rate", "", vec![noisy("lr", |line| line.lr)], &frame(None))?,
        plot("beta", "Strength of the tie to the reference.", vec![noisy("beta", |line| line.beta)], &frame(None))?,
    ];
    Ok(plots.into_iter().flatten().collect())
}

fn plot(title: &'static str, caption: &'static str, list: Vec<Curve>, frame: &Frame) -> Result<Option<Plot>> {
    // Curves with points get the colours, in their order; the legend counts the same curves.
    let names: Vec<String> = list.iter().filter(|c| !c.points.is_empty()).map(|c| c.name.clone()).collect();
    let svg = curves(&list, frame)?;
    Ok(svg.map(|svg| Plot { title, caption, svg, legend: names.into_iter().zip(colours()).collect() }))
}

fn newest_values(metrics: &Metrics) -> Result<Vec<(String, String)>> {
    let show = |value: &serde_json::Value| match (value.as_u64(), value.as_f64()) {
        (Some(whole), _) => whole.to_string(),
        (None, Some(real)) if (1e-2..1e5).contains(&real.abs()) || real == 0.0 => format!("{real:.4}"),
        (None, Some(real)) => format!("{real:.3e}"),
        (None, None) => value.to_string(),
    };
    Ok(metrics.newest_values()?.iter().map(|(key, value)| (key.clone(), show(value))).collect())
}

fn files(run_dir: &Path) -> Vec<FileLine> {
    let entries = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    let line = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let meta = entry.metadata().ok()?;
        let (name, size) = if meta.is_dir() { (format!("{name}/"), String::new()) } else { (name, size(meta.len())) };
        let about = about(&name);
        (!name.starts_with('.') && !about.is_empty()).then_some(FileLine { name, size, about })
    };
    let mut files: Vec<FileLine> = entries.filter_map(line).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

fn about(name: &str) -> &'static str {
    match name {
        "resolved.toml" => "the configuration with every default written out: reproduces the run",
        "environment.json" => "versions and hashes of program, model and data",
        "metrics.jsonl" => "every metric of every step",
        "data-report.json" => "what was dropped from the data, and why",
        "samples/" => "pictures made while training",
        "rollouts/" => "kept samples of the current iteration",
        "final/" => "the result, to load elsewhere",
        "best/" => "the weights with the highest held-out margin",
        "eval/" => "the pictures of the evaluation and its figures",
        "report.json" => "the figures of this page for programs",
        _ if name.starts_with("checkpoint-") => "resume from here",
        _ if name.starts_with("events.out.tfevents") => "the same curves for TensorBoard",
        _ => "",
    }
}
