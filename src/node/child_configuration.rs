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

/// The files of TLS that its arguments name, each with what it is.
pub(super) fn tls_files(arguments: &[String]) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    for (flag, what) in TLS_FILES {
        let named = arguments.iter().rev().find_map(|argument| {
            let (name, file) = argument.trim_start_matches('-').split_once('=')?;
            (name == *flag).then_some(file)
        });
        if let Some(file) = named.filter(|file| !file.is_empty()) {
            files.push((format!("{what} of the nats-server (-{flag})"), file.into()));
        }
    }
    files
}

pub(super) fn ensure_readable((what, file): &(String, PathBuf)) -> anyhow::Result<()> {
    let read = fs::read(file).map(drop);
    read.with_context(|| {
        let file = file.display();
        format!("cannot read {what} {file}; check that the file exists and is readable")
    })
}

/// Fails where one of them cannot be read.
pub(super) fn ensure_tls_files(arguments: &[String]) -> anyhow::Result<()> {
    tls_files(arguments).iter().try_for_each(ensure_readable)
}

/// What the program itself says of a configuration, a line for each thing.
#[derive(Default)]
pub(super) struct Judgement {
    /// It does not start with these.
    pub(super) errors: Vec<String>,
    /// It starts, and says so at each start. Its check fails with them all the same.
    pub(super) warnings: Vec<String>,
}

const WARNING: &str = ": invalid use of field \"";

const REFUSES: &str = "it refuses the configuration";

/// Fails where the program would not start with it.
pub(super) async fn check(program: &Path, file: &Path, arguments: &[String]) -> anyhow::Result<()> {
    ensure_tls_files(arguments)?;
    match judge(program, file, arguments).await?.errors.as_slice() {
        [] => Ok(()),
        lines => bail!("{REFUSES}: {}", lines.join(" | ")),
    }
}

/// It opens the files that the configuration names, but those of its arguments, and no port.
async fn judge(program: &Path, file: &Path, arguments: &[String]) -> anyhow::Result<Judgement> {
    let mut command = tokio::process::Command::new(program);
    command.arg("--config").arg(file).arg("-t").args(arguments);
    let checked = timeout(LIMIT, command.kill_on_drop(true).output()).await;
    let checked = checked.context("nats-server did not check its configuration in time")?;
    let checked = checked.with_context(|| format!("{} cannot be run", program.display()))?;
    if checked.status.success() {
        return Ok(Judgement::default());
    }
    let told = String::from_utf8_lossy(&checked.stderr);
    let told = told.replace(&file.display().to_string(), "its configuration");
    let lines = told.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.map(|line| line.trim_start_matches("nats-server: ").to_owned());
    let (warnings, mut errors): (Vec<String>, Vec<String>) =
        lines.partition(|line| line.contains(WARNING));
    if warnings.is_empty() && errors.is_empty() {
        errors.push(checked.status.to_string());
    }
    Ok(Judgement { errors, warnings })
}

/// All that is wrong with one that no server runs with yet.
pub(super) async fn judge_text(
    program: &Path,
    text: &str,
    arguments: &[String],
) -> anyhow::Result<Judgement> {
    let folder = folder()?;
    let file = folder.join("nats-server.conf");
    let judged = match write(&file, text) {
        Ok(()) => judge(program, &file, arguments).await,
        Err(error) => Err(error),
    };
    fs::remove_dir_all(&folder).ok();
    let mut judged = judged?;
    for error in &mut judged.errors {
        *error = format!("{REFUSES}: {error}");
    }
    Ok(judged)
}
