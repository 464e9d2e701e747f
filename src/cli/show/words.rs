//! Names in few letters.

use crate::cli::output;

/// Names were chosen by clients.
pub(in crate::cli) fn shown(text: &str) -> String {
    output::name_from_outside(text)
}

pub(in crate::cli) fn or_dash(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), shown)
}
