//! `diffpref generate --compare SIDE SIDE ..`: names of sides, and their options over the common ones.

use super::model::ModelArgs;
use super::painting::PaintingArgs;
use clap::Parser;
use std::path::Path;
use std::str::FromStr;

/// `MODEL`, `NAME=MODEL` or `NAME="--options .."`.
#[derive(Debug, Clone)]
pub struct SideArgs {
    pub name: String,
    pub model: ModelArgs,
    pub painting: PaintingArgs,
}

/// Options that may differ between sides.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct SideOptions {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    painting: PaintingArgs,
}

/// Options of `generate` that are common to all sides, with the reason.
const COMMON: [(&str, &str); 14] = [
    ("--prompt", SAME_PICTURES),
    ("--prompts", SAME_PICTURES),
    ("--prompt-column", SAME_PICTURES),
    ("--seed", SAME_NOISE),
    ("--num-images", SAME_PICTURES),
    ("--width", SAME_NOISE),
    ("--height", SAME_NOISE),
    ("--batch", "it changes no picture"),
    ("--device", "all sides compute on one device"),
    ("--grid", "every side gets one of its own, or none"),
    ("--resume", "all sides continue, or none"),
    ("--out", "every side has a folder in it, called after the side"),
    ("--compare", "a side is not a comparison"),
    ("--json", "it is about printing the result"),
];
const SAME_PICTURES: &str = "all sides paint the same prompts";
const SAME_NOISE: &str = "all sides start from the same noise";

impl FromStr for SideArgs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, value)) = named(text) else {
            let name = checked(&name_of(Path::new(text)))?;
            return Ok(Self { name, model: ModelArgs::of(text), painting: PaintingArgs::default() });
        };
        let name = checked(name)?;
        if !value.is_empty() && !value.starts_with('-') {
            return Ok(Self { name, model: ModelArgs::of(value), painting: PaintingArgs::default() });
        }
        let words = shlex::split(value).ok_or_else(|| format!("{name}: a quotation in {value:?} does not end"))?;
        for word in &words {
            let option = word.split('=').next().unwrap_or_default();
            if let Some((option, reason)) = COMMON.iter().find(|(common, _)| *common == option) {
                return Err(format!(
                    "{name}: {option} is no option of a side: {reason}; give it once, beside --compare"
                ));
            }
        }
        let SideOptions { model, painting } =
            SideOptions::try_parse_from(words).map_err(|e| format!("{name}: {}", first_lines(&e)))?;
        Ok(Self { name, model, painting })
    }
}

/// The text before and after the first `=`; None for the path of a model.
fn named(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    (!name.contains(['/', '\\']) && !Path::new(text).exists()).then_some((name, value))
}

/// Default name of a model.
fn name_of(model: &Path) -> String {
    let is_file = model.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"));
    let name = if is_file { model.file_stem() } else { model.file_name() };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// A name must be valid as a folder, and in an address of the page.
fn checked(name: &str) -> Result<String, String> {
    let usable = |letter: char| letter.is_alphanumeric() || " ._+-".contains(letter);
    let taken = ["compare.png", "compare.html", "images.jsonl"].contains(&name);
    match !name.is_empty() && !name.starts_with(['.', ' ', '-']) && !taken && name.chars().all(usable) {
        true => Ok(name.to_string()),
        false => Err(format!(
            "{name:?} is no name of a side: expected letters, digits, spaces and ._+-, for example tuned=MODEL or \
             tuned=\"--lora style.safetensors\""
        )),
    }
}

/// clap's message without its heading and its usage.
fn first_lines(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.split("\n\nUsage").next().unwrap_or(&text).trim_start_matches("error: ");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(text: &str) -> SideArgs {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    fn refused(text: &str) -> String {
        text.parse::<SideArgs>().unwrap_err()
    }

    #[test]
    fn a_side_is_a_model_or_a_name_with_a_model_or_options() {
        let model = |side: &SideArgs| side.model.location().ok().map(|model| model.path.display().to_string());
        for (text, name, path) in [
            ("models/sd15", "sd15", Some("models/sd15")),
            ("org/name", "name", Some("org/name")),
            ("models/x=y/style.safetensors", "style", Some("models/x=y/style.safetensors")),
            ("old=models/sd15", "old", Some("models/sd15")),
            ("base=", "base", None),
            ("fast=--steps 5", "fast", None),
            ("other=--model models/sd15 --revision v2", "other", Some("models/sd15")),
        ] {
            let side = side(text);
            assert_eq!((side.name.as_str(), model(&side).as_deref()), (name, path), "{text}");
        }
        let quoted = side("style=--lora 'my style.safetensors:0.5' --negative-prompt \"\"");
        assert_eq!(quoted.painting.lora[0].path, Path::new("my style.safetensors"));
        assert_eq!(quoted.painting.negative_prompt.as_deref(), Some(""));
    }

    #[test]
    fn options_of_a_side_take_the_place_of_the_common_ones() {
        let common = side("c=--model m --revision v1 --lora a:0.5 --lora b --eta 0.5 --scheduler ddim");
        let own = side("o=--lora c --eta 1");
        let painting = own.painting.over(&common.painting);
        let sampling = painting.sampling();
        assert_eq!((sampling.scheduler.map(|s| s.name), sampling.eta), (Some("ddim"), Some(1.0)));
        assert_eq!(painting.lora.iter().map(|lora| lora.path.to_str().unwrap()).collect::<Vec<_>>(), ["c"]);
        assert_eq!(own.model.over(&common.model).location().unwrap().revision.as_deref(), Some("v1"));
        let other = side("n").model.over(&common.model).location().unwrap();
        assert_eq!((other.path.to_str(), other.revision), (Some("n"), None), "a revision belongs to its model");
    }

    #[test]
    fn options_that_no_side_has_are_refused_with_the_reason() {
        for (option, reason) in COMMON {
            let text = refused(&format!("a=--steps 5 {option}=1"));
            assert_eq!(text, format!("a: {option} is no option of a side: {reason}; give it once, beside --compare"));
        }
        assert!(
            refused("a=--stepz 5").starts_with("a: unexpected argument '--stepz' found"),
            "{}",
            refused("a=--stepz 5")
        );
        assert!(refused("a=--steps x").contains("invalid value 'x' for '--steps <N>'"), "{}", refused("a=--steps x"));
        assert!(refused("a=--lora 'x").contains("a quotation in"), "{}", refused("a=--lora 'x"));
        for name in ["=m", "..=m", "a%=m", "compare.png=m"] {
            assert!(refused(name).contains("is no name of a side"), "{name}: {}", refused(name));
        }
    }
}
