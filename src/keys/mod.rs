//! What a key of the configuration may hold: one declaration that the checker, `resolved.toml` and the docs read.

use crate::settings::scorers;
use toml::Value;

/// The values a key accepts.
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
    /// One of the built names; the second list is known, but not built yet (`score:` stands for all that begin so).
    Choice(&'static [&'static str], &'static [&'static str]),
    Texts,
    /// A list of texts, or one text (a file that holds them).
    TextsOrFile,
    Ints {
        min: i64,
        max: i64,
    },
    /// A list of scorers: tables with `name`, `path` and, where they are `weighed`, `weight`.
    Scorers {
        weighed: bool,
    },
}

/// An interval of the real numbers.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub low: f64,
    pub high: f64,
    pub low_open: bool,
    pub high_open: bool,
}

impl Range {
    /// Every finite number.
    pub const ANY: Range = Range { low: f64::NEG_INFINITY, high: f64::INFINITY, low_open: true, high_open: true };
    pub const POSITIVE: Range = Range { low: 0.0, high: f64::INFINITY, low_open: true, high_open: true };
    pub const NOT_NEGATIVE: Range = Range { low: 0.0, high: f64::INFINITY, low_open: false, high_open: true };
    /// [0, 1]
    pub const UNIT: Range = Range { low: 0.0, high: 1.0, low_open: false, high_open: false };
    /// [0, 1)
    /// A share that is neither nothing nor all.
    pub const INSIDE: Range = Range { low: 0.0, high: 1.0, low_open: true, high_open: true };
    pub const FRACTION: Range = Range { low: 0.0, high: 1.0, low_open: false, high_open: true };

    fn holds(&self, x: f64) -> bool {
        let above = if self.low_open { x > self.low } else { x >= self.low };
        let below = if self.high_open { x < self.high } else { x <= self.high };
        above && below
    }

    fn words(&self) -> String {
        match (self.high.is_infinite(), self.low_open) {
            (true, _) if self.low.is_infinite() => "a number".into(),
            (true, true) => format!("a number above {}", self.low),
            (true, false) => format!("a number of at least {}", self.low),
            (false, _) => {
                let (a, b) = (if self.low_open { '(' } else { '[' }, if self.high_open { ')' } else { ']' });
                format!("a number in {a}{}, {}{b}", self.low, self.high)
            }
        }
    }
}

/// What a key has when the file does not say.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    Required,
    /// Stays absent.
    Absent,
    /// A TOML literal.
    Toml(&'static str),
    /// TOML literals for SD1.5 and SD2.1, and for SDXL: known when the model is.
    ByFamily(&'static str, &'static str),
}

/// One key of one table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether the text "auto" is accepted too.
    pub auto: bool,
    pub default: Default,
    pub help: &'static str,
}

/// A key without "auto".
pub const fn key(name: &'static str, kind: Kind, default: Default, help: &'static str) -> Key {
    Key { name, kind, auto: false, default, help }
}

/// A key that accepts "auto".
pub const fn auto(name: &'static str, kind: Kind, default: Default, help: &'static str) -> Key {
    Key { name, kind, auto: true, default, help }
}

impl Key {
    /// The value in its canonical form (integers become reals where a real is meant).
    ///
    /// # Errors
    /// A text that says what was expected.
    pub fn check(&self, value: &Value) -> Result<Value, String> {
        if self.auto && value.as_str() == Some("auto") {
            return Ok(value.clone());
        }
        let checked = check_kind(&self.kind, value);
        checked.map_err(|expected| {
            let auto = if self.auto { ", or \"auto\"" } else { "" };
            format!("{expected}{auto}{}", hint(&self.kind, value))
        })
    }

    /// The default as a value; `None` where the key stays absent, must be given, or depends on the model.
    pub fn default_value(&self) -> Option<Value> {
        let Default::Toml(text) = self.default else { return None };
        self.parsed(text)
    }

    /// The default for a model.
    pub fn default_for(&self, sdxl: bool) -> Option<Value> {
        match self.default {
            Default::ByFamily(sd, xl) => self.parsed(if sdxl { xl } else { sd }),
            _ => self.default_value(),
        }
    }

    fn parsed(&self, text: &str) -> Option<Value> {
        let parsed = text.parse::<Value>().ok()?;
        self.check(&parsed).ok()
    }
}

fn check_kind(kind: &Kind, value: &Value) -> Result<Value, String> {
    match kind {
        Kind::Bool => value.as_bool().map(Value::Boolean).ok_or_else(|| "true or false".into()),
        Kind::Int { min, max } => match value.as_integer() {
            Some(i) if (*min..=*max).contains(&i) => Ok(Value::Integer(i)),
            _ => Err(int_words(*min, *max)),
        },
        Kind::Real(range) => real(value, range).map(Value::Float).ok_or_else(|| range.words()),
        Kind::RealPair(range) => {
            let list = value.as_array().filter(|a| a.len() == 2);
            let pair = list.and_then(|a| a.iter().map(|v| real(v, range)).collect::<Option<Vec<f64>>>());
            let words = || format!("two numbers, each {}", range.words());
            pair.map(|p| Value::Array(p.into_iter().map(Value::Float).collect())).ok_or_else(words)
        }
        Kind::Text => value.as_str().map(|_| value.clone()).ok_or_else(|| "a text".into()),
        Kind::Choice(built, unbuilt) => check_choice(built, unbuilt, value),
        Kind::Texts => texts(value).ok_or_else(|| "a list of texts".into()),
        Kind::TextsOrFile if value.is_str() => Ok(value.clone()),
        Kind::TextsOrFile => {
            texts(value).ok_or_else(|| "a list of texts, or the path of a file with one a line".into())
        }
        Kind::Ints { min, max } => {
            let list = value
                .as_array()
                .filter(|a| a.iter().all(|v| v.as_integer().is_some_and(|i| (*min..=*max).contains(&i))));
            list.map(|_| value.clone()).ok_or_else(|| format!("a list, each {}", int_words(*min, *max)))
        }
        Kind::Scorers { weighed } => scorers::check(value, *weighed),
    }
}

fn check_choice(built: &[&str], unbuilt: &[&str], value: &Value) -> Result<Value, String> {
    let list = built.iter().map(|b| format!("\"{b}\"")).collect::<Vec<_>>().join(" | ");
    match value.as_str() {
        Some(text) if built.contains(&text) => Ok(value.clone()),
        Some(text) if unbuilt.iter().any(|u| *u == text || (u.ends_with(':') && text.starts_with(u))) => {
            Err(format!("{list}; \"{text}\" is not built yet"))
        }
        _ => Err(list),
    }
}

/// ` (did you mean "X"?)` where a choice is misspelt.
fn hint(kind: &Kind, value: &Value) -> String {
    let Kind::Choice(built, unbuilt) = kind else { return String::new() };
    let misspelt = value.as_str().filter(|text| !unbuilt.contains(text));
    let name = misspelt.and_then(|text| nearest(text, built));
    name.map_or(String::new(), |name| format!(" (did you mean \"{name}\"?)"))
}

/// The known name that `name` may be a slip of.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // Of equally near ones the first: tables and methods begin with what is asked for most.
    let best = known.iter().map(|k| (strsim::damerau_levenshtein(name, k), *k)).min_by_key(|(distance, _)| *distance);
    best.filter(|(distance, _)| *distance <= 1 + name.len() / 3).map(|(_, k)| k)
}

pub(crate) fn real(value: &Value, range: &Range) -> Option<f64> {
    let x = value.as_float().or_else(|| value.as_integer().map(|i| i as f64))?;
    (x.is_finite() && range.holds(x)).then_some(x)
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
