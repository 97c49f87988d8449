//! The answer and the plan as text.

use super::answer::Answer;
use super::claims::{Judgement, LEVEL};
use super::file::Direction;
use super::folder::Folder;
use super::row::{Column, Difference, Row};
use crate::metrics::evaluation::Interval;

/// A mean as text.
pub fn value(number: f64, column: &Column) -> String {
    match column.share {
        true => format!("{:.1} %", number * 100.0),
        false if number == 0.0 || (1e-3..1e5).contains(&number.abs()) => format!("{number:.4}"),
        false => format!("{number:.3e}"),
    }
}

/// Ends of an interval: "[0.1, 0.3]".
pub fn interval(interval: &Interval, column: &Column) -> String {
    format!("[{}, {}]", value(interval.lo, column), value(interval.hi, column))
}

/// "+0.2 [0.1, 0.3], better on 20 prompts, worse on 5, p 0.004"
pub fn difference(difference: &Difference, column: &Column) -> String {
    let Difference { interval: i, test } = difference;
    let sign = if i.mean > 0.0 { "+" } else { "" };
    format!("{sign}{} {}, {}", value(i.mean, column), interval(i, column), test.in_words())
}

/// The column that a claim is about, for the form of its numbers.
fn claimed<'a>(answer: &'a Answer, judgement: &Judgement) -> Option<&'a Column> {
    answer.columns.iter().find(|column| column.name == judgement.metric)
}

/// "+0.2 [0.1, 0.3], p 0.004" of a claim.
pub fn measured(answer: &Answer, judgement: &Judgement) -> String {
    let plain = Column { name: judgement.metric.clone(), direction: Direction::Max, share: false };
    let column = claimed(answer, judgement).unwrap_or(&plain);
    let Some(difference) = judgement.difference else { return String::new() };
    let sign = if difference > 0.0 { "+" } else { "" };
    let within = judgement
        .interval
        .map_or(", without an interval: one training seed".into(), |i| format!(" {}", interval(&i, column)));
    let p = judgement.test.map_or(String::new(), |test| match test.p_holm < 0.001 {
        true => ", p < 0.001".into(),
        false => format!(", p {:.3}", test.p_holm),
    });
    format!("{sign}{}{within}{p}", value(difference, column))
}

/// The ranking in sentences.
pub fn settled(answer: &Answer) -> Vec<String> {
    let Some(winner) = answer.winner() else { return vec!["No trial is finished yet.".into()] };
    let (Some(column), Some(Some(figure))) = (answer.columns.first(), winner.figures.first()) else {
        return Vec::new();
    };
    let best = if column.direction == Direction::Max { "highest" } else { "lowest" };
    let within = figure
        .interval
        .map_or(", without an interval: one training seed".into(), |i| format!(" {}", interval(&i, column)));
    let mut said =
        vec![format!("{} has the {best} {}: {}{within}.", winner.title, column.name, value(figure.mean, column))];
    if let Some(start) = &figure.against_start {
        let real = if start.test.p_holm < LEVEL { "a real difference" } else { "no more than chance" };
        said.push(format!("Against the start model: {}; {real}.", difference(start, column)));
    }
    let tested = |row: &&Row| row.figures.first().and_then(Option::as_ref).is_some_and(|f| f.against_winner.is_some());
    let others: Vec<&Row> = answer.rows.iter().skip(1).filter(tested).collect();
    let close = |row: &&&Row| {
        let test = row.figures.first().and_then(Option::as_ref).and_then(|f| f.against_winner.as_ref());
        test.is_some_and(|difference| difference.test.p_holm >= LEVEL)
    };
    let tied: Vec<&str> = others.iter().filter(close).map(|row| row.title.as_str()).collect();
    match (others.len(), tied.len()) {
        (0, _) => {
            said.push("Differences between points cannot be tested: the metric has no figures per prompt.".into())
        }
        (_, 0) => {
            said.push("It differs from every other point by more than chance (sign test over prompts, Holm).".into())
        }
        (all, some) => said.push(format!(
            "Of {all} others {some} cannot be told from it (sign test over prompts, Holm): {}{}.",
            tied.iter().take(5).copied().collect::<Vec<_>>().join("; "),
            if some > 5 { " and more" } else { "" }
        )),
    }
    said
}

/// The answer for a terminal.
pub fn in_words(folder: &Folder, answer: &Answer) -> String {
    let mut text = String::new();
    if !answer.question.is_empty() {
        text += &format!("{}\n\n", answer.question);
    }
    for sentence in settled(answer) {
        text += &format!("{sentence}\n");
    }
    text += "\n";
    let width = answer.rows.iter().map(|row| row.title.chars().count()).max().unwrap_or(0);
    let names: Vec<String> = answer.columns.iter().map(|column| format!("{:<34}", column.name)).collect();
    text += format!("{:>4}  {:width$}  seeds  {}", "", "", names.join("  ")).trim_end();
    text += "\n";
    for row in &answer.rows {
        text += &ranked(row, answer, width);
    }
    for judgement in &answer.claims {
        text += &format!(
            "\n{}: {}\n    {} {} minus {}: {}\n",
            judgement.verdict,
            judgement.claim,
            judgement.metric,
            judgement.method,
            judgement.with,
            measured(answer, judgement)
        );
    }
    for effect in &answer.effects {
        let values: Vec<String> =
            effect.values.iter().map(|v| format!("{}: {}", v.value, value(v.mean, &answer.columns[0]))).collect();
        let method = if effect.method.is_empty() { String::new() } else { format!("{}, ", effect.method) };
        text += &format!("\nmean {} by {method}{}: {}", answer.columns[0].name, effect.axis, values.join(", "));
    }
    if !answer.effects.is_empty() {
        text += "\n";
    }
    if !answer.pareto_front.is_empty() {
        let names: Vec<&str> = answer
            .rows
            .iter()
            .filter(|row| answer.pareto_front.contains(&row.rank))
            .map(|row| row.title.as_str())
            .collect();
        text += &format!(
            "\nnot beaten in both {} and {}: {}\n",
            answer.columns[0].name,
            answer.columns[1].name,
            names.join("; ")
        );
    }
    for failure in &answer.failed {
        text +=
            &format!("\nfailed: trial {} ({}), {}: {}\n", failure.trial, failure.name, failure.stage, failure.reason);
    }
    if !answer.failed.is_empty() {
        text += "--retry-failed tries them again.\n";
    }
    if !answer.open.is_empty() {
        text += &format!("\n{} trials of the answer are not finished: {}\n", answer.open.len(), answer.open.join("; "));
    }
    text + &format!("\n{}\n", folder.path.join("report.html").display())
}

fn ranked(row: &Row, answer: &Answer, width: usize) -> String {
    let cells = row.figures.iter().zip(&answer.columns).map(|(figure, column)| {
        let text = match figure {
            None => "no value".into(),
            Some(figure) => {
                let within = figure.interval.map_or(String::new(), |i| format!(" {}", interval(&i, column)));
                format!("{}{within}", value(figure.mean, column))
            }
        };
        format!("{text:<34}")
    });
    let marks = [
        row.steps.map(|steps| format!("{steps} steps")),
        (!row.allowed).then(|| "does not fulfil require".to_string()),
    ];
    let marks: Vec<String> = marks.into_iter().flatten().collect();
    let cells: Vec<String> = cells.collect();
    let line = format!(
        "{:>4}  {:width$}  {:>5}  {}  {}",
        row.rank,
        row.title,
        row.seeds.len(),
        cells.join("  "),
        marks.join(", ")
    );
    format!("{}\n", line.trim_end())
}

/// Trials of a plan with what differs between them.
pub fn listed(folder: &Folder) -> String {
    let mut text = String::new();
    for trial in &folder.plan.trials {
        let marks = [
            trial
                .training
                .as_ref()
                .filter(|t| t.owner != trial.number)
                .map(|t| format!("shares the training of trial {}", t.owner)),
            trial.training.is_none().then(|| "trains nothing".to_string()),
            (trial.chooses && !trial.judges).then(|| "only chooses".to_string()),
        ];
        let marks: String = marks.into_iter().flatten().map(|mark| format!("  ({mark})")).collect();
        text += &format!("{:>4}  {}{marks}\n", trial.number, folder.plan.name(trial));
    }
    text
}
