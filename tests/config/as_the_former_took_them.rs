//! Lines and files that were tried on nats-streaming-server 0.25.6 itself, where it was not clear what it makes of them: it
//! starts with each of the first table, and has these values.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::ffi::OsString;

use clap::CommandFactory as _;
use serde_json::{Value, json};
use stanby::cli::command::Cli;
use stanby::config::arguments::normalise;
use stanby::config::{Error, Sources, effective};

use crate::{DATABASE, Files};

/// With the file's path in place of `FILE`, and what is said about it.
fn read(line: &str, files: &Files) -> Result<(Sources, String), Error> {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").unwrap();
    let database = format!("--database-url={DATABASE}");
    let file = files.path("stan.conf").display().to_string();
    let line = line.replace("FILE", &file);
    let words = std::iter::once("nats-streaming-server").chain(line.split_whitespace());
    let words = words.chain(std::iter::once(database.as_str()));
    let arguments = normalise(words.map(OsString::from), serve)?;
    let sources = Sources::read(&arguments.args[2..])?;
    let said = sources.warnings(&arguments.notes).join("\n");
    Ok((sources, said))
}

fn started(line: &str, text: &str) -> (Sources, String) {
    let more = [("stan.conf", text), ("more.conf", "http: 8222\n")];
    let read = read(line, &Files::new(&more));
    read.unwrap_or_else(|error| panic!("{line}: {error}\n{text}"))
}

/// Line, file, values, and a part of what is said.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

const STARTED: &[Row] = &[
    // Without the store SQL, its options mean nothing.
    (
        "-m 8222 -sql_driver mysql -sql_source root:geheim@/nss",
        "",
        &[("http-port", "8222")],
        "the SQL driver and its source, without the store SQL",
    ),
    (
        "-sc FILE",
        "streaming { store: file, dir: /data, sql: { driver: mysql, source: 'root:geheim@/nss' } }",
        &[("import-dir", "/data")],
        "the SQL driver and its source, without the store SQL",
    ),
    // Heartbeats without a pause, and none that is ever answered in time.
    (
        "-hbi 0 -hbt=-1s",
        "",
        &[("hb-interval", "1s"), ("hb-timeout", "10s")],
        "a heartbeat interval of 0s by 1s",
    ),
    (
        "-sc FILE",
        "hbi: '0'",
        &[("hb-interval", "1s")],
        "of 0s by 1s",
    ),
    // Pages on a port that the system chooses.
    ("-m -1", "", &[("http-port", "-1")], ""),
    (
        "-sc FILE",
        "http: '127.0.0.1:-1'",
        &[("http-host", "127.0.0.1"), ("http-port", "-1")],
        "",
    ),
    ("-sc FILE", "http: -1", &[("http-port", "-1")], ""),
    // No limits, where the banner of its start said 0.
    (
        "-max_msgs 0 -max_bytes 0 -max_subs 0 -max_channels 0",
        "",
        &[
            ("max-msgs", "0"),
            ("max-bytes", "0"),
            ("max-subs", "0"),
            ("max-channels", "0"),
        ],
        "",
    ),
    // The login in the URL is the one that is used.
    (
        "-ns nats://app:geheim@h:4222 -user other -pass x",
        "",
        &[],
        "the user, password or token for NATS, beside those in the URLs",
    ),
    (
        "-sc FILE",
        "streaming { ns: 'nats://app:geheim@h:4222', username: other, password: x }",
        &[],
        "the user, password or token for NATS, beside those in the URLs",
    ),
    // The pages are where clients connect, unless they have a host of their own.
    (
        "-sc FILE",
        "http: ':8222', host: 127.0.0.1",
        &[("http-host", "127.0.0.1"), ("http-port", "8222")],
        "",
    ),
    (
        "-sc FILE",
        "http: 8222\nlisten: '[::1]:4222'",
        &[("http-host", "::1")],
        "",
    ),
    (
        "-sc FILE",
        "http: '0.0.0.0:8222'\nhost: 127.0.0.1",
        &[("http-host", "0.0.0.0")],
        "",
    ),
    // A brace too many, behind a value.
    (
        "-sc FILE",
        "streaming { id: shop }}\nhttp: 8222",
        &[("cluster-id", "shop"), ("http-port", "8222")],
        "",
    ),
    // Paths of included files are below the folder, whatever they begin with.
    (
        "-sc FILE",
        "id: shop\ninclude '/more.conf'",
        &[("cluster-id", "shop"), ("http-port", "8222")],
        "",
    ),
    (
        "-sc FILE",
        "streaming { id: shop, username: stan, password: #geheim\n }",
        &[("nats-user", "stan"), ("nats-password", "[REDACTED]")],
        "",
    ),
    // A password on the line is that of the file's user.
    (
        "-sc FILE -pass geheim -ns nats://h:4222",
        "streaming { id: shop, username: stan, password: other }",
        &[("nats-user", "stan"), ("nats-password", "[REDACTED]")],
        "",
    ),
    // A password is of no use without a user, and does no harm.
    (
        "-pass geheim",
        "",
        &[("nats-password", "")],
        "-pass, without a user",
    ),
    (
        "-sc FILE",
        "streaming { id: shop, password: geheim }",
        &[("nats-password", "")],
        "the password without a user (",
    ),
];

#[test]
fn what_it_started_with_starts_here_with_the_same_values() {
    for (line, text, values, part) in STARTED {
        let (sources, said) = started(line, text);
        let found = effective::values(&sources).unwrap();
        for (name, expected) in *values {
            let value = found.iter().find(|value| value.name == *name);
            assert_eq!(value.unwrap().value, *expected, "{name}: {line}: {text}");
        }
        assert!(said.contains(part), "{line}: {text}: {said}");
        assert!(!said.contains("geheim"), "{said}");
    }
}

/// What it keeps is imported by the first start.
#[test]
fn the_source_of_a_sql_store_in_a_file_is_known_beside_the_database() {
    let store = "store: SQL, sql_options { driver: postgres, source: 'host=former dbname=nss' }";
    let only = "sql_options { source: 'host=former dbname=nss' }";
    for (line, text) in [
        ("-sc FILE", format!("streaming {{ {store} }}")),
        ("-sc FILE", store.to_owned()),
        ("-sc FILE -store sql", format!("streaming {{ {only} }}")),
    ] {
        let (sources, said) = started(line, &text);
        let source = sources.config.sql_source.unwrap().to_string();
        assert!(source.contains("former"), "{text}: {source}");
        assert!(said.contains("the SQL source ("), "{text}: {said}");
        let database = sources.config.database_url.to_string();
        assert!(database.contains("db.example.com"), "{text}: {database}");
    }
    let (sources, _) = started(
        "-sc FILE",
        &format!("streaming {{ store: file, dir: d, {only} }}"),
    );
    assert_eq!(sources.config.sql_source, None);
    let line = "-sc FILE -sql_source host=other";
    let (sources, _) = started(line, &format!("streaming {{ {store} }}"));
    let source = sources.config.sql_source.unwrap().to_string();
    assert!(source.contains("other"), "{source}");
}

fn of_nats(sources: &Sources) -> Value {
    let managed = sources.config.managed_nats.as_ref();
    serde_json::from_str(&managed.unwrap().file()).unwrap()
}

#[test]
fn with_an_empty_list_of_users_nobody_has_to_log_in() {
    for text in [
        "authorization { users: [] }",
        "authorization { users: [], timeout: 2 }",
        "accounts { }",
        "accounts { A { users: [] }, B { } }",
    ] {
        let (sources, _) = started("-sc FILE", &format!("{text}\nstreaming {{ id: shop }}"));
        assert!(!of_nats(&sources).to_string().contains("stanby"), "{text}");
        assert_eq!(sources.config.nats.user, None, "{text}");
    }
}

#[test]
fn a_login_on_the_line_takes_the_place_of_an_empty_list_of_users() {
    for (line, login) in [
        (
            "-sc FILE -user stan -pass geheim",
            json!({ "user": "stan", "password": "geheim" }),
        ),
        ("-sc FILE -auth t0ken", json!({ "token": "t0ken" })),
    ] {
        let (sources, _) = started(line, "authorization { users: [] }\nstreaming { id: shop }");
        assert_eq!(of_nats(&sources)["authorization"], login);
    }
}

/// The NATS server asked for the token.
#[test]
fn of_a_user_and_a_token_both_are_sent_and_the_token_counts() {
    let (sources, _) = started("-user stan -pass geheim -auth t0ken", "");
    assert_eq!(
        of_nats(&sources)["authorization"],
        json!({ "token": "t0ken" })
    );
    let nats = sources.config.nats;
    assert_eq!(nats.user.as_deref(), Some("stan"));
    assert!(nats.password.is_some() && nats.token.is_some());

    let text =
        "streaming { id: shop, ns: 'nats://h:4222', user: stan, pass: geheim, token: t0ken }";
    let (sources, _) = started("-sc FILE", text);
    let nats = sources.config.nats;
    assert!(nats.user.is_some() && nats.token.is_some());
}

#[test]
fn what_it_refused_and_what_would_lose_data_here_is_refused() {
    for (line, text, told) in [
        ("-store file", "", "root directory must be specified"),
        ("-store file -dir=", "", "root directory must be specified"),
        (
            "-sc FILE",
            "store: FILE",
            "root directory must be specified",
        ),
        ("-st SQL -sql_driver mysql", "", "the store is in MySQL"),
        (
            "-sc FILE",
            "streaming { id: shop, encryption_key: '' }",
            "encryption key required",
        ),
        (
            "-sc FILE",
            "streaming { id: shop, encrypt: false, encryption_key: '' }",
            "encryption key required",
        ),
        (
            "-sc FILE -pass geheim",
            "accounts { A { users: [{ user: a, password: b }] } }\nstreaming { id: shop }",
            "needs a login of one of its accounts",
        ),
        (
            "-c FILE -pass geheim",
            "authorization { user: stan }",
            "needs --nats-user",
        ),
        (
            "-routes nats://b:6222",
            "",
            "solicited routes require cluster capabilities",
        ),
    ] {
        let files = Files::new(&[("stan.conf", text)]);
        let error = read(line, &files).unwrap_err().to_string();
        assert!(error.contains(told), "{line}: {text}: {error}");
    }
    for (line, text) in [
        ("-routes= -cluster=", ""),
        ("-routes nats://b:6222 -cluster nats://0.0.0.0:6222", ""),
        ("-routes nats://b:6222 -ns nats://h:4222", ""),
        ("-c FILE -routes nats://b:6222", "cluster { port: 6222 }"),
    ] {
        started(line, text);
    }
}
