//! winner.toml: a configuration that reproduces the winner without the sweep.

use super::answer::Answer;
use super::file::Side;
use super::folder::Folder;
use super::plan::Made;
use crate::settings;
use anyhow::Result;
use toml::Value;

/// The text of winner.toml; `None` without a winner that was trained.
///
/// # Errors
/// A configuration that cannot be read any more.
pub fn toml(folder: &Folder, answer: &Answer) -> Result<Option<String>> {
    let Some(row) = answer.winner() else { return Ok(None) };
    let trial = row.trials.first().and_then(|number| folder.plan.trial(*number));
    let Some((trial, training)) = trial.and_then(|trial| Some((trial, trial.training.as_ref()?))) else {
        return Ok(None);
    };
    let mut table = settings::overridden(&training.config, &training.sets)?;
    if let Some(Value::Table(train)) = table.get_mut("train") {
        train.remove("out");
    }
    let judging = &folder.plan.points[trial.point].judging;
    let mut head =
        format!("# Winner of the sweep by {}: {}, seed {}.\n", answer.columns[0].name, row.title, trial.seed);
    if folder.plan.points[trial.point].made == (Made::Trained { side: Side::Negative }) {
        let judge = folder.sweep.eval.as_ref();
        let value = |own: Option<f64>, of: Option<f64>| own.or(of).unwrap_or(1.0);
        let (alpha, beta) = (value(judging.alpha, judge.map(|j| j.alpha)), value(judging.beta, judge.map(|j| j.beta)));
        head += &format!(
            "# Its LoRA acts on the negative side of guidance: --negative-lora, --negative-merge {alpha},{beta}.\n"
        );
    }
    if let Some(scale) = judging.guidance_scale {
        head += &format!("# Pictures: --guidance-scale {scale}.\n");
    }
    Ok(Some(format!("{head}\n{}", toml::to_string(&table)?)))
}
