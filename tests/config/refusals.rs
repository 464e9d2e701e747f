//! What a file may not say: with the place, and what to do.

use crate::{DATABASE, Files, refusal, sources};

fn within(keys: &str) -> String {
    format!("streaming {{\n  {keys}\n  sql {{ source: \"{DATABASE}\" }}\n}}\n")
}

/// Acceptance: 166.
#[test]
fn every_key_refuses_wrong_types_with_its_place() {
    let int = "main.conf:2:3: parameter \"max_msgs\" value is expected to be int64, got string; write a number, \
        without quotes";
    assert_eq!(
        refusal("streaming { store_limits {\n  max_msgs: \"5\" } }"),
        int
    );
    for (keys, text) in [
        (
            "cluster_id: 5",
            "parameter \"cluster_id\" value is expected to be string, got int64",
        ),
        (
            "sd: 1",
            "parameter \"sd\" value is expected to be bool, got int64",
        ),
        (
            "sd: 'true'",
            "parameter \"sd\" value is expected to be bool, got string; write true or false",
        ),
        (
            "hb_interval: 10",
            "parameter \"hb_interval\" value is expected to be string, got int64; write it with its unit and in \
             quotes, like \"10s\"",
        ),
        ("hbt: 10m", "got int64; put it in quotes: \"10m\""),
        (
            "hbt: 'x'",
            "parameter \"hbt\": \"x\" is not a duration; write it like 30s",
        ),
        (
            "hb_fail_count: 1.5",
            "value is expected to be int64, got float64",
        ),
        (
            "store_limits: 3",
            "value is expected to be map[string]interface {}, got int64",
        ),
        (
            "limits { channels: [] }",
            "value is expected to be map[string]interface {}, got []interface {}",
        ),
        (
            "limits { channels { foo: 5 } }",
            "parameter \"foo\" value is expected to be map",
        ),
        (
            "limits { channels { foo { ma: 5 } } }",
            "parameter \"ma\" value is expected to be string",
        ),
        (
            "limits { channels { 'foo..' { mm: 5 } } }",
            "invalid channel name \"foo..\"",
        ),
        ("token: 2020-01-01T00:00:00Z", "got time.Time"),
        ("token: 5", "put it in quotes: \"5\""),
    ] {
        let told = refusal(&within(keys));
        assert!(told.starts_with("main.conf:2:"), "{keys}: {told}");
        assert!(told.contains(text), "{keys}: {told}");
    }
    assert!(refusal("streaming: 5").contains("\"streaming\" value is expected to be map"));
}

#[test]
fn a_source_that_cannot_be_read_is_refused_with_its_place() {
    let told = refusal("streaming {\n  sql { source: \"host=h sslmode=maybe\" }\n}\n");
    assert!(
        told.starts_with("main.conf:2:9: database URL: sslmode "),
        "{told}"
    );
}

#[test]
fn the_source_of_a_mysql_store_is_no_broken_database_url() {
    let told = refusal(
        "streaming {\n  store: sql\n  sql { driver: mysql, source: 'stan:geheim@tcp(h:3306)/nss?readTimeout=5s' }\n}\n",
    );
    assert!(
        told.contains("main.conf:2:3: the store is in MySQL"),
        "{told}"
    );
    assert!(!told.contains("main.conf:3:24"), "{told}");

    let line = [
        "--store=sql",
        "--sql-driver=mysql",
        "--sql-source=root:geheim@/nss",
    ];
    let files = Files::new(&[("main.conf", "")]);
    let told = files.told(&files.read("main.conf", &line).unwrap_err());
    assert!(told.contains("the store is in MySQL"), "{told}");
    assert!(!told.contains("key=value"), "{told}");
}

/// Acceptance: 129, 166.
#[test]
fn what_would_lose_data_or_protection_is_refused() {
    for (keys, text) in [
        ("store: oracle", "main.conf:2:3: unknown store type: oracle"),
        (
            "store: sql, sql_options { driver: mysql }",
            "main.conf:2:3: the store is in MySQL",
        ),
        (
            "partitioning: true",
            "main.conf:2:3: stan: no configured channel",
        ),
        (
            "encrypt: true",
            "encryption key required: set NATS_STREAMING_ENCRYPTION_KEY",
        ),
        (
            "encryption_key: 'k3y', encryption_cipher: DES",
            "encryption cipher not supported: \"DES\"; use AES or CHACHA",
        ),
        (
            "encryption_key: 'k3y,k3y'",
            "main.conf:2:3: the encryption key contains a comma",
        ),
        (
            "limits { mm: -1 }",
            "main.conf:2:12: max messages limit cannot be negative (-1)",
        ),
        (
            "limits { mc: 1, channels { a {}, b {} } }",
            "too many channels defined (2). The max channels limit is set to 1",
        ),
        (
            "hbf: 5000000000",
            "main.conf:2:3: --hb-fail-count must be at most",
        ),
        ("ns: 'nats://h'", "main.conf:2:3: malformed url"),
        (
            "cid: 'a b'",
            "main.conf:2:3: cluster ID \"a b\" cannot be part",
        ),
    ] {
        let told = refusal(&within(keys));
        assert!(told.contains(text), "{keys}: {told}");
        assert!(!told.contains("k3y"), "{told}");
    }
    assert!(refusal("http: '127.0.0.1'").contains("a host and a port"));
    let told = refusal("streaming { cid: x }");
    assert!(told.starts_with("the database is missing"), "{told}");
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_place() {
    let told = refusal(&within(
        "store: oracle, cluster_id: 5\n  hbf: 5000000000\n  limits { mm: -1, mb: 'x' }\n  tls { insecure: 1 }",
    ));
    let lines: Vec<&str> = told.lines().collect();
    for part in [
        "main.conf:2:3: unknown store type: oracle",
        "main.conf:2:18: parameter \"cluster_id\" value is expected to be string",
        "main.conf:3:3: --hb-fail-count must be at most",
        "main.conf:4:12: max messages limit cannot be negative (-1)",
        "main.conf:4:20: parameter \"mb\"",
        "main.conf:5:9: parameter \"insecure\" value is expected to be bool",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(part)),
            "{part}: {told}"
        );
    }
    assert_eq!(lines.len(), 6, "{told}");
}

/// Without the block `streaming`, several read it.
#[test]
fn a_block_that_is_none_is_told_once() {
    let told = refusal("https: 8443\ncid: x\ntls: 'x'\n");
    let lines = told.lines().filter(|line| line.contains("\"tls\""));
    assert_eq!(lines.count(), 1, "{told}");
}

#[test]
fn a_store_of_the_file_gives_way_to_the_flag() {
    let files = Files::new(&[("main.conf", &within("store: FILE\n  dir: data"))]);
    let sources = files.read("main.conf", &["--store=SQL"]).unwrap();
    assert_eq!(sources.config.import_dir, None);
    assert!(sources.notes.is_empty(), "{}", sources.notes);
}

#[test]
fn unknown_keys_have_no_effect_and_the_nearest_one_is_named() {
    let sources = sources(&within(
        "store_limit { mm: 5 }\n  limits { max_mgs: 5, channels { a { mas: 1 } } }\n  something: 1",
    ));
    let told: Vec<&str> = sources
        .unknown
        .iter()
        .map(|text| text.split_once("main.conf:").unwrap().1)
        .collect();
    let text = "is no key that stanby knows and has no effect";
    assert_eq!(
        told,
        [
            format!("2:3: \"store_limit\" {text}; did you mean \"store_limits\"?"),
            format!("3:12: \"max_mgs\" {text}; did you mean \"max_msgs\"?"),
            format!("3:39: \"mas\" {text}"),
            format!("4:3: \"something\" {text}"),
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let files = Files::new(&[]);
    let told = files.told(&files.read("none.conf", &[]).unwrap_err());
    assert!(
        told.starts_with("the configuration file none.conf cannot be read: "),
        "{told}"
    );
    assert!(told.contains("No such file"), "{told}");

    let files = Files::new(&[("main.conf", &"#".repeat((1 << 20) + 1))]);
    let told = files.told(&files.read("main.conf", &[]).unwrap_err());
    assert!(told.contains("more than 1048576 bytes"), "{told}");
}

/// Acceptance: 170.
#[test]
fn no_error_repeats_a_password() {
    for text in [
        "streaming { sql { source: 'mysql://u:geheim@h/d' } }",
        "streaming { password: geheim geheim }",
        "streaming { user: [geheim] }",
        "streaming { ns: 'ws://u:geheim@h:1', sql { source: 'postgres://u@h/d' } }",
        "password: \"geheim\\q\"",
    ] {
        let told = refusal(text);
        assert!(!told.contains("geheim"), "{told}");
    }
}
