//! What a form sends.

use std::collections::BTreeMap;

use bytes::Bytes;
use url::form_urlencoded;

/// By name; the last one of each.
#[derive(Debug, Default)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn of(body: &Bytes) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// The name of a value that nothing can have, and Postgres does not take.
    pub(super) fn with_null(&self) -> Option<&str> {
        let found = self.0.iter().find(|(_, value)| value.contains('\0'));
        found.map(|(name, _)| name.as_str())
    }

    /// Empty where it is not given.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}
