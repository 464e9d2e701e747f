//! The native format, and the conversion into it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::time::Duration;

use stanby::config::effective;
use stanby::config::file::{self, Part};

use crate::{DATABASE, Files};

fn refusal(text: &str) -> String {
    let files = Files::new(&[("main.toml", text)]);
    files.told(&files.read("main.toml", &[]).unwrap_err())
}

#[test]
fn every_flag_is_a_key() {
    let text = format!(
        "cluster_id = 'c'\ndatabase_url = '{DATABASE}'\nmax_msgs = 1_000\nmax_bytes = '1MB'\nmax_age = '1h'\n\
         http_port = 8222\ndebug = true\nlease = \"5s\"\n\
         [channels.'orders.>']\nmax_msgs = 0\nmax_bytes = '2KB'\nmax_age = 0\n"
    );
    let files = Files::new(&[("main.toml", &text)]);

    let config = files.read("main.toml", &[]).unwrap().config;

    assert_eq!(config.cluster_id, "c");
    assert_eq!(config.lease.duration(), Duration::from_secs(5));
    assert_eq!(config.limits.channel.messages, Some(1000));
    assert_eq!(config.limits.channel.bytes, Some(1 << 20));
    let orders = stanby::core::ids::ChannelName::parse("orders.x".into()).unwrap();
    let orders = config.limits.of(&orders);
    assert_eq!(
        (orders.messages, orders.bytes, orders.age),
        (None, Some(2048), None)
    );
}

#[test]
fn mistakes_are_refused_with_their_place() {
    for (text, told) in [
        (
            "max_mgs = 5",
            "main.toml:1:1: \"max_mgs\" is not a key; did you mean max_msgs?",
        ),
        ("\nconfig = 'x'", "main.toml:2:1: \"config\" is not a key"),
        (
            "debug = 'yes'",
            "main.toml:1:1: parameter \"debug\" value is expected to be bool, got string",
        ),
        (
            "max_msgs = 1.5",
            "main.toml:1:1: parameter \"max_msgs\" value is expected to be a string or an integer",
        ),
        ("max_age = 5", "main.toml:1:1: \"5\" is not a duration"),
        ("http_port = 99999", "main.toml:1:1: "),
        (
            "max_msgs = '1k'",
            "main.toml:1:1: \"1k\" is not a whole number",
        ),
        ("database_url = 'nonsense'", "main.toml:1:1: database URL: "),
        (
            "log_format = 'xml'",
            "main.toml:1:1: invalid value 'xml' for '--log-format",
        ),
        (
            "[channels.a]\nmax_mags = 5",
            "main.toml:2:1: \"max_mags\" is not a key; did you mean max_msgs?",
        ),
        ("a = = 5", "main.toml:1:5: "),
        ("a = 1\na = 2", "main.toml:2:1: duplicate key"),
        (
            "lease = '1h'",
            "main.toml:1:1: a lease of 1h0m0s does not work",
        ),
    ] {
        let text = format!("{text}\n");
        let text = if text.starts_with("lease") {
            format!("{text}database_url = '{DATABASE}'\n")
        } else {
            text
        };
        let error = refusal(&text);
        assert!(error.starts_with(told), "{text}: {error}");
    }
}

/// What would be run with, but for the places.
fn effective(files: &Files, name: &str) -> Vec<(&'static str, String)> {
    let values = effective::values(&files.read(name, &[]).unwrap()).unwrap();
    values
        .into_iter()
        .map(|value| (value.name, value.value))
        .collect()
}

#[test]
fn a_converted_file_says_the_same() {
    let text = format!(
        "http: '127.0.0.1:8222'\nport: 4222\nstreaming {{\n cid: \"quo'te\\\"d\"\n hbi: '90s'\n sd: true\n \
         sql {{ source: \"{DATABASE}\" }}\n ft_group: 'tab\\u0009'\n limits {{ max_mgs: 1, mm: 5, ma: '1h', mb: 1MB\n \
         channels {{ 'a.>' {{ mm: 1, ma: '1h', mb: -1 }}, b {{}} }} }}\n}}"
    );
    let text = text.replace("quo'te\\\"d", "c");
    let before = Files::new(&[("main.conf", &text)]);

    let found = file::read(&before.path("main.conf"), Part::Both).unwrap();
    let after = Files::new(&[("main.toml", &file::render(&found))]);

    let converted = std::fs::read_to_string(after.path("main.toml")).unwrap();
    assert!(
        converted
            .contains("\n[channels.\"a.>\"]\nmax_msgs = 1\nmax_bytes = 0\nmax_age = \"1h0m0s\"\n"),
        "{converted}"
    );
    assert!(
        converted.contains("# For the nats-server that this server runs")
            && converted.ends_with("\n[nats]\n\"port\" = 4222\n"),
        "{converted}"
    );
    assert!(converted.contains("did you mean"), "{converted}");
    assert_eq!(
        effective(&before, "main.conf"),
        effective(&after, "main.toml")
    );
}

#[test]
fn keys_of_nats_server_are_carried_over_whole_into_a_table_of_their_own() {
    let text = format!(
        "port: 4333\nmax_payload: 2MB\nwrite_deadline: '3s'\nmax_traced_msg_len: 100\n\
         cluster {{ listen: '127.0.0.1:-1', routes: ['nats://a:1', 'nats://b:1'], no_advertise: true }}\n\
         authorization {{ user: 'quo\"te', password: 'geheim', timeout: 0.5\n\
           default_permissions {{ publish: ['a', 'b.>'], subscribe: {{ deny: 'c' }} }} }}\n\
         streaming {{ cid: c, sql {{ source: \"{DATABASE}\" }} }}"
    );
    let before = Files::new(&[("main.conf", &text)]);
    let found = file::read(&before.path("main.conf"), Part::Both).unwrap();

    let after = Files::new(&[("main.toml", &file::render(&found))]);

    let managed =
        |files: &Files, name: &str| files.read(name, &[]).unwrap().config.managed_nats.unwrap();
    let (before, after) = (managed(&before, "main.conf"), managed(&after, "main.toml"));
    assert_eq!(before.file(), after.file());
    assert!(after.file().contains("\"routes\""), "{}", after.file());
    assert_eq!(before, after);
}

#[test]
fn a_key_of_the_table_for_nats_that_nats_server_does_not_have_is_refused() {
    let files = Files::new(&[("main.toml", "[nats]\nmax_paylod = 1\n")]);
    let error = file::read(&files.path("main.toml"), Part::Both)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("main.toml:2:1") && error.contains("max_payload"),
        "{error}"
    );
}
