//! Programs of others that judge a file. `scripts/test` installs them, and demands that none is missing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};

use crate::program::root;

/// Fails when the program finds something wrong.
pub(crate) fn run(program: impl AsRef<Path>, arguments: &[&str]) {
    if let Some(output) = output(program, arguments) {
        assert!(output.status.success(), "{output:?}");
    }
}

/// Whether there is such a program, which says so to `--version`.
pub(crate) fn is_installed(program: &str) -> bool {
    output(program, &["--version"]).is_some()
}

/// What it said; `None` where it is not installed.
pub(crate) fn output(program: impl AsRef<Path>, arguments: &[&str]) -> Option<Output> {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output();
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let missing = format!(
                "{} is not installed: scripts/test installs it",
                program.display()
            );
            assert!(
                std::env::var_os("STANBY_TEST_REQUIRE").is_none(),
                "{missing}"
            );
            eprintln!("skipped: {missing}");
            None
        }
        output => Some(output.unwrap()),
    }
}
