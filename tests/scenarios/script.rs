//! A line of a script: a verb, its words, and `key=value` options. Quotes keep spaces together.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) words: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Line {
    /// `None` for an empty line or a comment.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut parsed = Self {
            words: Vec::new(),
            options: BTreeMap::new(),
        };
        if line.trim().is_empty() || line.starts_with('#') {
            return None;
        }
        let mut quoted = false;
        let spaced = |c: char| {
            quoted ^= c == '"';
            c == ' ' && !quoted
        };
        for part in line.split(spaced).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((key, value)) if !part.starts_with('"') => {
                    parsed
                        .options
                        .insert(key.to_owned(), value.trim_matches('"').to_owned());
                }
                _ => parsed.words.push(part.trim_matches('"').to_owned()),
            }
        }
        Some(parsed)
    }

    pub(crate) fn word(&self, index: usize) -> Result<&str, String> {
        self.words
            .get(index)
            .map(String::as_str)
            .ok_or(format!("word {index} is missing"))
    }

    /// Takes an option, so that what is left over can be refused.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        self.options.remove(key)
    }

    pub(crate) fn take_number<T: std::str::FromStr>(
        &mut self,
        key: &str,
        default: T,
    ) -> Result<T, String> {
        self.take(key).map_or(Ok(default), |text| {
            text.parse()
                .map_err(|_| format!("{key}={text} is not a number"))
        })
    }

    pub(crate) fn take_duration(&mut self, key: &str) -> Result<Option<Duration>, String> {
        self.take(key).map(|text| duration(&text)).transpose()
    }

    pub(crate) fn finish(self) -> Result<(), String> {
        match self.options.into_keys().next() {
            Some(key) => Err(format!("{key} is not an option here")),
            None => Ok(()),
        }
    }
}

/// `250ms`, `30s`, `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text} is not a duration"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        unit => Err(format!("{unit} is not a unit of time")),
    }
}
