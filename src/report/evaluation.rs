//! The part of the page about an evaluation: figures of every scorer and a gallery.

use super::pictures::{PictureRow, inline};
use crate::metrics::evaluation::{
    BestThird, Compared, Distribution, Evaluated, Evaluation, GalleryRow, Group, Interval, Scored, SignTest,
};
use crate::metrics::per_cent;
use crate::scorers::{Better, Measure};
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;

/// Template variables of an evaluation.
#[derive(Serialize)]
pub struct Section {
    before: String,
    after: String,
    /// "32 held-out prompts with 8 pictures each, all 160 prompts with 3 pictures each"
    groups: String,
    steps: usize,
    guidance_scale: f64,
    warnings: Vec<String>,
    /// "base 0.210, tuned 0.190"; empty with one picture per prompt.
    diversity: String,
    scorers: Vec<ScorerBox>,
    /// Names of all models.
    models: Vec<String>,
    most_different: Vec<PictureRow>,
    gallery: Vec<PictureRow>,
}

#[derive(Serialize)]
struct ScorerBox {
    name: String,
    about: String,
    /// (kind of picture, per cent)
    accuracy: Vec<(String, String)>,
    measures: Vec<MeasureBox>,
}

/// One measure over one group of prompts.
#[derive(Serialize)]
struct MeasureBox {
    title: String,
    rows: Vec<Bar>,
    /// "+25.0 points [+18.0, +31.5]" against the first model, one per further model.
    differences: Vec<String>,
    words: &'static str,
    /// "62.5 % [55.0, 70.0]", one per further model.
    win_rates: Vec<String>,
    /// "better on 20 prompts, worse on 5, p 0.004", one per further model.
    sign_tests: Vec<String>,
    /// Which of three models or more leads.
    leaders: Option<String>,
    /// "51.2 %, +18.0 points [+15.1, +21.0]", one per further model.
    best_third: Vec<String>,
    /// Empty for decisions.
    distribution: Vec<Bins>,
}

/// The distribution of a model's numbers as columns.
#[derive(Serialize)]
struct Bins {
    model: String,
    /// Ends of the first and of the last bin.
    from: String,
    to: String,
    /// Per cent of the highest column of all models.
    heights: Vec<f64>,
}

/// A mean and its interval as positions on a line from 0 to 100.
#[derive(Serialize)]
struct Bar {
    model: String,
    text: String,
    mean: f64,
    lo: f64,
    width: f64,
}

impl Section {
    /// # Errors
    /// A picture of the gallery that cannot be read.
    pub fn of(evaluation: &Evaluation) -> Result<Self> {
        let names: Vec<String> = evaluation.models.iter().map(|model| model.name.clone()).collect();
        let name = |index: usize| names.get(index).cloned().unwrap_or_default();
        let groups: Vec<String> = evaluation.groups.iter().map(described).collect();
        let scorer = |scored: &Scored| ScorerBox {
            name: scored.name.clone(),
            about: scored.about.clone(),
            accuracy: scored.accuracy.iter().map(|(kind, share)| (kind.replace('_', " "), per_cent(*share))).collect(),
            measures: measures(scored, &evaluation.groups, &evaluation.models),
        };
        let row = |row: &GalleryRow| picture_row(row, evaluation);
        let diverse = evaluation.models.iter().filter_map(|m| Some(format!("{} {:.3}", m.name, m.diversity?)));
        Ok(Self {
            before: name(0),
            after: name(1),
            groups: groups.join(", "),
            steps: evaluation.settings.steps,
            guidance_scale: evaluation.settings.guidance_scale,
            warnings: evaluation.warnings.clone(),
            diversity: diverse.collect::<Vec<_>>().join(", "),
            scorers: evaluation.scorers.iter().map(scorer).collect(),
            most_different: evaluation.most_different.iter().map(row).collect::<Result<_>>()?,
            gallery: evaluation.gallery.iter().map(row).collect::<Result<_>>()?,
            models: names,
        })
    }
}

/// One sentence per measure that differs by more than chance between two models, over the first group of prompts.
pub fn findings(evaluation: &Evaluation) -> Vec<String> {
    let Some(group) = evaluation.groups.first() else { return Vec::new() };
    let measures = evaluation.scorers.iter().flat_map(|scored| scored.measures.iter().map(move |m| (scored, m)));
    measures.filter_map(|(scored, m)| finding(&scored.name, &m.measure, group, m.groups.get(&group.name)?)).collect()
}

fn finding(scorer: &str, measure: &Measure, group: &Group, compared: &Compared) -> Option<String> {
    let (what, on) = (format!("{scorer} {}", measure.title()), format!("{} prompts", group.title()));
    if let Some(third) = &compared.best_third {
        let (share, points) = (third.models.get(1)?, third.differences.first()?);
        let direction = if measure.better == Better::Lower { "low" } else { "high" };
        return points.excludes(0.0).then(|| {
            format!(
                "By {what}, {} of the pictures of {on} are as {direction} as the best third before training: {}.",
                per_cent(share.mean),
                points.points()
            )
        });
    }
    let d = compared.differences.first().filter(|d| d.excludes(0.0))?;
    Some(format!("By {what}, pictures of {on} differ by {}.", measure.difference_written(d.mean, d.lo, d.hi)))
}

fn described(group: &Group) -> String {
    let prompts = group.prompts;
    let of =
        if group.is_all() { format!("all {prompts} prompts") } else { format!("{prompts} {} prompts", group.title()) };
    format!("{of} with {} pictures each", group.seeds)
}

fn picture_row(row: &GalleryRow, evaluation: &Evaluation) -> Result<PictureRow> {
    let side = |files: &Vec<PathBuf>| -> Result<Vec<Option<String>>> {
        files.iter().map(|file| inline(&evaluation.folder.join(file)).map(Some)).collect()
    };
    let note = row.apart.map_or(String::new(), |apart| format!("apart by {apart:.2} standard deviations"));
    Ok(PictureRow { prompt: row.prompt.clone(), note, sides: row.files.iter().map(side).collect::<Result<_>>()? })
}

/// The boxes of a scorer: measure by measure, in the order of the groups.
fn measures(scored: &Scored, groups: &[Group], models: &[Evaluated]) -> Vec<MeasureBox> {
    let of_group = |group: &Group| {
        let with_figures = scored.measures.iter().filter_map(|m| Some((&m.measure, m.groups.get(&group.name)?)));
        with_figures.map(|(measure, compared)| measure_box(measure, group, compared, models)).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of_group).collect()
}

fn measure_box(measure: &Measure, group: &Group, compared: &Compared, models: &[Evaluated]) -> MeasureBox {
    let names: Vec<String> = models.iter().map(|model| model.name.clone()).collect();
    let (from, to) = ends(measure, &compared.models);
    let at = |number: f64| (number - from) / (to - from) * 100.0;
    let bar = |(interval, name): (&Interval, &String)| {
        let Interval { mean, lo, hi } = *interval;
        let text = format!("{} [{}, {}]", measure.written(mean), measure.written(lo), measure.written(hi));
        Bar { model: name.clone(), text, mean: at(mean), lo: at(lo), width: at(hi) - at(lo) }
    };
    let words = match compared.differences.first() {
        Some(d) if !d.excludes(0.0) => "no more than chance",
        Some(d) if d.mean > 0.0 => "higher, by more than chance",
        Some(_) => "lower, by more than chance",
        None => "",
    };
    let unit = if measure.unit.is_empty() { String::new() } else { format!(" ({})", measure.unit) };
    MeasureBox {
        title: format!("{}{unit}, {} prompts", measure.title(), group.title()),
        rows: compared.models.iter().zip(&names).map(bar).collect(),
        differences: compared.differences.iter().map(|d| measure.difference_written(d.mean, d.lo, d.hi)).collect(),
        words,
        win_rates: compared.win_rates.iter().map(Interval::per_cent).collect(),
        sign_tests: compared.sign_tests.iter().map(SignTest::in_words).collect(),
        leaders: compared.leaders.map(|leaders| leaders.in_words(models)),
        best_third: compared.best_third.as_ref().map(best_third).unwrap_or_default(),
        distribution: compared.distribution.as_ref().map(|d| bins(d, measure, &names)).unwrap_or_default(),
    }
}

fn best_third(third: &BestThird) -> Vec<String> {
    let shares = third.models.iter().skip(1).zip(&third.differences);
    shares.map(|(share, d)| format!("{}, {}", per_cent(share.mean), d.points())).collect()
}

fn bins(distribution: &Distribution, measure: &Measure, names: &[String]) -> Vec<Bins> {
    let highest = distribution.models.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let of_model = |(shares, name): (&Vec<f64>, &String)| Bins {
        model: name.clone(),
        from: measure.written(distribution.from),
        to: measure.written(distribution.to),
        heights: shares.iter().map(|share| share / highest * 100.0).collect(),
    };
    distribution.models.iter().zip(names).map(of_model).collect()
}

/// The numbers at both ends of the line: 0 and 1 for a share, else the range of all intervals.
fn ends(measure: &Measure, intervals: &[Interval]) -> (f64, f64) {
    if measure.is_share() {
        return (0.0, 1.0);
    }
    let lowest = intervals.iter().map(|interval| interval.lo).fold(f64::INFINITY, f64::min);
    let highest = intervals.iter().map(|interval| interval.hi).fold(f64::NEG_INFINITY, f64::max);
    let margin = 0.1 * (highest - lowest).max(f64::MIN_POSITIVE);
    if highest > lowest { (lowest - margin, highest + margin) } else { (lowest - 1.0, lowest + 1.0) }
}
