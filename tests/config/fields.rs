//! Each key of NATS Streaming's files: under each of its names it is the same flag.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use stanby::config::effective;

use crate::{DATABASE, Files, sources};

/// The value that a server would run with after these keys.
fn value(keys: &str, flag: &str) -> String {
    let source = format!("sql_options {{ source: \"{DATABASE}\" }}");
    let source = if keys.contains("source") { "" } else { &source };
    let sources = sources(&format!("streaming {{\n{keys}\n{source}\n}}\n"));
    assert_eq!(sources.unknown, [""; 0], "{keys}");
    let values = effective::values(&sources).unwrap();
    let value = values.iter().find(|value| value.name == flag).unwrap();
    assert!(value.from.to_string().contains("main.conf:"), "{value:?}");
    value.value.clone()
}

#[test]
fn every_key_is_a_flag_under_each_of_its_names() {
    let cases: &[(&[&str], &str, &str, &str)] = &[
        (
            &["cluster_id", "cid", "id", "Cluster_ID"],
            "c",
            "cluster-id",
            "c",
        ),
        (&["discover_prefix"], "a.b", "discover-prefix", "a.b"),
        (
            &["store", "store_type", "storetype", "st"],
            "SQL",
            "store",
            "SQL",
        ),
        (&["sd", "stan_debug"], "true", "debug", "true"),
        (&["sv", "stan_trace"], "yes", "trace", "true"),
        (
            &["nats_server_url", "nats_server", "ns"],
            "nats://h:1",
            "nats-server",
            "nats://h:1",
        ),
        (&["credentials"], "'a.creds'", "nats-credentials", "a.creds"),
        (&["username", "user"], "u", "nats-user", "u"),
        (&["token"], "t", "nats-token", "[REDACTED]"),
        (&["nkey_seed_file"], "seed", "nats-nkey", "seed"),
        (&["secure"], "on", "nats-tls", "true"),
        (
            &["hb_interval", "hbi", "server_to_client_hb_interval"],
            "'1m'",
            "hb-interval",
            "1m0s",
        ),
        (
            &["hb_timeout", "hbt", "server_to_client_hb_timeout"],
            "\"2s\"",
            "hb-timeout",
            "2s",
        ),
        (
            &["hb_fail_count", "hbf", "server_to_client_hb_fail_count"],
            "3",
            "hb-fail-count",
            "3",
        ),
        (&["ft_group", "ft_group_name"], "g", "ft-group", "g"),
        (&["partitioning"], "false", "partitioning", "false"),
        (&["encryption_key"], "k", "encryption-key", "[REDACTED]"),
        (
            &["encryption_cipher"],
            "chacha",
            "encryption-cipher",
            "CHACHA",
        ),
        (&["encryption_key: k, encrypt"], "true", "encrypt", "true"),
        (
            &[
                "replace_durable",
                "replace_durables",
                "replace_duplicate_durable",
                "replace_duplicate_durables",
            ],
            "true",
            "replace-durable",
            "true",
        ),
    ];
    for (names, text, flag, expected) in cases {
        for name in *names {
            assert_eq!(value(&format!("{name}: {text}"), flag), *expected, "{name}");
        }
    }
}

#[test]
fn every_limit_is_a_flag_under_each_of_its_names() {
    let cases: &[(&[&str], &str, &str, &str)] = &[
        (
            &["max_channels", "mc", "maxchannels"],
            "7",
            "max-channels",
            "7",
        ),
        (
            &["max_subs", "msu", "max_subscriptions", "maxsubscriptions"],
            "0",
            "max-subs",
            "0",
        ),
        (
            &["max_msgs", "mm", "maxmsgs", "max_count", "maxcount"],
            "1k",
            "max-msgs",
            "1000",
        ),
        (&["max_bytes", "mb", "maxbytes"], "1kb", "max-bytes", "1024"),
        (
            &["max_age", "ma", "maxage"],
            "\"1h30m\"",
            "max-age",
            "1h30m0s",
        ),
        (
            &["max_inactivity", "mi", "maxinactivity"],
            "'5s'",
            "max-inactivity",
            "5s",
        ),
    ];
    for (names, text, flag, expected) in cases {
        for name in *names {
            for block in ["store_limits", "limits", "storelimits"] {
                let keys = format!("{block} {{ {name}: {text} }}");
                assert_eq!(value(&keys, flag), *expected, "{keys}");
            }
        }
    }
    for block in [
        "channels",
        "channels_limits",
        "channelslimits",
        "per_channel",
        "per_channel_limits",
    ] {
        let keys = format!(
            "limits {{ {block} {{ 'a.*' {{ mm: 5, msu: -1, mb: 0, ma: '1s', mi: '-1s' }} }} }}"
        );
        let limits = "a.*: max-msgs=5, max-bytes=0, max-age=1s, max-subs=0, max-inactivity=0s";
        assert_eq!(value(&keys, "channel-limits"), limits);
    }
}

#[test]
fn the_keys_of_blocks_are_flags() {
    for (keys, flag, expected) in [
        (
            "sql { driver: postgres, source: 'postgres://u@h/d' }",
            "sql-driver",
            "postgres",
        ),
        (
            "tls { client_cert: c, client_key: k }",
            "nats-tls-cert",
            "c",
        ),
        ("tls { client_cert: c, client_key: k }", "nats-tls-key", "k"),
        ("tls { client_ca: a }", "nats-tls-ca", "a"),
        ("tls { server_name: n }", "nats-tls-server-name", "n"),
        ("tls { server_hostname: n }", "nats-tls-server-name", "n"),
        ("tls { client_cacert: a }", "nats-tls-ca", "a"),
        ("username: u\npassword: p", "nats-password", "[REDACTED]"),
        ("username: u\npass: p", "nats-password", "[REDACTED]"),
    ] {
        assert_eq!(value(keys, flag), expected, "{keys}");
    }
}

#[test]
fn the_keys_of_the_process_stand_outside() {
    for (keys, flag, expected) in [
        ("http: 8222", "http-port", "8222"),
        ("http_port: 8222", "http-port", "8222"),
        ("monitor_port = 8222", "http-port", "8222"),
        ("http: \"[::1]:8222\"", "http-host", "::1"),
        ("http: \"localhost:8222\"", "http-host", "127.0.0.1"),
        ("log_file: 'a.log'", "log", "a.log"),
        ("logfile: 'a.log'", "log", "a.log"),
        ("log_size_limit: 1MB", "log-size-limit", "1048576"),
        ("syslog: true", "syslog", "true"),
        (
            "remote_syslog: 'udp://h:514'",
            "remote-syslog",
            "udp://h:514",
        ),
        ("pid_file: x", "pid", "x"),
        ("pidfile: x", "pid", "x"),
    ] {
        let text = format!("{keys}\nstreaming {{ sql {{ source: '{DATABASE}' }} }}\n");
        let files = Files::new(&[("main.conf", &text)]);
        let values = effective::values(&files.read("main.conf", &[]).unwrap()).unwrap();
        let value = values.iter().find(|value| value.name == flag).unwrap();
        assert_eq!(value.value, expected, "{keys}");
    }
}
