//! `--where`: a condition over the values of a run, such as `method.beta > 1000 and val_margin > 0`.
//!
//! ```text
//! or         = and { "or" and }
//! and        = not { "and" not }
//! not        = "not" not | "(" or ")" | operand [ ("=" | "!=" | "<" | "<=" | ">" | ">=") operand ]
//! operand    = number | 'text' | "text" | true | false | name
//! ```
//!
//! A name alone asks whether it is there, or true. A comparison with a missing value is false.

use super::comparison::Comparison;
use super::filter_tokens::{Token, tokens};
use crate::keys::nearest;
use serde_json::Value;
use std::collections::BTreeSet;

/// Values by name, as a condition sees them.
pub trait Known {
    fn value(&self, name: &str) -> Option<Value>;
}

impl<F: Fn(&str) -> Option<Value>> Known for F {
    fn value(&self, name: &str) -> Option<Value> {
        self(name)
    }
}

/// A parsed condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    text: String,
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Or(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Compare(Operand, Comparison, Operand),
    Holds(Operand),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Name(String),
    Given(Value),
}

impl std::str::FromStr for Filter {
    type Err = String;

    /// The message shows the place of what is not understood.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text)?, next: 0, text };
        let root = parser.or()?;
        match parser.peek() {
            None => Ok(Self { text: text.into(), root }),
            Some(_) => Err(parser.expected("and, or, or the end")),
        }
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Filter {
    /// Whether the condition holds.
    ///
    /// # Errors
    /// A comparison of a text with a number.
    pub fn holds(&self, known: &dyn Known) -> Result<bool, String> {
        self.root.holds(known).map_err(|problem| format!("{}: {problem}", self.text))
    }

    /// An error for the first name that `known` lacks, with the nearest one.
    ///
    /// # Errors
    /// A name that nothing has.
    pub fn check(&self, known: &BTreeSet<String>) -> Result<(), String> {
        let mut names = Vec::new();
        self.root.names(&mut names);
        let all: Vec<&str> = known.iter().map(String::as_str).collect();
        match names.into_iter().find(|name| !known.contains(*name)) {
            None => Ok(()),
            Some(name) => {
                let hint = nearest(name, &all).map_or(String::new(), |near| format!(", did you mean {near}?"));
                Err(format!("{}: nothing has a value named {name}{hint}", self.text))
            }
        }
    }
}

impl Node {
    fn holds(&self, known: &dyn Known) -> Result<bool, String> {
        match self {
            Node::Or(a, b) => Ok(a.holds(known)? || b.holds(known)?),
            Node::And(a, b) => Ok(a.holds(known)? && b.holds(known)?),
            Node::Not(a) => Ok(!a.holds(known)?),
            Node::Holds(operand) => Ok(operand.value(known).is_some_and(|value| value.as_bool().unwrap_or(true))),
            Node::Compare(a, comparison, b) => match (a.value(known), b.value(known)) {
                (Some(left), Some(right)) => comparison
                    .holds(&left, &right)
                    .ok_or_else(|| format!("{} and {} cannot be compared", a.described(&left), b.described(&right))),
                _ => Ok(false),
            },
        }
    }

    fn names<'a>(&'a self, into: &mut Vec<&'a str>) {
        let mut add = |operand: &'a Operand| match operand {
            Operand::Name(name) => into.push(name),
            Operand::Given(_) => {}
        };
        match self {
            Node::Or(a, b) | Node::And(a, b) => {
                a.names(into);
                b.names(into);
            }
            Node::Not(a) => a.names(into),
            Node::Holds(operand) => add(operand),
            Node::Compare(a, _, b) => {
                add(a);
                add(b);
            }
        }
    }
}

impl Operand {
    fn value(&self, known: &dyn Known) -> Option<Value> {
        match self {
            Operand::Given(value) => Some(value.clone()),
            Operand::Name(name) => known.value(name).filter(|value| !value.is_null()),
        }
    }

    fn described(&self, value: &Value) -> String {
        match self {
            Operand::Name(name) => format!("{name} = {value}"),
            Operand::Given(value) => value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string()),
        }
    }
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    next: usize,
    text: &'a str,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    fn expected(&self, what: &str) -> String {
        let (text, at) = (self.text, self.tokens.get(self.next).map(|(at, _)| *at));
        match at {
            Some(at) => format!("{text}: expected {what} at {:?}", &text[at..]),
            None => format!("{text}: expected {what} at its end"),
        }
    }

    fn or(&mut self) -> Result<Node, String> {
        let mut node = self.and()?;
        while self.take(&Token::Or) {
            node = Node::Or(Box::new(node), Box::new(self.and()?));
        }
        Ok(node)
    }

    fn and(&mut self) -> Result<Node, String> {
        let mut node = self.not()?;
        while self.take(&Token::And) {
            node = Node::And(Box::new(node), Box::new(self.not()?));
        }
        Ok(node)
    }

    fn not(&mut self) -> Result<Node, String> {
        if self.take(&Token::Not) {
            return Ok(Node::Not(Box::new(self.not()?)));
        }
        if self.take(&Token::Open) {
            let node = self.or()?;
            return if self.take(&Token::Close) { Ok(node) } else { Err(self.expected("a closing parenthesis")) };
        }
        let left = self.operand()?;
        match self.peek() {
            Some(Token::Compare(comparison)) => {
                let comparison = *comparison;
                self.next += 1;
                Ok(Node::Compare(left, comparison, self.operand()?))
            }
            _ => Ok(Node::Holds(left)),
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let operand = match self.peek() {
            Some(Token::Name(name)) => Operand::Name(name.clone()),
            Some(Token::Value(value)) => Operand::Given(value.clone()),
            _ => return Err(self.expected("a name, a number or a text in quotes")),
        };
        self.next += 1;
        Ok(operand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(name: &str) -> Option<Value> {
        let values = json!({"method.beta": 2000, "method.name": "dpo", "val_margin": -0.5, "step": 100, "flag": false});
        values.get(name).cloned()
    }

    fn holds(text: &str) -> Result<bool, String> {
        text.parse::<Filter>()?.holds(&run)
    }

    #[test]
    fn conditions_follow_the_usual_precedence() {
        for (text, expected) in [
            ("method.beta>1000 and val_margin>0", false),
            ("method.beta>1000 or val_margin>0 and step<0", true),
            ("(method.beta>1000 or val_margin>0) and step<0", false),
            ("not val_margin >= 0", true),
            ("method.name = 'dpo' and method.beta != 1e3", true),
            ("method.name == \"sft\"", false),
            ("flag", false),
            ("step", true),
            ("missing > 3", false),
            ("not missing", true),
            ("val_margin < -4e-1", true),
            ("flag = false", true),
        ] {
            assert_eq!(holds(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_its_place() {
        for (text, said) in [
            ("method.beta >", "method.beta >: expected a name, a number or a text in quotes at its end"),
            ("a b", "a b: expected and, or, or the end at \"b\""),
            ("(a > 1", "(a > 1: expected a closing parenthesis at its end"),
            ("a > 'x", "a > 'x: the text that begins at \"'x\" has no closing quote"),
            ("a & b", "a & b: \"&\" is not understood; write and"),
            ("method.name > 3", "method.name > 3: method.name = \"dpo\" and 3 cannot be compared"),
            ("", ": expected a name, a number or a text in quotes at its end"),
            ("a > 1.2.3", "a > 1.2.3: \"1.2.3\" is no number"),
        ] {
            assert_eq!(holds(text).unwrap_err(), said);
        }
    }

    #[test]
    fn an_unknown_name_is_met_with_the_nearest_one() {
        let known: BTreeSet<String> = ["method.beta", "step"].map(String::from).into();
        let error = "method.bet > 1".parse::<Filter>().unwrap().check(&known).unwrap_err();
        assert_eq!(error, "method.bet > 1: nothing has a value named method.bet, did you mean method.beta?");
        assert_eq!("step > 1".parse::<Filter>().unwrap().check(&known), Ok(()));
    }
}
