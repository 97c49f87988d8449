//! From a sweep file to points and trials.

use super::axis::{Axis, Sets};
use super::draw::Draw;
use super::file::{Method, Side, Strategy, Sweep};
use super::plan::{Judging, Made, Plan, Point, Training, Trial};
use crate::keys::ConfigError;
use crate::machine::hashes;
use crate::runs::flat;
use crate::settings::{self, Schedule};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A point with what its trials train.
struct Candidate {
    point: Point,
    config: PathBuf,
    sets: Sets,
}

/// Points and trials of a sweep. `file`: named in messages.
///
/// # Errors
/// Axes that do not fit the configuration, and more trials than `max_trials`.
pub fn expand(sweep: &Sweep, file: &Path) -> Result<Plan, ConfigError> {
    let refuse = |problem: String| ConfigError(format!("{}: {problem}", file.display()));
    let shared = Axis::all(&sweep.axes).map_err(refuse)?;
    let single = [unnamed(sweep)];
    let methods: &[Method] = if sweep.methods.is_empty() { &single } else { &sweep.methods };
    let mut plan = Plan {
        methods: methods.iter().map(|method| method.name.clone()).collect(),
        points: Vec::new(),
        trials: Vec::new(),
        rungs: vec![None],
    };
    for (index, method) in methods.iter().enumerate() {
        let own = Axis::all(&method.axes).map_err(refuse)?;
        let inherited = shared.iter().filter(|axis| own.iter().all(|other| other.name != axis.name)).cloned();
        let axes: Vec<Axis> = inherited.chain(own.clone()).collect();
        let candidates = match &method.negative {
            Some(negative) => {
                let place = |name: &String| methods.iter().position(|other| other.name == *name);
                let made = Made::Composed {
                    positive: method.positive.as_ref().and_then(place),
                    negative: place(negative).unwrap_or_default(),
                };
                candidates(sweep, method, index, &axes_of_eval(axes), &made).map_err(refuse)?
            }
            None => candidates(sweep, method, index, &axes, &Made::Trained { side: method.side }).map_err(refuse)?,
        };
        for candidate in candidates {
            add(&mut plan, sweep, method, candidate)?;
        }
    }
    if plan.trials.len() > sweep.max_trials {
        return Err(refuse(format!(
            "the axes give {} trials, and max_trials is {}. Raise max_trials, or take fewer values.",
            plan.trials.len(),
            sweep.max_trials
        )));
    }
    check_composed(&plan, sweep).map_err(refuse)?;
    plan.number(&BTreeMap::new());
    plan.rungs = rungs(sweep, &plan).map_err(refuse)?;
    Ok(plan)
}

fn unnamed(sweep: &Sweep) -> Method {
    Method {
        name: String::new(),
        group: None,
        base: sweep.base.clone(),
        set: Table::new(),
        axes: Table::new(),
        seeds: None,
        trials: None,
        side: Side::default(),
        positive: None,
        negative: None,
    }
}

/// A row made of trained models reads the axes of the evaluation alone.
fn axes_of_eval(axes: Vec<Axis>) -> Vec<Axis> {
    axes.into_iter().filter(|axis| axis.keys.iter().all(|key| key.starts_with("eval."))).collect()
}

fn candidates(
    sweep: &Sweep,
    method: &Method,
    index: usize,
    axes: &[Axis],
    made: &Made,
) -> Result<Vec<Candidate>, String> {
    let config = method.base.clone().or_else(|| sweep.base.clone()).unwrap_or_default();
    let base: Sets = overrides(&sweep.set)?.into_iter().chain(overrides(&method.set)?).collect();
    let trains = matches!(made, Made::Trained { .. });
    let written = |sets: &Sets| match trains {
        true => settings::overridden(&config, &training(sets)).map_err(|e| e.0),
        false => Ok(Table::new()),
    };
    if sweep.eval.is_none() && axes.iter().any(|axis| axis.keys.iter().any(|key| key.starts_with("eval."))) {
        return Err("axes: keys of the evaluation, and there is no [eval]. Add it.".into());
    }
    let draw = match (sweep.strategy, trains) {
        (Strategy::Grid, _) | (_, false) => None,
        (Strategy::Random | Strategy::Asha, true) => Some(Draw::Random { seed: sweep.draw_seed }),
        (Strategy::Sobol, true) => Some(Draw::sobol(sweep.draw_seed, axes.len())?),
    };
    // (coordinates, overrides) of every point so far.
    let mut partial: Vec<(Vec<(String, String)>, Sets)> = vec![(Vec::new(), base.clone())];
    if draw.is_some() {
        let count = method.trials.or(sweep.trials).unwrap_or(1);
        partial = vec![partial[0].clone(); count];
    }
    for (place, axis) in axes.iter().enumerate() {
        let mut next = Vec::new();
        for (number, (coordinates, sets)) in partial.into_iter().enumerate() {
            let table = written(&sets)?;
            if !axis.applies(&table) {
                next.push((coordinates, sets));
                continue;
            }
            axis.check(&table)?;
            let values = match draw {
                None => axis.grid(&table)?,
                Some(draw) => vec![axis.at(draw.at(&method.name, number, place), &table)?],
            };
            for (label, own) in values {
                let coordinates = coordinates.iter().cloned().chain([(axis.name.clone(), label)]).collect();
                next.push((coordinates, sets.iter().cloned().chain(own).collect()));
            }
        }
        partial = next;
    }
    let mut found: Vec<Candidate> = Vec::new();
    for (coordinates, sets) in partial {
        // Axes without an effect under their conditions, and drawn values of lists, repeat points.
        if found.iter().any(|known| known.point.coordinates == coordinates) {
            continue;
        }
        let point = Point { method: index, coordinates, made: made.clone(), judging: judging(&sets)? };
        found.push(Candidate { point, config: config.clone(), sets });
    }
    Ok(found)
}

/// `[set]` as overrides: quoted keys, or tables of keys.
fn overrides(set: &Table) -> Result<Sets, String> {
    let mut all = Sets::new();
    for (key, value) in set {
        match value {
            Value::Table(inner) => all.extend(inner.iter().map(|(k, v)| (format!("{key}.{k}"), v.clone()))),
            value if key.contains('.') => all.push((key.clone(), value.clone())),
            value => return Err(format!("set: {key} = {value}: expected \"TABLE.KEY\" = VALUE.")),
        }
    }
    match all.iter().find(|(key, _)| key == "train.seed" || key == "train.out") {
        Some((key, _)) => Err(format!("set: {key} is set by the sweep. Give seeds, or out.")),
        None => Ok(all),
    }
}

fn is_eval(key: &str) -> bool {
    key.starts_with("eval.")
}

fn training(sets: &Sets) -> Vec<String> {
    sets.iter().filter(|(key, _)| !is_eval(key)).map(|(key, value)| format!("{key}={value}")).collect()
}

fn judging(sets: &Sets) -> Result<Judging, String> {
    let number = |name: &str| {
        let value = sets.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
        let number = value.map(|v| v.as_float().or_else(|| v.as_integer().map(|i| i as f64)));
        match number {
            Some(None) => Err(format!("{name}: expected a number.")),
            known => Ok(known.flatten()),
        }
    };
    if let Some((key, _)) = sets.iter().find(|(key, _)| is_eval(key) && !super::axis::EVAL_KEYS.contains(&key.as_str()))
    {
        return Err(format!("{key}: expected one of {}.", super::axis::EVAL_KEYS.join(", ")));
    }
    let steps = number("eval.steps")?;
    if steps.is_some_and(|steps| steps < 1.0 || steps.fract() != 0.0) {
        return Err("eval.steps: expected a whole number of at least 1.".into());
    }
    Ok(Judging {
        guidance_scale: number("eval.guidance_scale")?,
        steps: steps.map(|steps| steps as usize),
        alpha: number("eval.alpha")?,
        beta: number("eval.beta")?,
    })
}

/// Adds a point with its trials: those that choose, then the others.
fn add(plan: &mut Plan, sweep: &Sweep, method: &Method, candidate: Candidate) -> Result<(), ConfigError> {
    let Candidate { point, config, sets } = candidate;
    let trains = matches!(point.made, Made::Trained { .. });
    let judged = method.seeds.clone().unwrap_or_else(|| sweep.seeds.clone());
    let choosing = match &sweep.choose {
        Some(choose) if trains => choose.seeds.clone().unwrap_or_else(|| judged.iter().copied().take(1).collect()),
        _ => Vec::new(),
    };
    let mut seeds = choosing.clone();
    seeds.extend(judged.iter().filter(|seed| !choosing.contains(seed)));
    let index = plan.points.len();
    plan.points.push(point);
    for seed in seeds {
        let training = trains.then(|| one_training(&config, &sets, seed)).transpose()?;
        let (chooses, judges) = (choosing.contains(&seed), judged.contains(&seed));
        plan.trials.push(Trial { number: 0, point: index, seed, training, chooses, judges });
    }
    Ok(())
}

fn one_training(config: &Path, sets: &Sets, seed: u64) -> Result<Training, ConfigError> {
    let mut sets = training(sets);
    sets.push(format!("train.seed={seed}"));
    let mut table = settings::overridden(config, &sets)?;
    if let Some(Value::Table(train)) = table.get_mut("train") {
        train.remove("out");
    }
    let json = serde_json::to_value(&table).map_err(|e| ConfigError(format!("{}: {e}", config.display())))?;
    let written = flat(&json);
    let text = serde_json::to_string(&written).map_err(|e| ConfigError(e.to_string()))?;
    Ok(Training { config: config.into(), sets, written, key: hashes::of_bytes(text.as_bytes()), owner: 0 })
}

/// A row made of trained models needs one model of each: a single point, or a chosen one, with the same seeds.
fn check_composed(plan: &Plan, sweep: &Sweep) -> Result<(), String> {
    for (index, point) in plan.points.iter().enumerate() {
        let Made::Composed { positive, negative } = point.made else { continue };
        for parent in positive.into_iter().chain([negative]) {
            let (name, points) = (&plan.methods[parent], plan.of_method(parent).count());
            if !plan.is_one_model(parent) && sweep.choose.is_none() {
                return Err(format!(
                    "\"{}\" takes the model of \"{name}\", which has {points} of them. Give it one point, or add [choose].",
                    plan.title(index)
                ));
            }
            let first = plan.of_method(parent).next().unwrap_or_default();
            let lacking = plan.of_point(index).find(|trial| plan.of_point(first).all(|other| other.seed != trial.seed));
            if let Some(trial) = lacking {
                return Err(format!(
                    "\"{}\" has seed {}, and \"{name}\" has not. Give both the same seeds.",
                    plan.title(index),
                    trial.seed
                ));
            }
        }
    }
    Ok(())
}

/// Steps of the rungs: min_steps, times eta, up to the steps of the configuration, which all trials share.
fn rungs(sweep: &Sweep, plan: &Plan) -> Result<Vec<Option<u64>>, String> {
    let Some(asha) = &sweep.asha else { return Ok(vec![None]) };
    let steps = |trial: &Trial| {
        trial.training.as_ref().and_then(|t| t.written.get("train.steps")).and_then(serde_json::Value::as_u64)
    };
    let most = plan
        .trials
        .first()
        .and_then(steps)
        .ok_or("strategy = \"asha\" needs train.steps in the configuration: the steps of the last rung.")?;
    if plan.trials.iter().any(|trial| steps(trial) != Some(most)) {
        return Err("strategy = \"asha\" ranks trials by equal steps, and train.steps differs between them.".into());
    }
    if let Some(schedule) =
        plan.trials.iter().filter_map(schedule_of).find(|schedule| *schedule != Schedule::Constant.name())
    {
        return Err(format!(
            "strategy = \"asha\" continues trials with more steps, and optim.schedule = \"{schedule}\" depends on their number. Set \"constant\"."
        ));
    }
    if asha.min_steps >= most {
        return Err(format!(
            "[asha] min_steps = {}: expected fewer than train.steps = {most}, the last rung.",
            asha.min_steps
        ));
    }
    let mut rungs = vec![Some(asha.min_steps)];
    let mut next = asha.min_steps.saturating_mul(asha.eta);
    while next < most {
        rungs.push(Some(next));
        next = next.saturating_mul(asha.eta);
    }
    rungs.push(Some(most));
    Ok(rungs)
}

fn schedule_of(trial: &Trial) -> Option<&str> {
    trial.training.as_ref()?.written.get("optim.schedule")?.as_str()
}
