//! A recipe: the options of each command, in TOML.

use super::loops::Loops;
use super::stage::Stage;
use crate::keys::{Choice, ConfigError, nearest};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Most rounds of a recipe.
const MOST_ROUNDS: i64 = 100;
/// Keys outside tables.
const TOP: [&str; 2] = ["out", "rounds"];
/// Options that the chain sets itself.
const SET_BY_CHAIN: &[(Stage, &[&str])] = &[
    (Stage::Generate, &["out", "resume", "json", "compare"]),
    (Stage::Score, &["input", "out", "json"]),
    (Stage::Pairs, &["input", "out", "json", "newest", "reference", "consistency-with", "earlier"]),
    (Stage::Train, &["resume", "dry-run", "json"]),
    (Stage::Eval, &["run", "model", "out", "json"]),
];

/// A recipe of `diffpref run`.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Folder of everything that the chain makes.
    pub out: PathBuf,
    /// At least 1. A further round generates with the model that the round before trained, and continues from it.
    pub rounds: u32,
    /// Options of every stage that the recipe has, in the order of the chain.
    pub stages: Vec<(Stage, Options)>,
    pub loops: Loops,
}

/// Options of a command as (name without dashes, value); a switch has no value.
pub type Options = Vec<(String, Option<String>)>;

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// A file that is not a recipe, with the table and key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError(format!("{file}: cannot read the recipe: {e}. Give the path of a TOML file.")))?;
        let table: Table = text
            .parse()
            .map_err(|e: toml::de::Error| ConfigError(format!("{file}: not TOML: {}", e.to_string().trim_end())))?;
        Self::of(&table, path).map_err(|problem| ConfigError(format!("{file}: {problem}")))
    }

    fn of(table: &Table, path: &Path) -> Result<Self, String> {
        let mut stages = Vec::new();
        for stage in Stage::ALL.iter().copied() {
            if let Some(options) = table.get(stage.name()) {
                stages.push((stage, options_of(stage, options)?));
            }
        }
        let (out, rounds) = (out(table)?, rounds(table)?);
        let loops = Loops::of(table, rounds)?;
        let known: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).chain(TOP).collect();
        if let Some(name) = table.keys().find(|name| !known.contains(&name.as_str())) {
            let hint = nearest(name, &known).map_or(String::new(), |known| format!(" (did you mean {known}?)"));
            return Err(format!("unknown table or key {name}{hint}. Known: {}.", known.join(", ")));
        }
        refuse_wrong_tables(&stages, loops)?;
        if let Some((_, pairs)) = stages.iter().find(|(stage, _)| *stage == Stage::Pairs)
            && pairs.iter().any(|(name, value)| name == "rule" && value.as_deref() == Some("small_margins"))
        {
            return Err("pairs.rule = \"small_margins\" makes pairs for people to judge, which nobody did yet: expected a rule that makes training data.".into());
        }
        let stem = path.file_stem().map_or("chain".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(Self { out: out.unwrap_or_else(|| format!("runs/{stem}").into()), rounds, stages, loops })
    }

    /// Scorers that rate the candidates and judge the result too.
    pub fn judges_of_own_labels(&self) -> Vec<&str> {
        let scorers = |stage: Stage| {
            let options = self.options(stage).into_iter().flatten().filter(|(name, _)| name == "scorer");
            options
                .filter_map(|(_, value)| value.as_deref())
                .map(|text| text.split_once('=').map_or(text, |(name, _)| name))
        };
        let by: Vec<&str> = self
            .options(Stage::Pairs)
            .into_iter()
            .flatten()
            .filter(|(name, _)| name == "by")
            .filter_map(|(_, value)| value.as_deref()?.split_once('.').map(|(scorer, _)| scorer))
            .collect();
        let decides = |name: &&str| by.is_empty() || by.contains(name);
        let labellers: Vec<&str> = scorers(Stage::Score).filter(decides).collect();
        scorers(Stage::Eval).filter(|name| labellers.contains(name)).collect()
    }

    /// The options of a stage.
    pub fn options(&self, stage: Stage) -> Option<&Options> {
        self.stages.iter().find(|(there, _)| *there == stage).map(|(_, options)| options)
    }

    /// The value of an option of a stage.
    pub fn value(&self, stage: Stage, option: &str) -> Option<&str> {
        let (_, value) = self.options(stage)?.iter().find(|(name, _)| name == option)?;
        value.as_deref()
    }
}

/// Refuses a recipe without a table that its chain needs, and a table that nothing reads.
fn refuse_wrong_tables(stages: &[(Stage, Options)], loops: Loops) -> Result<(), String> {
    let has = |stage: Stage| stages.iter().any(|(there, _)| *there == stage);
    let needed = match loops.own {
        None => &[Stage::Generate, Stage::Score, Stage::Pairs, Stage::Train][..],
        Some(_) => &[Stage::Generate, Stage::Pairs, Stage::Train],
    };
    if let Some(lacking) = needed.iter().find(|stage| !has(**stage)) {
        let needed: Vec<String> = needed.iter().map(|stage| format!("[{stage}]")).collect();
        return Err(format!("there is no table [{lacking}]: a chain has {} and, at will, [eval].", needed.join(", ")));
    }
    if loops.own.is_some() && has(Stage::Score) {
        return Err(
            "pairs.label = \"self\": the model labels its pictures, and nothing reads [score]. Remove the table, \
                    or the key."
                .into(),
        );
    }
    Ok(())
}

fn out(table: &Table) -> Result<Option<PathBuf>, String> {
    match table.get("out") {
        None => Ok(None),
        Some(Value::String(path)) if !path.trim().is_empty() => Ok(Some(path.into())),
        Some(other) => Err(format!("out = {other}: expected a path.")),
    }
}

fn rounds(table: &Table) -> Result<u32, String> {
    match table.get("rounds") {
        None => Ok(1),
        Some(Value::Integer(rounds)) if (1..=MOST_ROUNDS).contains(rounds) => Ok(*rounds as u32),
        Some(other) => Err(format!("rounds = {other}: expected a whole number in 1..{MOST_ROUNDS}.")),
    }
}

/// The options of a table: a list repeats its option, `true` is a switch, `false` leaves it out.
fn options_of(stage: Stage, value: &Value) -> Result<Options, String> {
    let name = stage.name();
    let Value::Table(table) = value else { return Err(format!("{name} = {value}: expected a table [{name}].")) };
    let own = SET_BY_CHAIN.iter().find(|(of, _)| *of == stage).map_or(&[][..], |(_, own)| own);
    let mut options = Options::new();
    for (key, value) in table.iter().filter(|(key, _)| !Loops::has(stage, key)) {
        let option = key.replace('_', "-");
        if own.contains(&option.as_str()) {
            return Err(format!("{name}.{key} is set by the chain. Remove the key."));
        }
        match value {
            Value::Array(values) => {
                for value in values {
                    options.push((option.clone(), Some(scalar(name, key, value)?)));
                }
            }
            Value::Boolean(true) => options.push((option, None)),
            Value::Boolean(false) => {}
            value => options.push((option, Some(scalar(name, key, value)?))),
        }
    }
    Ok(options)
}

fn scalar(table: &str, key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(_) | Value::Array(_) | Value::Table(_) | Value::Datetime(_) => Err(format!(
            "{table}.{key} = {value}: expected a text, a number, true or false, or a list of texts and numbers."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "[generate]\nmodel = \"m\"\nnum_images = 4\ngrid = true\n[score]\nscorer = [\"a\", \"b=c\"]\n[pairs]\n[train]\nconfig = \"t.toml\"\n";

    fn read(text: &str) -> Result<Recipe, String> {
        Recipe::of(&text.parse().unwrap(), Path::new("configs/loop.toml"))
    }

    #[test]
    fn keys_are_options_lists_repeat_them_and_switches_have_no_value() {
        let recipe = read(WHOLE).unwrap();
        assert_eq!((recipe.out.to_str(), recipe.rounds), (Some("runs/loop"), 1));
        let option = |name: &str, value: Option<&str>| (name.to_string(), value.map(String::from));
        let generate = [option("model", Some("m")), option("num-images", Some("4")), option("grid", None)];
        assert_eq!(recipe.options(Stage::Generate).unwrap(), &generate);
        assert_eq!(
            recipe.options(Stage::Score).unwrap(),
            &[option("scorer", Some("a")), option("scorer", Some("b=c"))]
        );
        assert_eq!(recipe.value(Stage::Train, "config"), Some("t.toml"));
    }

    #[test]
    fn a_scorer_that_decides_on_pairs_and_judges_is_named() {
        let judging = |by: &str| {
            let pairs = format!("[pairs]\n{by}");
            let text = WHOLE.replace("[pairs]\n", &pairs) + "[eval]\nscorer = [\"b=elsewhere\", \"c\"]\n";
            read(&text).unwrap().judges_of_own_labels().join(" ")
        };
        assert_eq!(judging(""), "b");
        assert_eq!(judging("by = [\"b.x:2\", \"a.y\"]\n"), "b");
        assert_eq!(judging("by = \"a.y\"\n"), "");
    }

    #[test]
    fn what_is_no_recipe_is_refused_with_its_key() {
        for (text, said) in [
            ("[genrate]", "unknown table or key genrate (did you mean"),
            ("rounds = 0\n", "rounds = 0: expected a whole number in 1..100."),
            ("out = 3\n", "out = 3: expected a path."),
            ("score = 3\n", "score = 3: expected a table [score]."),
            ("[score]\nout = \"x\"\n", "score.out is set by the chain."),
            ("[score]\nscorer = [[\"x\"]]\n", "score.scorer = [\"x\"]: expected a text"),
            (
                "[generate]\n[score]\n[train]\n",
                "there is no table [pairs]: a chain has [generate], [score], [pairs], [train]",
            ),
            ("[generate]\n[train]\n[pairs]\nlabel = \"self\"\n[score]\n", "nothing reads [score]"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
