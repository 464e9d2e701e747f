//! The file of a nats-server that a server runs, and whether it would start with it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::unistd::mkdtemp;
use serde_json::{Map, Value as Json};
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

/// The first whose connections can carry headers.
const OLDEST: (u32, u32) = (2, 2);

/// What else is wrong with the program, its start tells.
pub(super) async fn ensure_new_enough(program: &Path) -> anyhow::Result<()> {
    let mut command = tokio::process::Command::new(program);
    command.arg("--version").stdin(Stdio::null());
    let Ok(Ok(output)) = timeout(LIMIT, command.kill_on_drop(true).output()).await else {
        return Ok(());
    };
    match version_in(&String::from_utf8_lossy(&output.stdout)) {
        Some((major, minor)) if (major, minor) < OLDEST => bail!(
            "{} is nats-server {major}.{minor}, which is too old: install version {}.{} or a newer one, or name it with \
             --nats-server-bin",
            program.display(),
            OLDEST.0,
            OLDEST.1
        ),
        Some(_) | None => Ok(()),
    }
}

/// `nats-server: v2.9.10`, and `nats-server version 1.4.1` before. `None` where nothing of that kind is printed, and of a
/// version of somebody's own.
fn version_in(output: &str) -> Option<(u32, u32)> {
    let mut words = output.split_whitespace();
    words.find(|word| matches!(*word, "nats-server:" | "version"))?;
    let number = words.next()?.trim_start_matches('v');
    let mut parts = number.split('.').map(str::parse);
    let version = (parts.next()?.ok()?, parts.next()?.ok()?);
    (version.0 > 0).then_some(version)
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

const VALID: &str = " is valid";

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
    ensure_new_enough(program).await?;
    let mut command = tokio::process::Command::new(program);
    command.arg("--config").arg(file).arg("-t").args(arguments);
    let checked = timeout(LIMIT, command.kill_on_drop(true).output()).await;
    let checked = checked.context("nats-server did not check its configuration in time")?;
    let checked = checked.with_context(|| format!("{} cannot be run", program.display()))?;
    let output = String::from_utf8_lossy(&checked.stderr);
    // It shows its flags where one has a value that cannot be, and calls that a success. A wrapper may keep what it says.
    let is_valid = output.contains(VALID) || output.trim().is_empty();
    if checked.status.success() && is_valid {
        return Ok(Judgement::default());
    }
    let output = output.replace(&file.display().to_string(), "its configuration");
    let lines = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let lines = lines.map(|line| line.trim_start_matches("nats-server: ").to_owned());
    let (warnings, mut errors): (Vec<String>, Vec<String>) =
        lines.partition(|line| line.contains(WARNING));
    if warnings.is_empty() && errors.is_empty() {
        errors.push(checked.status.to_string());
    }
    Ok(Judgement { errors, warnings })
}

/// Its own check reads what stands in the file. In its place stands what the arguments say of TLS, if they do.
fn with_tls_of(arguments: &[String], text: &str) -> anyhow::Result<String> {
    // A file that cannot be read is told with its flag.
    if ensure_tls_files(arguments).is_err() {
        return Ok(text.to_owned());
    }
    let arguments = arguments.iter().map(|it| it.trim_start_matches('-'));
    let value = |flag: &str| {
        let mut given = arguments.clone().rev();
        given.find_map(|argument| match argument.split_once('=') {
            Some((name, value)) => (name == flag).then_some(value),
            None => (argument == flag).then_some("true"),
        })
    };
    let is_on = |flag: &str| value(flag).map(|value| value.starts_with(['1', 't', 'T']));
    let files = TLS_FILES.iter().map(|(flag, _)| value(flag));
    let is_given = [is_on("tls"), is_on("tlsverify")]
        .iter()
        .any(Option::is_some)
        || files.clone().any(|file| file.is_some());
    if !is_given {
        return Ok(text.to_owned());
    }
    let mut config: Map<String, Json> = serde_json::from_str(text)?;
    config.remove("tls");
    if is_on("tls") != Some(false) {
        let keys = ["cert_file", "key_file", "ca_file"].into_iter().zip(files);
        let named = keys.filter_map(|(key, file)| Some((key, file.filter(|it| !it.is_empty())?)));
        let mut block: Map<String, Json> = named
            .map(|(key, file)| (key.to_owned(), file.into()))
            .collect();
        if !(block.contains_key("cert_file") && block.contains_key("key_file")) {
            bail!(
                "with TLS on its line it needs a certificate and a key; give -tlscert FILE and -tlskey FILE, or leave -tls out"
            );
        }
        block.insert(
            "verify".to_owned(),
            is_on("tlsverify").unwrap_or(false).into(),
        );
        config.insert("tls".to_owned(), block.into());
    }
    Ok(Json::Object(config).to_string())
}

/// All that is wrong with one that no server runs with yet.
pub(super) async fn judge_text(
    program: &Path,
    text: &str,
    arguments: &[String],
) -> anyhow::Result<Judgement> {
    let text = with_tls_of(arguments, text)?;
    let folder = folder()?;
    let file = folder.join("nats-server.conf");
    let judged = match write(&file, &text) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_a_nats_server_says_of_itself() {
        for (output, version) in [
            ("nats-server: v2.9.10\n", Some((2, 9))),
            ("nats-server: v2.12.0-RC.1", Some((2, 12))),
            ("nats-server version 1.4.1", Some((1, 4))),
            ("", None),
            ("something else", None),
        ] {
            assert_eq!(version_in(output), version, "{output}");
        }
    }
}
