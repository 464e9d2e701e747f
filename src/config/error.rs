//! The one error of this module: a sentence for whoever wrote the flag.

/// Says what is wrong and what to change. Never holds a secret: it goes to the terminal and to logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}
