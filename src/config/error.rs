//! The one error of this module: a sentence for whoever wrote the flag.

/// Says what is wrong and what to change. Never holds a secret: it goes to the terminal and to logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// All of them, a line each, so that nobody has to find them one start after the other. There is at least one.
    pub(super) fn all(errors: &[Self]) -> Self {
        let lines: Vec<&str> = errors.iter().map(|error| error.0.as_str()).collect();
        Self(lines.join("\n"))
    }
}
