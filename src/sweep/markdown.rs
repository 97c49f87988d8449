//! answer.md: the answer as a page for a repository, with date, versions and cost.

use super::answer::Answer;
use super::folder::Folder;
use super::ledger::Entries;
use super::row::{Column, Figure, Row};
use super::text::{interval, measured, settled, value};
use super::work::Stage;
use crate::machine::clock;
use serde::Deserialize;

/// Longest line outside tables.
const WIDTH: usize = 118;

/// Parts of environment.json.
#[derive(Deserialize)]
struct Environment {
    diffpref: String,
    libtorch: String,
    device: String,
}

/// The page. Times and versions are those of the trials; the date is that of now.
pub fn page(folder: &Folder, entries: &Entries, answer: &Answer) -> String {
    let name = folder.path.file_name().map_or("sweep".into(), |name| name.to_string_lossy().into_owned());
    let title = if answer.question.is_empty() { format!("Sweep {name}") } else { answer.question.clone() };
    let mut text = format!("# {title}\n\n{}\n\n", wrapped("", &made(folder, entries, answer)));
    text += &settled(answer).iter().map(|sentence| format!("{}\n", wrapped("* ", sentence))).collect::<String>();
    text += "\nMeans have 95 % intervals over training seeds and prompts; differences are paired over prompts, and p is that of a\n\
             sign test after Holm's correction over all tests of the column.\n";
    text += &claims(answer);
    for group in groups(folder) {
        let of_group = |row: &&Row| group.is_none() || of_method(folder, &row.method) == group;
        let rows: Vec<&Row> = answer.rows.iter().filter(of_group).collect();
        if rows.is_empty() {
            continue;
        }
        text += &group.map_or("\n## Ranking\n\n".into(), |group| format!("\n## {group}\n\n"));
        text += &table(folder, entries, answer, &rows);
    }
    text += &choices(answer);
    text += &failures(answer);
    text
}

fn claims(answer: &Answer) -> String {
    if answer.claims.is_empty() {
        return String::new();
    }
    let mut text = "\n## Claims\n\n| claim | verdict | metric | difference | of | to | seeds |\n| --- | --- | --- | --- | --- | --- | --- |\n".to_string();
    for judgement in &answer.claims {
        let [own, other] = judgement.seeds;
        let seeds = if other == 0 || own == other { own.to_string() } else { format!("{own}, {other}") };
        text += &format!(
            "| {} | **{}** | {} | {} | {} | {} | {seeds} |\n",
            judgement.claim,
            judgement.verdict,
            judgement.metric,
            measured(answer, judgement),
            judgement.method,
            judgement.with
        );
    }
    text
}

/// A paragraph in lines; further ones are indented below `mark`.
fn wrapped(mark: &str, text: &str) -> String {
    let below = " ".repeat(mark.len());
    textwrap::fill(text, textwrap::Options::new(WIDTH).initial_indent(mark).subsequent_indent(&below))
}

/// Headings in the order of the file; `None`: one table for all.
fn groups(folder: &Folder) -> Vec<Option<String>> {
    let mut groups: Vec<Option<String>> = Vec::new();
    for method in &folder.sweep.methods {
        let group = of_method(folder, &method.name);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.iter().all(Option::is_none) { vec![None] } else { groups }
}

fn of_method(folder: &Folder, name: &str) -> Option<String> {
    let method = folder.sweep.methods.iter().find(|method| method.name == name)?;
    Some(method.group.clone().unwrap_or_else(|| "Others".into()))
        .filter(|_| folder.sweep.methods.iter().any(|m| m.group.is_some()))
}

fn made(folder: &Folder, entries: &Entries, answer: &Answer) -> String {
    let seconds: f64 = entries.values().map(|entry| entry.spent.seconds).sum();
    let run = answer.rows.iter().flat_map(|row| &row.trials).find_map(|number| {
        let bytes = std::fs::read(folder.trial(*number).join("environment.json")).ok()?;
        serde_json::from_slice::<Environment>(&bytes).ok()
    });
    let versions = run
        .map_or(String::new(), |run| format!(", diffpref {}, libtorch {}, {}", run.diffpref, run.libtorch, run.device));
    let trainings = folder.plan.trainings();
    format!(
        "Made by `diffpref sweep` on {}{versions}. {trainings} trainings in the plan, {:.1} hours of work of one process.",
        clock::now_iso().get(..10).unwrap_or_default(),
        seconds / 3600.0
    )
}

fn table(folder: &Folder, entries: &Entries, answer: &Answer, rows: &[&Row]) -> String {
    let names = answer.columns.iter().enumerate().map(|(index, column)| match index {
        0 => format!("{0} | {0}, against the start model | p", column.name),
        _ => column.name.clone(),
    });
    let names: Vec<String> = names.collect();
    let width = answer.columns.len() + 6;
    let mut text =
        format!("| rank | point | seeds | {} | training, s |\n|{}\n", names.join(" | "), " --- |".repeat(width));
    if let Some(start) = rows.iter().find_map(|row| start(row, answer)) {
        text += &start;
    }
    for row in rows {
        let cells: Vec<String> = row
            .figures
            .iter()
            .zip(&answer.columns)
            .enumerate()
            .map(|(i, (figure, column))| cell(i, figure.as_ref(), column))
            .collect();
        let mark = if row.allowed { "" } else { " (does not fulfil require)" };
        let seconds = seconds(folder, entries, row).map_or(String::new(), |seconds| format!("{seconds:.0}"));
        text += &format!(
            "| {} | {}{mark} | {} | {} | {seconds} |\n",
            row.rank,
            row.title,
            row.seeds.len(),
            cells.join(" | ")
        );
    }
    text
}

fn cell(index: usize, figure: Option<&Figure>, column: &Column) -> String {
    let mean = figure.map_or(String::new(), |figure| {
        format!(
            "{}{}",
            value(figure.mean, column),
            figure.interval.map_or(String::new(), |i| format!(" {}", interval(&i, column)))
        )
    });
    if index > 0 {
        return mean;
    }
    let (gain, p) =
        figure.and_then(|figure| figure.against_start.as_ref()).map_or_else(Default::default, |difference| {
            let sign = if difference.interval.mean > 0.0 { "+" } else { "" };
            let p = difference.test.p_holm;
            (
                format!("{sign}{} {}", value(difference.interval.mean, column), interval(&difference.interval, column)),
                if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") },
            )
        });
    format!("{mean} | {gain} | {p}")
}

/// The start model as a row.
fn start(row: &Row, answer: &Answer) -> Option<String> {
    row.figures.first()?.as_ref()?.start?;
    let cell = |(index, (figure, column)): (usize, (&Option<Figure>, &Column))| {
        let start = figure.as_ref().and_then(|figure| figure.start);
        let mean = start.map_or(String::new(), |s| format!("{} {}", value(s.mean, column), interval(&s, column)));
        if index == 0 { format!("{mean} | | ") } else { mean }
    };
    let cells: Vec<String> = row.figures.iter().zip(&answer.columns).enumerate().map(cell).collect();
    Some(format!("| | start model | | {} | |\n", cells.join(" | ")))
}

/// Mean training time of a row's trials.
fn seconds(folder: &Folder, entries: &Entries, row: &Row) -> Option<f64> {
    let of_trial = |number: &usize| {
        let owner = folder.plan.trial(*number)?.training.as_ref()?.owner;
        let works = entries.iter().filter(|(work, _)| work.trial == owner && work.stage == Stage::Train);
        Some(works.map(|(_, entry)| entry.spent.seconds).sum::<f64>())
    };
    crate::numbers::mean(row.trials.iter().filter_map(of_trial))
}

fn choices(answer: &Answer) -> String {
    if answer.choices.is_empty() {
        return String::new();
    }
    let mut text =
        "\n## How the points were chosen\n\n| method | chosen | candidates |\n| --- | --- | --- |\n".to_string();
    for choice in &answer.choices {
        let candidates = choice.candidates.iter().map(|from| {
            let mark = if from.candidate.allowed { "" } else { " (not allowed)" };
            let value = from.candidate.value.map_or("failed".into(), |value| format!("{value:.4}"));
            let title = from.title.strip_prefix(&format!("{}, ", choice.method)).unwrap_or(&from.title);
            format!("{title}: {value}{mark}")
        });
        let chosen = choice.chosen.as_deref().unwrap_or("none");
        text += &format!("| {} | {chosen} | {} |\n", choice.method, candidates.collect::<Vec<_>>().join("; "));
    }
    text
}

fn failures(answer: &Answer) -> String {
    let mut text = String::new();
    if !answer.failed.is_empty() {
        text += "\n## Failed trials\n\n";
        let line = |f: &super::row::Failure| format!("* trial {} ({}), {}: {}\n", f.trial, f.name, f.stage, f.reason);
        text += &answer.failed.iter().map(line).collect::<String>();
    }
    if !answer.open.is_empty() {
        text += &format!("\nNot finished: {}.\n", answer.open.join("; "));
    }
    text
}
