//! The form of a key's values.

use super::range::Range;
use toml::Value;

/// The values that a key accepts.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Bool,
    /// A whole number in `min..=max`.
    Int {
        min: i64,
        max: i64,
    },
    /// A number in the interval; integers are accepted and become reals.
    Real(Range),
    /// Two numbers, each in the interval.
    RealPair(Range),
    Text,
    /// One of the built names. The second list holds known names that are not built yet (`score:` is a prefix).
    Choice(&'static [&'static str], &'static [&'static str]),
    Texts,
    /// A list of texts, or one text (the path of a file with them).
    TextsOrFile,
    Ints {
        min: i64,
        max: i64,
    },
    /// A check: it returns the canonical form, or the expected form in words.
    Checked {
        check: fn(&Value) -> Result<Value, String>,
        words: &'static str,
    },
}

impl Kind {
    pub(super) fn check(&self, value: &Value) -> Result<Value, String> {
        let checked = match self {
            Kind::Bool => value.as_bool().map(Value::Boolean),
            Kind::Int { min, max } => value.as_integer().filter(|i| (*min..=*max).contains(i)).map(Value::Integer),
            Kind::Real(range) => range.number(value).map(Value::Float),
            Kind::RealPair(range) => {
                let list = value.as_array().filter(|a| a.len() == 2);
                let pair = list.and_then(|a| a.iter().map(|v| range.number(v)).collect::<Option<Vec<f64>>>());
                pair.map(|p| Value::Array(p.into_iter().map(Value::Float).collect()))
            }
            Kind::Text => value.as_str().filter(|text| !text.is_empty()).map(|_| value.clone()),
            Kind::Choice(built, unbuilt) => return check_choice(built, unbuilt, value),
            Kind::Texts => texts(value).filter(|texts| texts.as_array().is_some_and(|texts| !texts.is_empty())),
            Kind::TextsOrFile if value.is_str() => Some(value.clone()),
            Kind::TextsOrFile => texts(value),
            Kind::Ints { min, max } => {
                let inside = |v: &Value| v.as_integer().is_some_and(|i| (*min..=*max).contains(&i));
                value.as_array().filter(|a| a.iter().all(inside)).map(|_| value.clone())
            }
            Kind::Checked { check, .. } => return check(value),
        };
        checked.ok_or_else(|| self.words())
    }

    /// Accepted values in words.
    pub fn words(&self) -> String {
        match self {
            Kind::Bool => "true or false".into(),
            Kind::Int { min, max } => int_words(*min, *max),
            Kind::Real(range) => range.words(),
            Kind::RealPair(range) => format!("two numbers, each {}", range.words()),
            Kind::Text => "a text that is not empty".into(),
            Kind::Choice(built, _) => choice_words(built),
            Kind::Texts => "a list of one text or more".into(),
            Kind::TextsOrFile => "a list of texts, or the path of a file with one per line".into(),
            Kind::Ints { min, max } => format!("a list, each {}", int_words(*min, *max)),
            Kind::Checked { words, .. } => (*words).into(),
        }
    }

    /// ` (did you mean "X"?)` for a misspelt choice.
    pub(super) fn hint(&self, value: &Value) -> String {
        let Kind::Choice(built, unbuilt) = self else { return String::new() };
        let misspelt = value.as_str().filter(|text| !unbuilt.contains(text));
        let name = misspelt.and_then(|text| nearest(text, built));
        name.map_or(String::new(), |name| format!(" (did you mean \"{name}\"?)"))
    }
}

fn choice_words(built: &[&str]) -> String {
    built.iter().map(|b| format!("\"{b}\"")).collect::<Vec<_>>().join(" | ")
}

fn check_choice(built: &[&str], unbuilt: &[&str], value: &Value) -> Result<Value, String> {
    let list = choice_words(built);
    match value.as_str() {
        Some(text) if built.contains(&text) => Ok(value.clone()),
        Some(text) if unbuilt.iter().any(|u| *u == text || (u.ends_with(':') && text.starts_with(u))) => {
            Err(format!("{list}; \"{text}\" is not built yet"))
        }
        _ => Err(list),
    }
}

/// The known name closest to `name`, if it may be a misspelling.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // Of equally near names the first: tables and methods list the most frequent ones first.
    let best = known.iter().map(|k| (strsim::damerau_levenshtein(name, k), *k)).min_by_key(|(distance, _)| *distance);
    best.filter(|(distance, _)| *distance <= 1 + name.len() / 3).map(|(_, k)| k)
}

fn texts(value: &Value) -> Option<Value> {
    value.as_array().filter(|a| a.iter().all(Value::is_str)).map(|_| value.clone())
}

fn int_words(min: i64, max: i64) -> String {
    if max == i64::MAX {
        format!("a whole number of at least {min}")
    } else {
        format!("a whole number in {min}..{max}")
    }
}
