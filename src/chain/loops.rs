//! Keys of loops over rounds: which prompts are generated anew, which pairs are trained on again, who labels.

use super::stage::Stage;
use crate::keys::Choice;
use crate::pairs::Consistency;
use clap::ValueEnum;
use toml::{Table, Value};

/// Each key with its table.
const KEYS: [(&str, Stage); 4] =
    [("refresh", Stage::Generate), ("label", Stage::Pairs), ("consistency", Stage::Pairs), ("replay", Stage::Train)];

crate::choice! {
    /// `[pairs] label`
    enum Label {
        /// The newest model.
        Own = "self",
    }
}

/// Loops of a recipe.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loops {
    /// `[generate] refresh`: share of the prompts that a round after the first generates anew, in (0, 1]; `None`: all.
    pub refresh: Option<f64>,
    /// `[train] replay`: share of the rows drawn from all rounds, in (0, 1).
    pub replay: Option<f64>,
    /// `[pairs] label = "self"`: the newest model labels, not scorers.
    pub own: Option<Own>,
}

/// Labels by the newest model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Own {
    /// `[pairs] consistency`: agreement with the model before; `None`: not measured.
    pub consistency: Option<Consistency>,
}

impl Loops {
    /// Whether a key of a table is one of a loop, and no option of the command.
    pub fn has(stage: Stage, key: &str) -> bool {
        KEYS.contains(&(key, stage))
    }

    /// Reads the keys from a recipe.
    ///
    /// # Errors
    /// A key in another table, a value outside its range, a key that has no effect: the text names it.
    pub fn of(recipe: &Table, rounds: u32) -> Result<Self, String> {
        refuse_misplaced(recipe)?;
        let value = |stage: Stage, key: &str| recipe.get(stage.name()).and_then(Value::as_table)?.get(key);
        let refresh = share("generate.refresh", value(Stage::Generate, "refresh"), |share| share <= 1.0, "at most 1")?;
        let replay = share("train.replay", value(Stage::Train, "replay"), |share| share < 1.0, "below 1")?;
        for (name, given) in [("generate.refresh", refresh), ("train.replay", replay)] {
            if given.is_some() && rounds == 1 {
                return Err(format!(
                    "{name} acts from the second round on, and rounds is 1. Raise rounds, or remove the key."
                ));
            }
        }
        let label = word("pairs.label", value(Stage::Pairs, "label"), |text| text.parse::<Label>())?;
        let consistency =
            word("pairs.consistency", value(Stage::Pairs, "consistency"), |text| Consistency::from_str(text, false))?;
        let own = match (label, consistency) {
            (Some(Label::Own), consistency) => Some(Own { consistency }),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(
                    "pairs.consistency compares a model's own labels with those of the model before, and scorers \
                            label here. Set pairs.label = \"self\", or remove the key."
                        .into(),
                );
            }
        };
        Ok(Self { refresh, replay, own })
    }
}

fn refuse_misplaced(recipe: &Table) -> Result<(), String> {
    for (key, home) in KEYS {
        if recipe.contains_key(key) {
            return Err(format!("{key} is a key of [{home}]. Move it there."));
        }
        for stage in Stage::ALL.iter().filter(|stage| **stage != home) {
            if recipe.get(stage.name()).and_then(Value::as_table).is_some_and(|table| table.contains_key(key)) {
                return Err(format!("{stage}.{key} is a key of [{home}]. Move it there."));
            }
        }
    }
    Ok(())
}

fn share(name: &str, value: Option<&Value>, in_range: fn(f64) -> bool, words: &str) -> Result<Option<f64>, String> {
    let Some(value) = value else { return Ok(None) };
    let number = value.as_float().or(value.as_integer().map(|whole| whole as f64));
    match number.filter(|share| *share > 0.0 && in_range(*share)) {
        Some(share) => Ok(Some(share)),
        None => Err(format!("{name} = {value}: expected a share above 0 and {words}.")),
    }
}

fn word<T>(name: &str, value: Option<&Value>, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    let Some(value) = value else { return Ok(None) };
    let wrong = |why: String| format!("{name} = {value}: {why}.");
    let text = value.as_str().ok_or_else(|| wrong("expected a word in quotes".into()))?;
    read(text).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, rounds: u32) -> Result<Loops, String> {
        Loops::of(&text.parse().unwrap(), rounds)
    }

    #[test]
    fn keys_of_loops_are_read_from_their_tables() {
        let text =
            "[generate]\nrefresh = 0.5\n[pairs]\nlabel = \"self\"\nconsistency = \"kendall\"\n[train]\nreplay = 0.25\n";
        let own = Some(Own { consistency: Some(Consistency::Kendall) });
        assert_eq!(read(text, 2), Ok(Loops { refresh: Some(0.5), replay: Some(0.25), own }));
        assert_eq!(read("[generate]\n", 1), Ok(Loops::default()));
    }

    #[test]
    fn what_has_no_effect_or_no_meaning_is_refused_with_its_key() {
        for (text, rounds, said) in [
            ("refresh = 0.5\n", 2, "refresh is a key of [generate]. Move it there."),
            ("[pairs]\nreplay = 0.5\n", 2, "pairs.replay is a key of [train]. Move it there."),
            ("[generate]\nrefresh = 0.5\n", 1, "generate.refresh acts from the second round on, and rounds is 1."),
            ("[train]\nreplay = 1.0\n", 2, "train.replay = 1.0: expected a share above 0 and below 1."),
            ("[generate]\nrefresh = 0\n", 2, "generate.refresh = 0: expected a share above 0 and at most 1."),
            ("[pairs]\nconsistency = \"kendall\"\n", 2, "pairs.consistency compares a model's own labels"),
            ("[pairs]\nlabel = \"nima\"\n", 2, "pairs.label = \"nima\": expected self."),
            ("[pairs]\nlabel = true\n", 2, "pairs.label = true: expected a word in quotes."),
            ("[pairs]\nlabel = \"self\"\nconsistency = \"tau\"\n", 2, "pairs.consistency = \"tau\": "),
        ] {
            let error = read(text, rounds).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
