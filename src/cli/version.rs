//! `stanby version`

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::output;
use crate::protocol;
use crate::store;

#[derive(Args, Debug)]
pub struct VersionArgs {
    /// Print JSON: commit, date, compiler and target of the build, version of the tables and of the clients' protocol
    #[arg(long)]
    json: bool,
}

/// What was built, from what, and what it works with.
#[derive(Debug, Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
    /// `None` where the source had no history, and in builds for tests.
    commit: Option<&'static str>,
    /// The date of the source: `SOURCE_DATE_EPOCH`, or that of the commit.
    build_date: Option<String>,
    rustc: Option<&'static str>,
    target: &'static str,
    features: Vec<&'static str>,
    /// Number of the newest migration: what `stanby migrate` brings the tables to.
    schema_version: i64,
    /// The version of the NATS Streaming protocol that clients are offered.
    protocol: i32,
}

impl Version {
    fn of_this() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            commit: known(env!("STANBY_COMMIT")),
            build_date: known(env!("STANBY_EPOCH")).and_then(date),
            rustc: known(env!("STANBY_RUSTC")),
            target: env!("STANBY_TARGET"),
            features: env!("STANBY_FEATURES")
                .split(',')
                .filter(|feature| !feature.is_empty())
                .collect(),
            schema_version: store::SCHEMA_VERSION,
            protocol: protocol::VERSION,
        }
    }
}

fn known(text: &'static str) -> Option<&'static str> {
    (!text.is_empty()).then_some(text)
}

/// The date of so many seconds since 1970.
fn date(epoch: &str) -> Option<String> {
    let at = Timestamp::from_second(epoch.parse().ok()?).ok()?;
    Some(at.to_string())
}

pub fn run(args: &VersionArgs) -> Result<ExitCode, Failure> {
    let version = Version::of_this();
    if args.json {
        output::json(&version)?;
    } else {
        output::line(&format!("{} {}", version.name, version.version))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_a_build_is_that_of_its_source() {
        assert_eq!(date("1764406800").as_deref(), Some("2025-11-29T09:00:00Z"));
        assert_eq!(date("yesterday"), None);
    }

    #[test]
    fn a_version_names_compiler_target_tables_and_protocol() {
        let json = serde_json::to_value(Version::of_this()).expect("it is JSON");
        assert!(
            json["rustc"]
                .as_str()
                .is_some_and(|it| it.starts_with("rustc ")),
            "{json}"
        );
        assert!(
            json["target"]
                .as_str()
                .is_some_and(|it| it.contains("linux")),
            "{json}"
        );
        assert!(
            json["schema_version"].as_i64().is_some_and(|it| it > 50),
            "{json}"
        );
        assert_eq!(json["protocol"], 1);
    }
}
