//! Words of a condition.

use super::comparison::Comparison;
use serde_json::Value;

/// A word of a condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    Compare(Comparison),
    Name(String),
    Value(Value),
}

/// Words with the offset of each.
///
/// # Errors
/// A character that begins no word, with what to write instead.
pub fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, token) = match first {
            _ if first.is_whitespace() => (first.len_utf8(), None),
            '(' => (1, Some(Token::Open)),
            ')' => (1, Some(Token::Close)),
            '=' | '!' | '<' | '>' => compared(text, rest)?,
            '\'' | '"' => quoted(text, rest, first)?,
            '-' | '+' | '.' | '0'..='9' => number(text, rest)?,
            _ if first.is_alphabetic() || first == '_' => word(rest),
            _ => {
                let hint = match first {
                    '&' => "; write and",
                    '|' => "; write or",
                    _ => "",
                };
                return Err(format!("{text}: {:?} is not understood{hint}", first.to_string()));
            }
        };
        found.extend(token.map(|token| (at, token)));
        at += length;
    }
    Ok(found)
}

type Read = (usize, Option<Token>);

fn compared(text: &str, rest: &str) -> Result<Read, String> {
    let known = [
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("==", Comparison::Equal),
        ("!=", Comparison::Unequal),
        ("<", Comparison::Below),
        (">", Comparison::Above),
        ("=", Comparison::Equal),
    ];
    let found = known.into_iter().find(|(sign, _)| rest.starts_with(sign));
    let found = found.map(|(sign, comparison)| (sign.len(), Some(Token::Compare(comparison))));
    found.ok_or_else(|| format!("{text}: \"!\" is not understood; write not, or !="))
}

fn quoted(text: &str, rest: &str, quote: char) -> Result<Read, String> {
    let inside = &rest[1..];
    let end =
        inside.find(quote).ok_or_else(|| format!("{text}: the text that begins at {rest:?} has no closing quote"))?;
    Ok((end + 2, Some(Token::Value(inside[..end].into()))))
}

fn number(text: &str, rest: &str) -> Result<Read, String> {
    let bytes = rest.as_bytes();
    let part = |i: usize| match bytes[i] {
        b'0'..=b'9' | b'.' | b'e' | b'E' => true,
        b'-' | b'+' => i == 0 || matches!(bytes[i - 1], b'e' | b'E'),
        _ => false,
    };
    let end = (0..bytes.len()).find(|i| !part(*i)).unwrap_or(bytes.len());
    let word = &rest[..end];
    match word.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((end, Some(Token::Value(number.into())))),
        _ => Err(format!("{text}: {word:?} is no number")),
    }
}

fn word(rest: &str) -> Read {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.-".contains(c))).unwrap_or(rest.len());
    let word = &rest[..end];
    let token = match word {
        "and" => Token::And,
        "or" => Token::Or,
        "not" => Token::Not,
        "true" => Token::Value(true.into()),
        "false" => Token::Value(false.into()),
        name => Token::Name(name.into()),
    };
    (end, Some(token))
}
