//! Start lines of nats-streaming-server, from the first argument to the values.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::ffi::OsString;
use std::time::Duration;

use clap::CommandFactory as _;
use stanby::cli::command::Cli;
use stanby::config::arguments::normalise;
use stanby::config::encryption::Cipher;
use stanby::config::log::LogTarget;
use stanby::config::{Error, Sources};

use crate::{DATABASE, Files};

fn run(words: &[&str]) -> Result<(Sources, Vec<String>), Error> {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").unwrap();
    let arguments = normalise(words.iter().map(OsString::from), serve)?;
    assert_eq!(arguments.args[1], "serve", "{words:?}");
    Ok((Sources::read(&arguments.args[2..])?, arguments.warnings))
}

#[test]
fn start_lines_of_a_pair_work_as_they_are() {
    let line = [
        "nats-streaming-server",
        "-cid",
        "prod",
        "--store",
        "sql",
        "-sql_driver=postgres",
        "-sql_source",
        DATABASE,
        "-ns",
        "nats://n1:4222,nats://n2:4222",
        "-ft_group",
        "pair",
        "-m",
        "8222",
        "-hbi",
        "1m",
        "-hbt=5s",
        "-hbf",
        "3",
        "-mc",
        "0",
        "-msu=7",
        "-mm",
        "8",
        "-mb",
        "100KB",
        "-ma",
        "1h",
        "-mi",
        "2h",
        "-SDV",
        "-replace_durable",
        "-user",
        "u",
        "-pass",
        "-p",
        "-l",
        "/tmp/x.log",
        "-sql_no_caching=true",
        "-dir",
        "d",
        "-DV",
    ];
    let (sources, warnings) = run(&line).unwrap();

    let config = sources.config;
    assert_eq!(config.cluster_id, "prod");
    assert_eq!(config.ft_group.as_deref(), Some("pair"));
    assert_eq!(config.nats.servers, ["nats://n1:4222", "nats://n2:4222"]);
    assert_eq!(config.nats.user.as_deref(), Some("u"));
    assert_eq!(config.http.unwrap().port(), 8222);
    assert_eq!(config.heartbeats.interval, Duration::from_mins(1));
    assert_eq!(config.limits.channels, None);
    let channel = config.limits.channel;
    assert_eq!(
        (channel.subscriptions, channel.messages, channel.bytes),
        (Some(7), Some(8), Some(102_400))
    );
    assert!(config.replace_durables);
    assert!(matches!(config.log.target, LogTarget::File { .. }));
    assert_eq!(
        warnings,
        [
            "-sql_no_caching has no effect in stanby; remove it",
            "-dir has no effect in stanby; remove it",
            "-DV has no effect in stanby; remove it",
        ]
    );
}

#[test]
fn a_first_flag_means_serve_and_files_are_read() {
    let text =
        format!("streaming {{ cid: of_file, store: SQL, sql_options {{ source: '{DATABASE}' }} }}");
    let files = Files::new(&[("s.conf", &text)]);
    let path = files.path("s.conf").display().to_string();
    for flag in ["-sc", "--stan_config", "-c", "-config", "--config"] {
        let (sources, _) = run(&["stanby", flag, &path]).unwrap();
        assert_eq!(sources.config.cluster_id, "of_file", "{flag}");
    }
    let (sources, _) = run(&["stanby", "-sc", &path, "-cid", "of_flag"]).unwrap();
    assert_eq!(sources.config.cluster_id, "of_flag");
}

/// Acceptance: 129.
#[test]
fn lines_that_mean_another_store_or_a_cluster_are_refused() {
    for (line, text) in [
        (
            &["-store", "FILE", "-dir", "d"][..],
            "stanby has no FILE store",
        ),
        (&["-st=MEMORY"], "stanby has no MEMORY store"),
        (&["-store", "x"], "unknown store type: x"),
        (&["-sql_driver", "mysql"], "does not speak to MySQL"),
        (&["-clustered"], "-clustered is not supported"),
        (&["-cluster_sync"], "-cluster_sync is not supported"),
        (&["-p", "4222"], "stanby has no nats-server inside"),
        (
            &["-sql_source", DATABASE, "-encrypt"],
            "encryption key required",
        ),
        (&[], "the database is missing"),
    ] {
        let words = [&["nats-streaming-server"], line].concat();
        let error = run(&words).unwrap_err().to_string();
        assert!(error.contains(text), "{line:?}: {error}");
    }
}

#[test]
fn the_encryption_flags_of_the_former_server_are_taken_over() {
    let line = [
        "nats-streaming-server",
        "-sql_source",
        DATABASE,
        "-encryption_cipher",
        "chacha",
        "-encryption_key",
        "k3y of some length",
    ];
    let (sources, _) = run(&line).unwrap();

    let encryption = &sources.config.encryption;
    assert_eq!(encryption.key, Some("k3y of some length".into()));
    assert_eq!(encryption.cipher, Cipher::ChaCha);
    let warning = &sources.warnings[0];
    assert!(
        warning.contains("NATS_STREAMING_ENCRYPTION_KEY") && !warning.contains("k3y"),
        "{warning}"
    );
}
