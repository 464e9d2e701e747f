//! What is wrong with a database URL, or with a file that it names.

/// One sentence about all of it. The text never contains the password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("database URL: {0}")]
pub struct InvalidDatabaseUrl(pub(super) String);

impl From<String> for InvalidDatabaseUrl {
    fn from(why: String) -> Self {
        Self(why)
    }
}

impl From<&str> for InvalidDatabaseUrl {
    fn from(why: &str) -> Self {
        Self(why.to_owned())
    }
}
