//! From a recipe to commands.

use super::recipe::{Options, Recipe};
use super::stage::Stage;
use crate::pairs::Rule;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

/// A stage in a round, as a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub stage: Stage,
    /// From 1; `None` for the evaluation of all rounds.
    pub round: Option<u32>,
    /// Folder of its output.
    pub out: PathBuf,
    /// Arguments of this program.
    pub arguments: Vec<String>,
    /// The step whose output it reads, as an index into the steps of the chain.
    pub reads: Option<usize>,
}

impl Step {
    /// "round 1, score"
    pub fn title(&self) -> String {
        match self.round {
            Some(round) => format!("round {round}, {}", self.stage.name()),
            None => self.stage.name().into(),
        }
    }
}

/// Content of `final/` of the trainings of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    Lora,
    Model,
}

/// The model after a round, and the file that a round trains on, as arguments.
struct Trained<'a> {
    product: Product,
    /// Name of the file of pairs or lists.
    data: &'static str,
    /// The model of the first round.
    start: &'a str,
    /// `final/` of the newest training; `None` before the first.
    newest: Option<PathBuf>,
}

impl Trained<'_> {
    fn lora(folder: &Path) -> String {
        folder.join("pytorch_lora_weights.safetensors").display().to_string()
    }

    /// Arguments of `generate` behind those of the recipe.
    fn generate(&self) -> Vec<String> {
        match (&self.newest, self.product) {
            (None, _) => Vec::new(),
            (Some(newest), Product::Lora) => vec!["--lora".into(), Self::lora(newest)],
            (Some(newest), Product::Model) => vec!["--model".into(), newest.display().to_string()],
        }
    }

    /// The `--set` of `train`: it continues from this model, which is its reference too.
    fn train(&self) -> Option<String> {
        let newest = self.newest.as_ref()?;
        Some(match self.product {
            Product::Lora => format!("lora.init={}", Self::lora(newest)),
            Product::Model => format!("model.path={}", newest.display()),
        })
    }

    /// The model of `eval`.
    fn eval(&self) -> String {
        match (&self.newest, self.product) {
            (None, _) => self.start.into(),
            (Some(newest), Product::Lora) => format!("{}+{}", self.start, Self::lora(newest)),
            (Some(newest), Product::Model) => newest.display().to_string(),
        }
    }
}

/// Every step of a recipe, in order. Each reads the output of the one before.
pub fn steps(recipe: &Recipe, product: Product) -> Vec<Step> {
    let start = recipe.value(Stage::Generate, "model").unwrap_or_default();
    let rule = recipe.value(Stage::Pairs, "rule").and_then(|rule| Rule::from_str(rule, false).ok()).unwrap_or_default();
    let mut trained = Trained { product, data: rule.file(), start, newest: None };
    let (mut steps, mut models): (Vec<Step>, _) = (Vec::new(), vec![format!("start={}", trained.eval())]);
    for round in 1..=recipe.rounds {
        let folder = recipe.out.join(format!("round-{round}"));
        for (stage, options) in recipe.stages.iter().filter(|(stage, _)| *stage != Stage::Eval) {
            let out = folder.join(stage.name());
            let arguments = arguments(*stage, options, &folder, &trained);
            steps.push(Step { stage: *stage, round: Some(round), out, arguments, reads: steps.len().checked_sub(1) });
        }
        trained.newest = Some(folder.join("train/final"));
        models.push(format!("round-{round}={}", trained.eval()));
    }
    if let Some(options) = recipe.options(Stage::Eval) {
        let out = recipe.out.join("eval");
        let mut arguments = vec![Stage::Eval.name().to_string()];
        arguments.extend(models.into_iter().flat_map(|model| ["--model".into(), model]));
        arguments.extend(flags(options.iter()));
        arguments.extend(["--out".into(), out.display().to_string()]);
        steps.push(Step { stage: Stage::Eval, round: None, out, arguments, reads: steps.len().checked_sub(1) });
    }
    steps
}

/// The command of a stage other than eval. `folder`: that of its round.
fn arguments(stage: Stage, options: &Options, folder: &Path, trained: &Trained) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let replaced = |name: &str| match stage {
        Stage::Generate => name == "model" && trained.newest.is_some() && trained.product == Product::Model,
        Stage::Train => name == "config",
        Stage::Score | Stage::Pairs | Stage::Eval => false,
    };
    let mut all = vec![stage.name().to_string()];
    match stage {
        Stage::Generate | Stage::Eval => {}
        Stage::Score => all.push(path("generate")),
        Stage::Pairs => all.push(path("score/scores.jsonl")),
        Stage::Train => {
            let config = options.iter().filter(|(name, _)| name == "config");
            all.extend(config.filter_map(|(_, value)| value.clone()));
        }
    }
    all.extend(flags(options.iter().filter(|(name, _)| !replaced(name))));
    let out = path(stage.name());
    match stage {
        Stage::Generate => {
            all.extend(trained.generate());
            all.extend(["--resume".into(), "--out".into(), out]);
        }
        Stage::Score | Stage::Pairs | Stage::Eval => all.extend(["--out".into(), out]),
        Stage::Train => {
            let own = [format!("data.path={}", path(&format!("pairs/{}", trained.data))), format!("train.out={out}")];
            let sets = own.into_iter().chain(trained.train());
            all.extend(sets.flat_map(|set| ["--set".into(), set]));
            all.push("--resume=auto".into());
        }
    }
    all
}

fn flags<'a>(options: impl Iterator<Item = &'a (String, Option<String>)>) -> Vec<String> {
    options.flat_map(|(name, value)| [Some(format!("--{name}")), value.clone()]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(rounds: u32) -> Recipe {
        let option = |name: &str, value: &str| (name.to_string(), Some(value.to_string()));
        let stages = vec![
            (Stage::Generate, vec![option("model", "m"), option("prompts", "p.txt")]),
            (Stage::Score, vec![option("scorer", "x")]),
            (Stage::Pairs, Vec::new()),
            (Stage::Train, vec![option("config", "t.toml"), option("set", "train.steps=2")]),
            (Stage::Eval, vec![option("prompts", "p.txt")]),
        ];
        Recipe { out: "o".into(), rounds, stages }
    }

    fn commands(rounds: u32, product: Product) -> Vec<String> {
        steps(&recipe(rounds), product).iter().map(|step| step.arguments.join(" ")).collect()
    }

    #[test]
    fn a_round_is_four_commands_and_the_evaluation_follows() {
        assert_eq!(
            commands(1, Product::Lora),
            [
                "generate --model m --prompts p.txt --resume --out o/round-1/generate",
                "score o/round-1/generate --scorer x --out o/round-1/score",
                "pairs o/round-1/score/scores.jsonl --out o/round-1/pairs",
                "train t.toml --set train.steps=2 --set data.path=o/round-1/pairs/pairs.jsonl --set train.out=o/round-1/train --resume=auto",
                "eval --model start=m --model round-1=m+o/round-1/train/final/pytorch_lora_weights.safetensors --prompts p.txt --out o/eval",
            ]
        );
    }

    #[test]
    fn a_second_round_continues_from_the_first() {
        let lora = "o/round-1/train/final/pytorch_lora_weights.safetensors";
        let with_lora = commands(2, Product::Lora);
        assert_eq!(
            with_lora[4],
            format!("generate --model m --prompts p.txt --lora {lora} --resume --out o/round-2/generate")
        );
        assert!(with_lora[7].contains(&format!("--set lora.init={lora} --resume=auto")), "{}", with_lora[7]);
        let whole = commands(2, Product::Model);
        assert_eq!(
            whole[4],
            "generate --prompts p.txt --model o/round-1/train/final --resume --out o/round-2/generate"
        );
        assert!(whole[7].contains("--set model.path=o/round-1/train/final"), "{}", whole[7]);
        assert!(
            whole[8].contains(
                "--model start=m --model round-1=o/round-1/train/final --model round-2=o/round-2/train/final"
            )
        );
    }
}
