//! From a recipe to commands.

use super::loops::Loops;
use super::recipe::{Options, Recipe};
use super::stage::Stage;
use crate::pairs::{REFRESH, Rule};
use clap::ValueEnum;
use std::path::PathBuf;

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

/// Files of a chain.
struct Chain<'a> {
    recipe: &'a Recipe,
    product: Product,
    /// The model of the first round.
    start: &'a str,
    /// Name of the file of pairs or lists.
    data: &'static str,
}

impl<'a> Chain<'a> {
    fn of(recipe: &'a Recipe, product: Product) -> Self {
        let start = recipe.value(Stage::Generate, "model").unwrap_or_default();
        let rule = recipe.value(Stage::Pairs, "rule").and_then(|rule| Rule::from_str(rule, false).ok());
        Self { recipe, product, start, data: rule.unwrap_or_default().file() }
    }

    /// A file or folder of a round.
    fn path(&self, round: u32, name: &str) -> String {
        self.recipe.out.join(format!("round-{round}")).join(name).display().to_string()
    }

    /// The LoRA or the model that a round trained.
    fn trained(&self, round: u32) -> String {
        match self.product {
            Product::Lora => self.path(round, "train/final/pytorch_lora_weights.safetensors"),
            Product::Model => self.path(round, "train/final"),
        }
    }

    /// The model after so many rounds, as `eval` names it.
    fn model(&self, rounds: u32) -> String {
        match (rounds, self.product) {
            (0, _) => self.start.into(),
            (round, Product::Lora) => format!("{}+{}", self.start, self.trained(round)),
            (round, Product::Model) => self.trained(round),
        }
    }

    /// The command of a stage other than eval.
    fn arguments(&self, stage: Stage, options: &Options, round: u32) -> Vec<String> {
        let mut all = vec![stage.name().to_string()];
        match stage {
            Stage::Generate | Stage::Eval => {}
            Stage::Score => all.push(self.path(round, "generate")),
            Stage::Pairs => all.extend(self.rated(round)),
            Stage::Train => {
                let config = options.iter().filter(|(name, _)| name == "config");
                all.extend(config.filter_map(|(_, value)| value.clone()));
            }
        }
        all.extend(flags(options.iter().filter(|(name, _)| !self.replaces(stage, name, round))));
        all.extend(match stage {
            Stage::Generate => self.generate(round),
            Stage::Pairs => self.pairs(round),
            Stage::Train => self.train(round),
            Stage::Score | Stage::Eval => Vec::new(),
        });
        match stage {
            Stage::Train => all.push("--resume=auto".into()),
            Stage::Generate => all.extend(["--resume".into(), "--out".into(), self.path(round, stage.name())]),
            Stage::Score | Stage::Pairs | Stage::Eval => all.extend(["--out".into(), self.path(round, stage.name())]),
        }
        all
    }

    /// Whether the chain sets an option of the recipe anew.
    fn replaces(&self, stage: Stage, option: &str, round: u32) -> bool {
        match stage {
            Stage::Generate => {
                let model = option == "model" && round > 1 && self.product == Product::Model;
                let prompts = ["prompt", "prompts", "prompt-column"].contains(&option);
                model || (prompts && self.refreshes(round))
            }
            Stage::Train => option == "config",
            Stage::Score | Stage::Pairs | Stage::Eval => false,
        }
    }

    /// Whether a round generates some prompts alone.
    fn refreshes(&self, round: u32) -> bool {
        self.recipe.loops.refresh.is_some() && round > 1
    }

    fn generate(&self, round: u32) -> Vec<String> {
        let mut all = Vec::new();
        if self.refreshes(round) {
            all.extend(["--prompts".into(), self.path(round - 1, &format!("pairs/{REFRESH}"))]);
        }
        if round > 1 {
            let option = match self.product {
                Product::Lora => "--lora",
                Product::Model => "--model",
            };
            all.extend([option.into(), self.trained(round - 1)]);
        }
        all
    }

    /// Inputs of `pairs`: those of all rounds where prompts keep earlier pictures.
    fn rated(&self, round: u32) -> Vec<String> {
        let first = if self.refreshes(round) { 1 } else { round };
        let name = if self.recipe.loops.own.is_some() { "generate" } else { "score/scores.jsonl" };
        (first..=round).map(|round| self.path(round, name)).collect()
    }

    fn pairs(&self, round: u32) -> Vec<String> {
        let Loops { refresh, replay, own } = self.recipe.loops;
        let mut all: Vec<String> = Vec::new();
        if let Some(own) = own {
            all.extend(["--label".into(), format!("self:{}", self.model(round - 1))]);
            if round > 1 {
                all.extend(["--reference".into(), self.model(0)]);
            }
            if let Some(measure) = own.consistency {
                // The start model has no earlier one: its ranking is compared with itself on other noise.
                let earlier = round.checked_sub(2).map_or("halves".into(), |before| self.model(before));
                let measure = measure.to_possible_value().map_or(String::new(), |value| value.get_name().into());
                all.extend(["--consistency-with".into(), earlier, "--consistency".into(), measure]);
            }
        }
        if self.refreshes(round) {
            all.push("--newest".into());
        }
        if let Some(share) = refresh.filter(|_| round < self.recipe.rounds) {
            all.extend(["--refresh".into(), share.to_string()]);
        }
        if let Some(share) = replay.filter(|_| round > 1) {
            all.extend(["--replay".into(), share.to_string()]);
            let earlier = (1..round).map(|round| self.path(round, &format!("pairs/{}", self.data)));
            all.extend(earlier.flat_map(|file| ["--earlier".into(), file]));
        }
        all
    }

    /// A later round continues from the model before, which is its reference too.
    fn train(&self, round: u32) -> Vec<String> {
        let data = format!("data.path={}", self.path(round, &format!("pairs/{}", self.data)));
        let out = format!("train.out={}", self.path(round, Stage::Train.name()));
        let from = (round > 1).then(|| match self.product {
            Product::Lora => format!("lora.init={}", self.trained(round - 1)),
            Product::Model => format!("model.path={}", self.trained(round - 1)),
        });
        [data, out].into_iter().chain(from).flat_map(|set| ["--set".into(), set]).collect()
    }
}

/// Every step of a recipe, in order. Each reads the output of the one before.
pub fn steps(recipe: &Recipe, product: Product) -> Vec<Step> {
    let chain = Chain::of(recipe, product);
    let mut steps: Vec<Step> = Vec::new();
    for round in 1..=recipe.rounds {
        for (stage, options) in recipe.stages.iter().filter(|(stage, _)| *stage != Stage::Eval) {
            let arguments = chain.arguments(*stage, options, round);
            let out = chain.path(round, stage.name()).into();
            steps.push(Step { stage: *stage, round: Some(round), out, arguments, reads: steps.len().checked_sub(1) });
        }
    }
    if let Some(options) = recipe.options(Stage::Eval) {
        let out = recipe.out.join("eval");
        let later = (1..=recipe.rounds).map(|round| format!("round-{round}={}", chain.model(round)));
        let mut arguments = vec![Stage::Eval.name().to_string()];
        let models = std::iter::once(format!("start={}", chain.model(0))).chain(later);
        arguments.extend(models.flat_map(|model| ["--model".into(), model]));
        arguments.extend(flags(options.iter()));
        arguments.extend(["--out".into(), out.display().to_string()]);
        steps.push(Step { stage: Stage::Eval, round: None, out, arguments, reads: steps.len().checked_sub(1) });
    }
    steps
}

fn flags<'a>(options: impl Iterator<Item = &'a (String, Option<String>)>) -> Vec<String> {
    options.flat_map(|(name, value)| [Some(format!("--{name}")), value.clone()]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::loops::Own;
    use crate::pairs::Consistency;

    fn recipe(rounds: u32) -> Recipe {
        let option = |name: &str, value: &str| (name.to_string(), Some(value.to_string()));
        let stages = vec![
            (Stage::Generate, vec![option("model", "m"), option("prompts", "p.txt")]),
            (Stage::Score, vec![option("scorer", "x")]),
            (Stage::Pairs, Vec::new()),
            (Stage::Train, vec![option("config", "t.toml"), option("set", "train.steps=2")]),
            (Stage::Eval, vec![option("prompts", "p.txt")]),
        ];
        Recipe { out: "o".into(), rounds, stages, loops: Loops::default() }
    }

    /// The command of a stage in a round.
    fn command(recipe: &Recipe, stage: Stage, round: u32) -> String {
        let steps = steps(recipe, Product::Lora);
        let step = steps.iter().find(|step| (step.stage, step.round) == (stage, Some(round))).unwrap();
        step.arguments.join(" ")
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

    #[test]
    fn a_refreshed_round_generates_some_prompts_and_pairs_the_newest_pictures_of_all() {
        let mut recipe = recipe(3);
        recipe.loops.refresh = Some(0.5);
        let lora = "o/round-2/train/final/pytorch_lora_weights.safetensors";
        assert_eq!(
            command(&recipe, Stage::Generate, 3),
            format!(
                "generate --model m --prompts o/round-2/pairs/refresh.jsonl --lora {lora} --resume --out o/round-3/generate"
            )
        );
        assert_eq!(
            command(&recipe, Stage::Pairs, 1),
            "pairs o/round-1/score/scores.jsonl --refresh 0.5 --out o/round-1/pairs"
        );
        assert_eq!(
            command(&recipe, Stage::Pairs, 3),
            "pairs o/round-1/score/scores.jsonl o/round-2/score/scores.jsonl o/round-3/score/scores.jsonl --newest --out o/round-3/pairs"
        );
    }

    #[test]
    fn replayed_rounds_name_the_pairs_before() {
        let mut recipe = recipe(3);
        recipe.loops.replay = Some(0.25);
        assert!(!command(&recipe, Stage::Pairs, 1).contains("--replay"));
        let third = command(&recipe, Stage::Pairs, 3);
        let expected =
            "--replay 0.25 --earlier o/round-1/pairs/pairs.jsonl --earlier o/round-2/pairs/pairs.jsonl --out";
        assert!(third.contains(expected), "{third}");
    }

    #[test]
    fn the_newest_model_labels_and_the_one_before_it_agrees_or_not() {
        let mut recipe = recipe(3);
        recipe.stages.retain(|(stage, _)| *stage != Stage::Score);
        recipe.loops.own = Some(Own { consistency: Some(Consistency::BestAndWorst) });
        let lora = |round: u32| format!("m+o/round-{round}/train/final/pytorch_lora_weights.safetensors");
        assert_eq!(
            command(&recipe, Stage::Pairs, 1),
            "pairs o/round-1/generate --label self:m --consistency-with halves --consistency best_and_worst --out o/round-1/pairs"
        );
        assert_eq!(
            command(&recipe, Stage::Pairs, 2),
            format!(
                "pairs o/round-2/generate --label self:{} --reference m --consistency-with m --consistency best_and_worst --out o/round-2/pairs",
                lora(1)
            )
        );
        let third = command(&recipe, Stage::Pairs, 3);
        assert!(
            third.contains(&format!("--label self:{} --reference m --consistency-with {} ", lora(2), lora(1))),
            "{third}"
        );
    }
}
