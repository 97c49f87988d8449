//! `pairs --label self:MODEL`: candidates ranked by the model that is trained (CREAM, arXiv 2410.12735).
//!
//! ```text
//! implicit reward        r(x) = 0.5 beta E[ e_ref(x) - e(x) ]
//! diffusion classifier   q(x) = E[ e(x; "") - e(x; c) ]
//! ```
//!
//! E is the mean over noise levels and noise that all candidates of a prompt share. q serves where there is no
//! reference other than the model itself, whose implicit reward would be 0 for every picture.

use super::super::candidates::Candidates;
use super::consistency::Consistency;
use crate::data::items::{ImageRef, Item, Preference};
use crate::denoising::{Errors, NamedModel, Options, Source, errors};
use crate::keys::ConfigError;
use crate::numbers::mean;
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;
use tch::{Device, Kind};

/// Name in `scores` of the rows.
pub const SCORER: &str = "self";
/// Fewest draws: two pictures differ in error by their content far more than by what training moved.
const FEWEST_DRAWS: u64 = 10;

crate::choice! {
    /// Numbers that rank candidates.
    pub enum Ranking {
        ImplicitReward = "implicit_reward",
        DiffusionClassifier = "diffusion_classifier",
    }
}

impl Ranking {
    pub fn in_words(self) -> &'static str {
        match self {
            Self::ImplicitReward => "implicit reward",
            Self::DiffusionClassifier => "diffusion classifier",
        }
    }
}

/// `--consistency-with`
#[derive(Debug, Clone, PartialEq)]
pub enum Earlier {
    /// The ranking by draws 0, 2, .. against that by draws 1, 3, ..
    Halves,
    /// Another model, as text.
    Model(String),
}

crate::choice! {
    /// The word of `--consistency-with` that is no model.
    enum Word {
        Halves = "halves",
    }
}

impl FromStr for Earlier {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.parse::<Word>() {
            Ok(Word::Halves) => Self::Halves,
            Err(_) => Self::Model(text.into()),
        })
    }
}

/// `--label self:MODEL` and its options.
#[derive(Debug, Clone)]
pub struct OwnLabels {
    /// The model, as text.
    pub model: String,
    /// The reference of implicit rewards, as text; `None`: the start of `model`.
    pub reference: Option<String>,
    pub earlier: Option<Earlier>,
    pub consistency: Consistency,
    /// Shared noise levels, at least 10.
    pub draws: u64,
    /// Above 0.
    pub beta: f64,
    pub device: Device,
    /// Data type of the networks.
    pub kind: Kind,
    /// Threads that decode pictures.
    pub workers: usize,
    pub cache_dir: PathBuf,
}

/// A model that ranked the candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranker {
    /// Its files, as text.
    pub model: String,
    pub ranking: Ranking,
}

/// Who labelled, for pairs.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    pub by: Ranker,
    /// Files of the reference of implicit rewards, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    pub draws: u64,
    pub beta: f64,
    /// Pixels per side.
    pub resolution: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Agreed>,
}

/// Agreement with another ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreed {
    /// The other model; `None`: halves of the draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<Ranker>,
    pub measure: Consistency,
    /// Mean c over prompts with two candidates or more.
    pub mean: f64,
}

/// The models of a request.
struct Models {
    own: NamedModel,
    reference: Option<NamedModel>,
    earlier: Option<NamedModel>,
    resolution: Option<i64>,
}

/// Numbers per draw, `[prompts][pictures][draws]`, and what they are.
struct Ranked {
    ranker: Ranker,
    numbers: Vec<Vec<Vec<f64>>>,
}

/// Ranks the candidates by the model's own numbers, and gives each prompt its agreement c.
///
/// # Errors
/// [`ConfigError`] for wrong options and for models whose errors cannot be compared; pictures that cannot be read;
/// [`crate::progress::Stopped`] after a signal.
pub fn label(
    prompts: &mut [Candidates],
    request: &OwnLabels,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Labelled> {
    check(request)?;
    let models = Models::of(request)?;
    let items: Vec<Item> = prompts.iter().enumerate().map(item).collect();
    let task = Task { items: &items, request, resolution: models.resolution, progress, stop };
    let rankers = std::iter::once(&models.own).chain(&models.earlier);
    let compared = rankers.into_iter().any(|model| models.ranking(model) == Ranking::ImplicitReward);
    let reference = match models.reference.as_ref().filter(|_| compared) {
        Some(reference) => Some((reference.source(), task.errors(reference, false, None)?)),
        None => None,
    };
    let first = reference.as_ref();
    let (own, resolution) = task.ranked(&models, &models.own, first, None)?;
    let earlier = match &models.earlier {
        Some(model) => Some(task.ranked(&models, model, first, Some(resolution))?.0),
        None => None,
    };
    let halves = request.earlier == Some(Earlier::Halves);
    for (index, prompt) in prompts.iter_mut().enumerate() {
        let draws = &own.numbers[index];
        prompt.numbers = vec![draws.iter().filter_map(mean_of).collect()];
        let other: Option<[Vec<f64>; 2]> = match &earlier {
            Some(earlier) => {
                Some([prompt.numbers[0].clone(), earlier.numbers[index].iter().filter_map(mean_of).collect()])
            }
            None => halves.then(|| [half(draws, 0), half(draws, 1)]),
        };
        prompt.confidence =
            other.filter(|[one, _]| one.len() > 1).map(|[one, other]| request.consistency.of(&one, &other));
    }
    let agreed = mean(prompts.iter().filter_map(|prompt| prompt.confidence)).map(|mean| Agreed {
        with: earlier.map(|earlier| earlier.ranker),
        measure: request.consistency,
        mean,
    });
    let reference = reference.map(|(source, _)| source);
    Ok(Labelled {
        by: own.ranker,
        reference,
        draws: request.draws,
        beta: request.beta,
        resolution,
        consistency: agreed,
    })
}

fn check(request: &OwnLabels) -> Result<(), ConfigError> {
    if request.draws < FEWEST_DRAWS {
        return Err(ConfigError(format!("--draws {}: expected at least {FEWEST_DRAWS}", request.draws)));
    }
    if !(request.beta.is_finite() && request.beta > 0.0) {
        return Err(ConfigError(format!("--beta {}: expected a number above 0", request.beta)));
    }
    Ok(())
}

impl Models {
    fn of(request: &OwnLabels) -> Result<Self> {
        let Source { model: own, start, resolution } = Source::read("--label self", &request.model)?;
        let read = |option: &str, text: &String| Source::read(option, text).map(|source| source.model);
        let reference = request.reference.as_ref().map(|text| read("--reference", text)).transpose()?;
        let earlier = match &request.earlier {
            Some(Earlier::Model(text)) => Some(read("--consistency-with", text)?),
            Some(Earlier::Halves) | None => None,
        };
        Ok(Self { own, reference: reference.or(start), earlier, resolution })
    }

    /// A model has no implicit reward against itself.
    fn ranking(&self, model: &NamedModel) -> Ranking {
        match &self.reference {
            Some(reference) if reference.source() != model.source() => Ranking::ImplicitReward,
            Some(_) | None => Ranking::DiffusionClassifier,
        }
    }
}

struct Task<'a> {
    items: &'a [Item],
    request: &'a OwnLabels,
    resolution: Option<i64>,
    progress: &'a dyn Progress,
    stop: &'a Stop,
}

impl Task<'_> {
    fn errors(&self, model: &NamedModel, unprompted: bool, resolution: Option<i64>) -> Result<Errors> {
        let OwnLabels { draws, device, kind, workers, cache_dir, .. } = self.request;
        let options = Options {
            draws: *draws,
            resolution: resolution.or(self.resolution),
            device: *device,
            kind: *kind,
            workers: *workers,
            cache_dir,
        };
        errors(model, self.items, unprompted, options, self.progress, self.stop)
    }

    /// The numbers of a model, and the resolution of its pictures.
    fn ranked(
        &self,
        models: &Models,
        model: &NamedModel,
        reference: Option<&(String, Errors)>,
        resolution: Option<i64>,
    ) -> Result<(Ranked, i64)> {
        let resolution = reference.map(|(_, errors)| errors.space.resolution).or(resolution);
        let ranking = models.ranking(model);
        let own = self.errors(model, ranking == Ranking::DiffusionClassifier, resolution)?;
        let numbers = match ranking {
            Ranking::ImplicitReward => {
                let (name, errors) = reference.context("the reference was not measured")?;
                refuse_other_space(name, errors, &model.source(), &own)?;
                let scale = 0.5 * self.request.beta;
                combined(&errors.prompted, &own.prompted, |reference, own| scale * (reference - own))
            }
            Ranking::DiffusionClassifier => {
                let without = own.unprompted.as_ref().context("the empty prompt was not measured")?;
                combined(without, &own.prompted, |without, with| without - with)
            }
        };
        Ok((Ranked { ranker: Ranker { model: model.source(), ranking }, numbers }, own.space.resolution))
    }
}

fn refuse_other_space(first: &str, reference: &Errors, name: &str, own: &Errors) -> Result<(), ConfigError> {
    match reference.space.difference(&own.space) {
        None => Ok(()),
        Some(what) => Err(ConfigError(format!(
            "--label self: the models {first} and {name} differ in their {what}: their errors cannot be compared; give \
             another --reference"
        ))),
    }
}

/// f of both numbers of every draw.
fn combined(a: &[Vec<Vec<f64>>], b: &[Vec<Vec<f64>>], f: impl Fn(f64, f64) -> f64) -> Vec<Vec<Vec<f64>>> {
    let draws = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect();
    let pictures = |(a, b): (&Vec<Vec<f64>>, &Vec<Vec<f64>>)| a.iter().zip(b).map(draws).collect();
    a.iter().zip(b).map(pictures).collect()
}

fn mean_of(draws: &Vec<f64>) -> Option<f64> {
    mean(draws)
}

/// Means of the pictures over every second draw, from `first`.
fn half(pictures: &[Vec<f64>], first: usize) -> Vec<f64> {
    pictures.iter().filter_map(|draws| mean(draws.iter().skip(first).step_by(2))).collect()
}

/// The prompt's text is the id, so noise does not depend on the order of prompts.
fn item((row, of): (usize, &Candidates)) -> Item {
    Item {
        id: of.prompt.clone(),
        prompt: of.prompt.clone(),
        images: of.pictures.iter().cloned().map(ImageRef::File).collect(),
        preference: Preference::default(),
        weight: None,
        scores: Default::default(),
        user: None,
        labels: Default::default(),
        share: None,
        strength: None,
        row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_differences_draw_by_draw() {
        let reference = vec![vec![vec![0.1004, 0.1206]]];
        let own = vec![vec![vec![0.1000, 0.1210]]];
        let found = combined(&reference, &own, |reference, own| 2500.0 * (reference - own));
        assert!((found[0][0][0] - 1.0).abs() < 1e-9 && (found[0][0][1] + 1.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn halves_take_every_second_draw() {
        let pictures = [vec![1.0, 10.0, 3.0, 30.0], vec![0.0, 2.0, 0.0, 4.0]];
        assert_eq!((half(&pictures, 0), half(&pictures, 1)), (vec![2.0, 0.0], vec![20.0, 3.0]));
    }

    #[test]
    fn a_model_that_is_its_own_reference_ranks_by_the_diffusion_classifier() {
        let model = |text: &str| Source::read("--label", text).unwrap().model;
        let models = |own: &str, reference: Option<&str>| Models {
            own: model(own),
            reference: reference.map(model),
            earlier: None,
            resolution: None,
        };
        let lora = models("a+b.safetensors", Some("a"));
        assert_eq!(lora.ranking(&lora.own), Ranking::ImplicitReward);
        assert_eq!(lora.ranking(&model("a")), Ranking::DiffusionClassifier);
        let alone = models("a", None);
        assert_eq!(alone.ranking(&alone.own), Ranking::DiffusionClassifier);
    }
}
