//! The file of a nats-server that a server runs, and whether it would start with it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::unistd::mkdtemp;

use tokio::time::timeout;

/// For a program that only reads its configuration.
const LIMIT: Duration = Duration::from_secs(10);

/// For nobody else to read.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    let base = std::env::temp_dir();
    mkdtemp(&base.join("stanby-nats-XXXXXX"))
        .with_context(|| format!("no folder can be made in {}", base.display()))
}

/// Fails where there is one already.
pub(super) fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    opened
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .with_context(|| format!("{} cannot be written", file.display()))
}

/// What each of its arguments that names a file of TLS is about. Its own check opens those only that its file names.
const TLS_FILES: &[(&str, &str)] = &[
    ("tlscert", "the certificate"),
    ("tlskey", "the key of the certificate"),
    ("tlscacert", "the CA file"),
];

/// Fails where one of them cannot be read.
pub(super) fn ensure_tls_files(arguments: &[String]) -> anyhow::Result<()> {
    for (flag, what) in TLS_FILES {
        let named = arguments.iter().rev().find_map(|argument| {
            let (name, file) = argument.trim_start_matches('-').split_once('=')?;
            (name == *flag).then_some(file)
        });
        if let Some(file) = named {
            fs::read(file).with_context(|| {
                format!(
                    "cannot read {what} of the nats-server (-{flag}) {file}; check that the file exists and is readable"
                )
            })?;
        }
    }
    Ok(())
}

/// The program's own judgement; it opens the files that the configuration names, and no port.
pub(super) async fn check(program: &Path, file: &Path, arguments: &[String]) -> anyhow::Result<()> {
    ensure_tls_files(arguments)?;
    let mut command = tokio::process::Command::new(program);
    command.arg("--config").arg(file).arg("-t").args(arguments);
    let checked = timeout(LIMIT, command.kill_on_drop(true).output()).await;
    let checked = checked.context("nats-server did not check its configuration in time")?;
    let checked = checked.with_context(|| format!("{} cannot be run", program.display()))?;
    if checked.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&checked.stderr);
    let told = told.replace(&file.display().to_string(), "its configuration");
    let lines = told.lines().map(str::trim).filter(|line| !line.is_empty());
    bail!(
        "it refuses the configuration: {}",
        lines.collect::<Vec<_>>().join(" | ")
    );
}

/// The same for one that no server runs with yet.
pub(super) async fn check_text(
    program: &Path,
    text: &str,
    arguments: &[String],
) -> anyhow::Result<()> {
    let folder = folder()?;
    let file = folder.join("nats-server.conf");
    let checked = match write(&file, text) {
        Ok(()) => check(program, &file, arguments).await,
        Err(error) => Err(error),
    };
    fs::remove_dir_all(&folder).ok();
    checked
}
