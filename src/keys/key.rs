//! One key of one table: its values, its default, and whether it may change on resume.

use super::auto::AUTO;
use super::choice::Choice;
use super::kind::Kind;
use super::range::Range;
use toml::Value;

/// Default of a key.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    Required,
    /// Absent.
    Absent,
    /// A TOML literal.
    Toml(&'static str),
    Word(&'static str),
    /// A TOML literal that a model's family may override: resolved once the model is known.
    ByFamily(&'static str),
}

/// Treatment of a changed key on resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnResume {
    /// Refused: the result would change.
    Refused,
    /// Accepted: the result has the same bytes.
    Harmless,
    /// Accepted with a message: the result is equal up to rounding.
    Rounding,
    /// Accepted if its paths have the same content.
    SameContent,
    /// Accepted if nothing depends on the number of steps.
    MoreSteps,
    /// [`Rounding`](Self::Rounding) if the product of all such keys is unchanged.
    SameProduct,
}

/// One key of one table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether "auto" is accepted too.
    pub auto: bool,
    pub default: Default,
    pub on_resume: OnResume,
    pub help: &'static str,
}

/// A key of this kind that is absent by default.
pub const fn of(kind: Kind) -> Key {
    Key { name: "", kind, auto: false, default: Default::Absent, on_resume: OnResume::Refused, help: "" }
}

pub const fn switch() -> Key {
    of(Kind::Bool)
}

/// A number in the interval.
pub const fn within(range: Range) -> Key {
    of(Kind::Real(range))
}

/// A whole number in `min..=max`.
pub const fn whole(min: i64, max: i64) -> Key {
    of(Kind::Int { min, max })
}

pub const fn at_least(min: i64) -> Key {
    whole(min, i64::MAX)
}

pub const fn text() -> Key {
    of(Kind::Text)
}

/// One of the values of an enum.
pub const fn one_of<T: Choice>() -> Key {
    of(Kind::Choice(T::NAMES, &[]))
}

impl Key {
    /// A default as TOML literal.
    pub const fn or(self, literal: &'static str) -> Self {
        Self { default: Default::Toml(literal), ..self }
    }

    /// A default as text.
    pub const fn or_text(self, text: &'static str) -> Self {
        Self { default: Default::Word(text), ..self }
    }

    /// "auto" is accepted, and the default.
    pub const fn or_auto(self) -> Self {
        Self { auto: true, default: Default::Word("auto"), ..self }
    }

    /// A default as TOML literal that a family may override.
    pub const fn by_family(self, literal: &'static str) -> Self {
        Self { default: Default::ByFamily(literal), ..self }
    }

    pub const fn required(self) -> Self {
        Self { default: Default::Required, ..self }
    }

    pub const fn on_resume(self, on_resume: OnResume) -> Self {
        Self { on_resume, ..self }
    }

    /// For a choice: known names that this version refuses. A name that ends in `:` is a prefix.
    pub const fn not_built(self, names: &'static [&'static str]) -> Self {
        match self.kind {
            Kind::Choice(built, _) => Self { kind: Kind::Choice(built, names), ..self },
            _ => self,
        }
    }

    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// A meaning in the form of a doc comment; an empty one keeps the key's own.
    pub const fn helped(self, doc: &'static str) -> Self {
        if doc.is_empty() { self } else { Self { help: doc.split_at(1).1, ..self } }
    }

    /// The value in canonical form: integers become reals where a real is expected.
    ///
    /// # Errors
    /// A text that names the expected values.
    pub fn check(&self, value: &Value) -> Result<Value, String> {
        if self.auto && value.as_str() == Some(AUTO) {
            return Ok(value.clone());
        }
        self.kind.check(value).map_err(|expected| {
            let auto = if self.auto { ", or \"auto\"" } else { "" };
            format!("{expected}{auto}{}", self.kind.hint(value))
        })
    }

    /// The default as a value; `None` for a key that is absent, required, or depends on the model.
    pub fn default_value(&self) -> Option<Value> {
        match self.default {
            Default::ByFamily(_) => None,
            _ => self.default_for(None),
        }
    }

    /// The default for a model whose family overrides it by the TOML literal `own`.
    pub fn default_for(&self, own: Option<&str>) -> Option<Value> {
        let value = match self.default {
            Default::Required | Default::Absent => return None,
            Default::Toml(literal) => literal.parse().ok()?,
            Default::Word(text) => Value::String(text.into()),
            Default::ByFamily(literal) => own.unwrap_or(literal).parse().ok()?,
        };
        self.check(&value).ok()
    }
}
