use clap::{CommandFactory, FromArgMatches, Parser};

use super::*;
use crate::config::flags::LogFormat;
use crate::config::log::{LogLevel, LogTarget};
use crate::core::ids::ChannelName;

#[derive(Parser)]
#[command(args_override_self = true)]
struct Cli {
    #[command(flatten)]
    flags: ServeFlags,
}

fn flags(args: &[&str]) -> ServeFlags {
    let database = ["serve", "--database-url=postgres://u:hunter2@h/db"];
    let matches = Cli::command()
        .mut_args(|arg| arg.env(None::<&str>))
        .try_get_matches_from(database.iter().chain(args))
        .unwrap();
    Cli::from_arg_matches(&matches).unwrap().flags
}

fn config(args: &[&str]) -> Result<Config, Error> {
    Config::from_flags(&flags(args))
}

fn refusal(args: &[&str]) -> String {
    config(args).unwrap_err().to_string()
}

#[test]
fn without_flags_the_defaults_are_those_of_nats_streaming() {
    let config = config(&[]).unwrap();

    assert_eq!(config.cluster_id, "test-cluster");
    assert_eq!(config.nats.servers, ["nats://127.0.0.1:4222"]);
    assert_eq!(config.schema, "stanby");
    assert_eq!(config.lease, Lease::DEFAULT);
    assert_eq!(config.http, None);
    assert_eq!(config.heartbeats, Heartbeats::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(
        config.log,
        LogConfig {
            format: LogFormat::Text,
            level: LogLevel::Info,
            target: LogTarget::StandardError,
        }
    );
}

#[test]
fn zero_means_unlimited() {
    let args = [
        "--max-channels=0",
        "--max-subs=0",
        "--max-msgs=0",
        "--max-bytes=0",
        "--max-age=0",
    ];
    let limits = config(&args).unwrap().limits;

    assert_eq!(limits.channels, None);
    let channel = limits.channel;
    assert_eq!(
        (channel.subscriptions, channel.messages, channel.bytes),
        (None, None, None)
    );
    assert_eq!(channel.age, None);
}

#[test]
fn limits_are_taken_from_the_flags() {
    let args = [
        "--max-channels=5",
        "--max-msgs=7",
        "--max-bytes=100KB",
        "--max-age=1h30m",
    ];
    let limits = config(&args).unwrap().limits;

    assert_eq!(limits.channels, Some(5));
    assert_eq!(limits.channel.messages, Some(7));
    assert_eq!(limits.channel.bytes, Some(102_400));
    assert_eq!(limits.channel.age, Some(Duration::from_mins(90)));
    assert_eq!(limits.channel.subscriptions, Some(1000));
}

#[test]
fn channels_may_have_limits_of_their_own() {
    let args = [
        "--max-msgs=7",
        "--channel-limits=foo.>: max-age=1h; bar: max-msgs=0;",
        "--channel-limits=foo.bar: max-subs=5",
    ];
    let limits = config(&args).unwrap().limits;

    let of = |name: &str| limits.of(&ChannelName::parse(name.into()).unwrap());
    assert_eq!(of("other"), limits.channel);
    assert_eq!(of("bar").messages, None);
    let foo = of("foo.bar");
    assert_eq!((foo.messages, foo.subscriptions), (Some(7), Some(5)));
    assert_eq!(foo.age, Some(Duration::from_hours(1)));

    let args = ["--max-channels=1", "--channel-limits=a:;b:"];
    assert_eq!(
        refusal(&args),
        "too many channels defined (2). The max channels limit is set to 1"
    );
}

/// Acceptance: 122.
#[test]
fn negative_limits_are_refused_in_the_words_of_nats_streaming() {
    let cases = [
        (
            "--max-channels=-1",
            "max channels limit cannot be negative (-1)",
        ),
        (
            "--max-subs=-2",
            "max subscriptions limit cannot be negative (-2)",
        ),
        (
            "--max-msgs=-1",
            "max messages limit cannot be negative (-1)",
        ),
        ("--max-bytes=-3", "max bytes limit cannot be negative (-3)"),
        ("--max-age=-1s", "max age limit cannot be negative (-1s)"),
        (
            "--max-inactivity=-1h",
            "max inactivity limit cannot be negative (-1h0m0s)",
        ),
    ];
    for (flag, text) in cases {
        assert_eq!(refusal(&[flag]), text);
    }
}

#[test]
fn a_lease_is_half_a_second_to_a_minute() {
    assert_eq!(
        config(&["--lease=500ms"]).unwrap().lease.duration(),
        Lease::MIN
    );
    assert_eq!(
        config(&["--lease=1m"]).unwrap().lease.duration(),
        Lease::MAX
    );
    let warned = |lease| {
        let warnings = config(&[lease]).unwrap().warnings();
        warnings.iter().any(|text| text.contains("with a lease of"))
    };
    assert!(warned("--lease=12s") && !warned("--lease=11s"));
    assert_eq!(
        refusal(&["--lease=499ms"]),
        "a lease of 499ms does not work; use 500ms to 1m"
    );
    assert_eq!(
        refusal(&["--lease=-2s"]),
        "a lease of -2s does not work; use 500ms to 1m"
    );
}

#[test]
fn a_schema_is_a_plain_name() {
    assert_eq!(config(&["--schema=team_a1"]).unwrap().schema, "team_a1");
    let long = "x".repeat(64);
    for bad in ["", "1a", "A", "a-b", "a;drop", "pg_x", "é", &long] {
        assert!(
            refusal(&[&format!("--schema={bad}")]).contains("is not a plain name"),
            "{bad}"
        );
    }
}

#[test]
fn heartbeats_must_take_time() {
    let heartbeats = config(&["--hb-interval=0", "--hb-timeout=-1s"])
        .unwrap()
        .heartbeats;
    assert_eq!(heartbeats.interval, Duration::from_secs(1));
    assert_eq!(heartbeats.timeout, Heartbeats::default().timeout);
    let count = format!("--hb-fail-count={}", i64::MAX);
    assert!(refusal(&[&count]).contains("must be at most"));
    assert_eq!(
        config(&["--hb-fail-count=0"])
            .unwrap()
            .heartbeats
            .fail_count,
        0
    );
}

#[test]
fn trace_goes_before_debug() {
    assert_eq!(config(&["--debug"]).unwrap().log.level, LogLevel::Debug);
    assert_eq!(
        config(&["--debug", "--trace"]).unwrap().log.level,
        LogLevel::Trace
    );
    assert_eq!(
        config(&["--debug=false"]).unwrap().log.level,
        LogLevel::Info
    );
}

#[test]
fn durables_are_replaced_only_on_request() {
    assert!(!config(&[]).unwrap().settings().replace_durables);
    let asked = config(&["--replace-durable"]).unwrap();
    assert!(asked.settings().replace_durables);
}

#[test]
fn an_ack_prefix_is_a_subject() {
    let config = config(&["--ack-prefix=acks.a"]).unwrap();
    assert_eq!(config.settings().ack_prefix, "acks.a");
    assert!(refusal(&["--ack-prefix=a.>"]).contains("is not a NATS subject"));
}

#[test]
fn a_missing_database_names_flag_and_variable() {
    let text = refusal(&["--database-url="]);
    assert!(
        text.contains("--database-url") && text.contains("STANBY_DATABASE_URL"),
        "{text}"
    );
    let text = refusal(&["--database-url=mysql://u:geheim@h/d"]);
    assert!(
        text.starts_with("database URL: ") && !text.contains("geheim"),
        "{text}"
    );
}

#[test]
fn the_password_is_not_in_the_debug_text() {
    let shown = format!(
        "{:?}",
        config(&["--nats-server=nats://u:swordfish@h:1"]).unwrap()
    );
    assert!(shown.contains("u:***@h:5432/db"), "{shown}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("swordfish"),
        "{shown}"
    );
}
