//! What a look at database, NATS and settings has found: `stanby doctor` prints it, and the console shows it.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// A server works, but not as one would wish.
    Warn,
    /// A server does not start, or cannot become active.
    Fail,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// One word, for scripts.
    pub about: &'static str,
    pub verdict: Verdict,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}
