//! `[timeout=S] [start=S] [retries=N] PROGRAM ARGUMENTS..` or `[..] URL`: the text behind `command=` and `http=`.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::Duration;

/// Seconds that an answer may take.
const TIMEOUT: f64 = 120.0;
/// Seconds that the first answer may take: models are loaded before it.
const START: f64 = 600.0;
/// Tries after a failed one.
const RETRIES: u32 = 3;
/// Longest time that an option takes, in seconds: a day.
const LONGEST: f64 = 86_400.0;

/// How another program is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    pub timeout: Duration,
    pub start: Duration,
    pub retries: u32,
    /// Program and arguments, or an address.
    pub words: Vec<String>,
}

impl Start {
    /// Options are the leading words `NAME=VALUE`; quotes are read as a shell reads them.
    ///
    /// # Errors
    /// An open quote, an unknown option or value, no word behind the options.
    pub fn parse(text: &str) -> Result<Self> {
        let words = shlex::split(text).with_context(|| format!("{text:?}: a quote is not closed"))?;
        let mut start = Self {
            timeout: Duration::from_secs_f64(TIMEOUT),
            start: Duration::from_secs_f64(START),
            retries: RETRIES,
            words: Vec::new(),
        };
        let mut words = words.into_iter().peekable();
        while let Some((name, value)) = words.peek().and_then(|word| option(word)) {
            start.set(name, value)?;
            words.next();
        }
        start.words = words.collect();
        if start.words.is_empty() {
            bail!("{text:?}: expected a program or an address behind the options, found nothing");
        }
        Ok(start)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = |form: &str| format!("{name}={value}: expected {form}");
        let seconds = || {
            let number = value.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= LONGEST);
            number.map(Duration::from_secs_f64).with_context(|| wrong("seconds above 0, at most 86400"))
        };
        match name {
            "timeout" => self.timeout = seconds()?,
            "start" => self.start = seconds()?,
            "retries" => {
                let number = value.parse().ok().filter(|number| *number <= 20);
                self.retries = number.with_context(|| wrong("a whole number in 0..20"))?;
            }
            _ => bail!(
                "{name}={value}: unknown option; expected timeout=SECONDS, start=SECONDS or retries=NUMBER. For an \
                 environment variable write env {name}={value} PROGRAM"
            ),
        }
        Ok(())
    }

    /// Files among the words: their contents affect numbers.
    pub fn files(&self) -> Vec<PathBuf> {
        self.words.iter().map(PathBuf::from).filter(|word| word.is_file()).collect()
    }
}

/// `NAME=VALUE` with a name of letters and underscores.
fn option(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
    is_name.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_before_the_program() {
        let start = Start::parse("timeout=0.5 retries=0 python3 'my judge.py' --size=3").unwrap();
        assert_eq!((start.timeout, start.retries), (Duration::from_millis(500), 0));
        assert_eq!(start.words, ["python3", "my judge.py", "--size=3"]);
        assert_eq!(Start::parse("http://host/?a=b").unwrap().words, ["http://host/?a=b"]);
    }

    #[test]
    fn wrong_options_are_refused_with_the_expected_form() {
        let said = |text: &str| Start::parse(text).unwrap_err().to_string();
        assert_eq!(said("timeout=0 x"), "timeout=0: expected seconds above 0, at most 86400");
        assert_eq!(said("retries=-1 x"), "retries=-1: expected a whole number in 0..20");
        assert!(said("GPU=1 x").ends_with("write env GPU=1 PROGRAM"), "{}", said("GPU=1 x"));
        assert!(said("retries=1").contains("expected a program or an address"), "{}", said("retries=1"));
        assert!(said("python3 'judge").contains("a quote is not closed"));
    }
}
