//! Values with "auto".

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::str::FromStr;

/// A value, or "auto": derived from model, data or machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto<T> {
    Auto,
    Given(T),
}

impl<T> Auto<T> {
    /// The given value; `None` for "auto".
    pub fn given(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Given(value) => Some(value),
        }
    }
}

/// The word in configurations and options.
pub const AUTO: &str = "auto";

#[derive(Serialize, Deserialize)]
enum Word {
    #[serde(rename = "auto")]
    Auto,
}

/// The word "auto", or a value.
impl<T: FromStr> FromStr for Auto<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == AUTO { Ok(Self::Auto) } else { text.parse().map(Self::Given) }
    }
}

impl<T: Serialize> Serialize for Auto<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => Word::Auto.serialize(serializer),
            Self::Given(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Read<T> {
            Word(Word),
            Value(T),
        }
        Ok(match Read::deserialize(deserializer)? {
            Read::Word(Word::Auto) => Self::Auto,
            Read::Value(value) => Self::Given(value),
        })
    }
}
