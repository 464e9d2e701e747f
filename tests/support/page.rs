//! Pages under `docs/reference/`, which the program writes. `UPDATE=1` writes them anew.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

/// Fails when the page is not this text, or writes it.
pub(crate) fn is_what_the_program_says(page: &str, how: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = format!("{}\n", text.trim_end());
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let stands = fs::read_to_string(&path).unwrap_or_default();
    let line = stands.lines().zip(text.lines()).position(|(a, b)| a != b);
    let line = line.unwrap_or_else(|| stands.lines().count().min(text.lines().count())) + 1;
    assert!(
        stands == text,
        "{page} is stale from line {line} on; write it anew: UPDATE=1 {how}"
    );
}

/// Of a table, in which a bar would end the cell and `<` begin HTML.
pub(crate) fn cell(text: &str) -> String {
    let text = text.replace('|', "\\|").replace('<', "&lt;");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
