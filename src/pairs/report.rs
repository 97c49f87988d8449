//! report.html of `diffpref pairs`: counts, margins, and pairs at quantiles of the margin, in one self-contained file.

use super::candidates::Candidates;
use super::output::Pair;
use super::summary::{Calibrated, Summary};
use crate::report::pictures::thumbnail;
use crate::report::{histogram, template};
use anyhow::Result;
use serde::Serialize;

/// Per cent of the margins whose pairs are shown, and pairs around each.
const QUANTILES: [usize; 3] = [5, 50, 95];
const SHOWN: usize = 3;
/// Larger side of a picture in the page, in pixels.
const SIDE: u32 = 224;

/// Variables of the template.
#[derive(Serialize)]
struct Page {
    written: usize,
    ties: usize,
    flipped: usize,
    prompts: usize,
    candidates: usize,
    by: String,
    /// Share of cyclic triples in per cent; empty without triples.
    cyclic: String,
    /// (reason, number)
    dropped: Vec<(String, usize)>,
    from: String,
    to: String,
    heights: Vec<f64>,
    quantiles: Vec<Shown>,
    calibration: Vec<[String; 4]>,
}

#[derive(Serialize)]
struct Shown {
    quantile: usize,
    pairs: Vec<ShownPair>,
}

#[derive(Serialize)]
struct ShownPair {
    prompt: String,
    margin: String,
    tie: bool,
    winner: String,
    loser: String,
}

/// Entry at a quantile in per cent of a sorted list.
pub fn quantile<T>(sorted: &[T], per_cent: usize) -> Option<&T> {
    sorted.get(sorted.len().saturating_sub(1) * per_cent / 100)
}

/// # Errors
/// A picture that cannot be read any more.
pub fn html(summary: &Summary, pairs: &[Pair], prompts: &[Candidates]) -> Result<String> {
    let mut sorted: Vec<&Pair> = pairs.iter().collect();
    sorted.sort_by(|a, b| a.margin().total_cmp(&b.margin()));
    let margins: Vec<f64> = sorted.iter().map(|pair| pair.margin()).collect();
    let (from, to) = (margins.first().copied().unwrap_or(0.0), margins.last().copied().unwrap_or(0.0));
    let at = |per_cent: usize| {
        let middle = sorted.len().saturating_sub(1) * per_cent / 100;
        let first = middle.saturating_sub(SHOWN / 2).min(sorted.len().saturating_sub(SHOWN));
        let pairs = sorted.iter().skip(first).take(SHOWN).map(|pair| shown(pair, prompts)).collect::<Result<_>>()?;
        Ok(Shown { quantile: per_cent, pairs })
    };
    let words = |by: &(String, f64)| if by.1 == 1.0 { by.0.clone() } else { format!("{} (weight {})", by.0, by.1) };
    let page = Page {
        written: summary.written,
        ties: summary.ties,
        flipped: summary.flipped,
        prompts: summary.prompts,
        candidates: summary.candidates,
        by: summary.by.iter().map(words).collect::<Vec<_>>().join(", "),
        cyclic: summary.cyclic_triples.map_or(String::new(), |share| format!("{:.1}", share * 100.0)),
        dropped: summary.dropped.0.iter().map(|(reason, n)| (reason.in_words().to_string(), *n)).collect(),
        heights: if pairs.is_empty() { Vec::new() } else { histogram(&margins, from, to) },
        from: format!("{from:.3}"),
        to: format!("{to:.3}"),
        quantiles: if pairs.is_empty() { Vec::new() } else { QUANTILES.into_iter().map(at).collect::<Result<_>>()? },
        calibration: summary.calibration.iter().map(calibrated).collect(),
    };
    template::filled("pairs.html", include_str!("pairs.html"), &page)
}

fn shown(pair: &Pair, prompts: &[Candidates]) -> Result<ShownPair> {
    let of = &prompts[pair.prompt];
    Ok(ShownPair {
        prompt: of.prompt.clone(),
        margin: format!("{:.3}", pair.margin()),
        tie: pair.tie,
        winner: thumbnail(&of.pictures[pair.winner].clone().into(), SIDE)?,
        loser: thumbnail(&of.pictures[pair.loser].clone().into(), SIDE)?,
    })
}

/// Measure, generator, offset, mismatch degrees.
fn calibrated(one: &Calibrated) -> [String; 4] {
    let mismatch: Vec<String> = one.mismatch.iter().map(|(other, md)| format!("{md:+.2} against {other}")).collect();
    let model = format!("{} (Elo {})", one.model, one.elo);
    [one.measure.clone(), model, format!("{:+.4}", one.offset), mismatch.join(", ")]
}
