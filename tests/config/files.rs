//! Whole files as people have them, and what a server makes of each.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::time::Duration;

use stanby::certificates::Demand;
use stanby::config::log::{LogLevel, LogTarget};
use stanby::config::secret::Secret;
use stanby::config::serve::Config;
use stanby::config::sources::Origin;
use stanby::core::ids::ChannelName;
use stanby::core::limits::ChannelLimits;

use crate::{DATABASE, Files, refusal, sources};

fn limits(config: &Config, channel: &str) -> ChannelLimits {
    let channel = ChannelName::parse(channel.to_owned().into()).unwrap();
    config.limits.of(&channel)
}

#[test]
fn a_pair_over_postgres_is_read_as_it_is() {
    let sources = sources(
        r#"
# Both servers have this file.
http_port: 8222
logfile: "/var/log/nats-streaming.log"
logfile_size_limit: 100MB
pid_file: "/run/stan.pid"

streaming: {
    cluster_id: my_cluster
    ft_group_name = "ft"            // either spelling
    store: "sql"
    nats_server_url: "nats://ruser:T0pS3cr3t@nats-1:4222, nats://ruser:T0pS3cr3t@nats-2:4222"
    sql_options: {
        driver: "postgres"
        source: "host=db.example.com user=stan password=geheim dbname=stan readTimeout=5s"
        no_caching: false
        max_open_conns: 5
    }
    hb_interval: "10s", hb_timeout: "5s"; hb_fail_count: 2
    sd: true
    store_limits: {
        max_channels: 20
        max_msgs: 10000
        max_bytes: 10MB
        max_age: "24h"
        channels: {
            "foo": { max_msgs: 300, max_subs: 50 }
            "bar.>": { max_age: "1h", max_inactivity: "2h" }
            bar.baz { max_bytes: 0 }
        }
    }
}
"#,
    );
    let config = &sources.config;

    assert_eq!(config.cluster_id, "my_cluster");
    assert_eq!(config.ft_group.as_deref(), Some("ft"));
    assert_eq!(
        config.nats.servers,
        ["nats://nats-1:4222", "nats://nats-2:4222"]
    );
    assert_eq!(config.nats.user.as_deref(), Some("ruser"));
    assert_eq!(config.database_url.address(), "db.example.com:5432");
    assert_eq!(config.database_url.user(), "stan");
    assert_eq!(config.http.as_ref().unwrap().to_string(), "0.0.0.0:8222");
    assert_eq!(
        config.log.target,
        LogTarget::File {
            path: "/var/log/nats-streaming.log".into(),
            limit: Some(100 << 20)
        }
    );
    assert_eq!(config.pid_file, Some("/run/stan.pid".into()));
    let beats = &config.heartbeats;
    assert_eq!(beats.interval, Duration::from_secs(10));
    assert_eq!(beats.timeout, Duration::from_secs(5));
    assert_eq!(beats.fail_count, 2);
    assert_eq!(config.limits.channels, Some(20));
    let day = Some(Duration::from_hours(24));
    let other = limits(config, "other");
    assert_eq!(
        (other.messages, other.bytes),
        (Some(10_000), Some(10 << 20))
    );
    assert_eq!((other.age, other.subscriptions), (day, Some(1000)));
    let foo = limits(config, "foo");
    assert_eq!((foo.messages, foo.subscriptions), (Some(300), Some(50)));
    assert_eq!((foo.bytes, foo.age), (Some(10 << 20), day));
    let baz = limits(config, "bar.baz");
    assert_eq!(baz.bytes, None, "0 lifts the limit");
    assert_eq!(baz.age, Some(Duration::from_hours(1)), "of bar.>");
    assert_eq!(baz.inactivity, Some(Duration::from_hours(2)));
    assert_eq!(sources.unknown, [""; 0]);
    let told = sources.notes.to_string();
    for part in [
        "sql_options.no_caching (",
        "main.conf:16:9), sql_options.max_open_conns (",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("replaced"), "{told}");
}

#[test]
fn a_file_for_nats_and_streaming_gives_each_its_part() {
    let sources = sources(
        r#"
port: 4223
tls { cert_file: "s.pem" }
cluster { listen: "0.0.0.0:6222" }
authorization { user: a, password: b }
http: "127.0.0.1:8222"
Streaming {
    id: c1
    sql { source: "postgres://u@h/d" }
    tls { client_cert: "c.pem", client_key: "k.pem", client_ca: "ca.pem" }
}
"#,
    );

    let config = &sources.config;
    assert_eq!(config.cluster_id, "c1");
    assert_eq!(config.http.as_ref().unwrap().to_string(), "127.0.0.1:8222");
    assert_eq!(config.nats.user.as_deref(), Some("a"));
    let tls = &config.nats.tls;
    assert!(tls.required);
    assert_eq!(tls.ca, Some("ca.pem".into()));
    assert_eq!(tls.client, Some(("c.pem".into(), "k.pem".into())));
    assert!(sources.notes.is_empty(), "{}", sources.notes);
    let managed = config.managed_nats.as_ref().unwrap();
    assert_eq!(managed.port(), 4223);
    let file: serde_json::Value = serde_json::from_str(&managed.file()).unwrap();
    let expected = serde_json::json!({
        "port": 4223,
        "tls": { "cert_file": "s.pem" },
        "cluster": { "listen": "0.0.0.0:6222" },
        "authorization": { "user": "a", "password": "b" },
        "http": "127.0.0.1:-1",
    });
    assert_eq!(file, expected);
}

/// The former server logged in as the first thing it could; here a user is added, which the list of clients does not name.
#[test]
fn beside_a_list_of_users_the_server_has_a_login_of_its_own() {
    let text = format!(
        "authorization {{ users: [{{ user: app, password: secret }}] }}\nstreaming {{ sql {{ source: '{DATABASE}' }} }}"
    );
    let config = sources(&text).config;

    let file: serde_json::Value =
        serde_json::from_str(&config.managed_nats.unwrap().file()).unwrap();
    let users = file["authorization"]["users"].as_array().unwrap();
    assert_eq!(users[0]["user"], "app");
    assert_eq!(users[1]["user"].as_str(), config.nats.user.as_deref());
    let password = users[1]["password"].as_str().unwrap();
    assert_eq!(config.nats.password.unwrap().expose(), password);
    assert!(password.len() >= 24, "{password}");
}

#[test]
fn with_accounts_a_login_has_to_be_named() {
    let text = |login: &str| {
        format!(
            "accounts {{ A {{ users: [{{ user: app, password: secret }}] }} }}\n\
             streaming {{ {login} sql {{ source: '{DATABASE}' }} }}"
        )
    };
    let told = refusal(&text(""));
    assert!(
        told.contains("needs a login of one of its accounts"),
        "{told}"
    );
    let config = sources(&text("user: app, password: secret,")).config;
    assert_eq!(config.nats.user.as_deref(), Some("app"));
}

#[test]
fn keys_outside_of_the_streaming_block_are_passed_over_as_they_were() {
    let sources = sources(&format!(
        "port: 4222\nstore: \"file\"\ndir: \"/data\"\nstreaming: {{ cluster_id: shop, clustered: true, \
         sql {{ source: '{DATABASE}' }} }}"
    ));
    let told = sources.notes.to_string();
    for part in [
        "store (",
        "main.conf:2:1, outside of the streaming block",
        "dir (",
        "replaced: clustered (",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(sources.unknown, [""; 0]);
    assert_eq!(sources.config.import_dir, None);
}

#[test]
fn without_the_wrapper_every_key_is_for_streaming() {
    let sources = sources(
        "CID: x\nlisten: 1\nns = nats://h:1\nsql {source: 'postgres://u@h/d'}\nma: \"1h\"\n",
    );
    assert_eq!(sources.config.cluster_id, "x");
    assert_eq!(sources.config.nats.servers, ["nats://h:1"]);
    let told = sources.notes.to_string();
    assert!(
        told.contains("listen (") && told.contains("main.conf:2:1)"),
        "{told}"
    );
    let [unknown] = sources.unknown.as_slice() else {
        panic!("{:?}", sources.unknown)
    };
    assert!(
        unknown.ends_with("main.conf:5:1: \"ma\" is no key that stanby knows and has no effect; it belongs into store_limits"),
        "{unknown}"
    );
}

#[test]
fn two_files_are_read_for_their_own_keys_only() {
    let streaming = format!("cid: of_sc\nhttp_port: 1\nsql {{ source: \"{DATABASE}\" }}\n");
    let files = Files::new(&[
        ("s.conf", &streaming),
        (
            "n.conf",
            "http_port: 2\nstreaming { cid: of_c }\nport: 4222\n",
        ),
    ]);
    let flag = format!("--stan-config={}", files.path("s.conf").display());

    let config = files.read("n.conf", &[&flag]).unwrap().config;

    assert_eq!(config.cluster_id, "of_sc");
    assert_eq!(config.http.unwrap().port, 2);
    let alone = stanby::config::Sources::read(&[flag.into()]).unwrap();
    assert_eq!(alone.config.http.unwrap().port, 1, "a single file is both");
}

/// Acceptance: 165.
#[test]
fn flags_go_before_the_file_and_the_file_before_defaults() {
    let text = format!(
        "streaming {{\n cid: file\n sd: true, sv: true\n hbi: \"9s\"\n user: u, pass: p\n sql {{ source: '{DATABASE}' }}\n \
         limits {{ mm: 5, channels {{ a {{ mm: 1 }}, b {{ mm: 2 }} }} }}\n}}"
    );
    let files = Files::new(&[("main.conf", &text)]);

    let flags = [
        "--cluster-id=flag",
        "--debug=false",
        "--trace=false",
        "--nats-token=t",
        "--channel-limits=a: max-age=1s",
    ];
    let sources = files.read("main.conf", &flags).unwrap();

    let config = &sources.config;
    assert_eq!(config.cluster_id, "flag");
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.heartbeats.interval, Duration::from_secs(9));
    assert_eq!(config.heartbeats.timeout, Duration::from_secs(10));
    assert_eq!(config.limits.channel.messages, Some(5));
    assert_eq!(config.nats.token.as_ref().map(Secret::expose), Some("t"));
    assert_eq!(
        config.nats.user, None,
        "one login takes the place of the other"
    );
    let a = limits(config, "a");
    assert_eq!((a.messages, a.age), (Some(5), Some(Duration::from_secs(1))));
    assert_eq!(limits(config, "b").messages, Some(2));
    assert_eq!(sources.origin("cluster-id"), Origin::CommandLine);
    assert_eq!(sources.origin("lease"), Origin::Default);
    let Origin::File(place) = sources.origin("hb-interval") else {
        panic!("{:?}", sources.origin("hb-interval"))
    };
    assert_eq!((place.line, place.column), (4, 2));
}

/// Acceptance: 10.
#[test]
fn the_discover_prefix_is_taken_over() {
    let config = sources("discover_prefix: my.discover\nsql {source: 'postgres://u@h/d'}").config;
    assert_eq!(config.subjects.discover(), "my.discover.test-cluster");
}

#[test]
fn a_key_that_is_empty_is_as_good_as_absent() {
    let text = format!(
        "streaming {{ store: '', ft_group: \"\", token: '', encryption_key: '', encrypt: false, partitioning: no, \
         tls {{ insecure: false, server_name: '' }}, sql_options {{ driver: '', source: '{DATABASE}' }} }}"
    );
    let config = sources(&text).config;
    assert_eq!((config.ft_group, config.nats.token), (None, None));
}

#[test]
fn pages_over_https_show_the_certificate_of_the_tls_block_beside_streaming() {
    let text = |tls: &str| {
        format!(
            "https: \"127.0.0.1:8443\"\n{tls}\nstreaming {{ sql_options {{ source: '{DATABASE}' }} }}"
        )
    };
    let sources = sources(&text(
        "tls { cert_file: c.pem, key_file: k.pem, verify: true }",
    ));

    let pages = sources.config.https.unwrap();
    assert_eq!(pages.address.to_string(), "127.0.0.1:8443");
    assert_eq!(pages.certificate_file.to_str(), Some("c.pem"));
    assert_eq!(pages.key_file.to_str(), Some("k.pem"));
    assert_eq!(sources.config.http, None);
    let told = sources.notes.to_string();
    assert!(told.contains("tls.verify"), "{told}");
    let told = refusal(&text(""));
    assert!(
        told.contains("give --https-cert FILE and --https-key FILE"),
        "{told}"
    );
}

/// As the documentation of nats-server has it: a key that only gives a variable its value is not a key of the block.
#[test]
fn keys_that_give_variables_their_values_are_not_keys_of_nats_server() {
    let sources = sources(&format!(
        "TOKEN: s3cret\nauthorization {{\n  ADMIN = {{ PUBLIC = \"a.>\", publish = $PUBLIC, subscribe = \">\" }}\n  \
         SECRET: abc\n  user: joe\n  users = [\n    {{ user: $user, password: $SECRET, permissions: $ADMIN }}\n  ]\n}}\n\
         streaming {{ AGE: \"24h\", token: $TOKEN, limits {{ ma: $AGE }}, sql {{ source: '{DATABASE}' }} }}"
    ));

    assert_eq!(sources.unknown, [""; 0]);
    assert!(sources.notes.is_empty(), "{}", sources.notes);
    let day = Some(Duration::from_hours(24));
    assert_eq!(sources.config.limits.channel.age, day);
    let managed = sources.config.managed_nats.unwrap();
    let file: serde_json::Value = serde_json::from_str(&managed.file()).unwrap();
    let permissions = serde_json::json!({ "publish": "a.>", "subscribe": ">" });
    let expected = serde_json::json!({
        "user": "joe",
        "users": [{ "user": "joe", "password": "abc", "permissions": permissions }],
    });
    assert_eq!(file["authorization"], expected);
}

#[test]
fn without_the_wrapper_tls_and_cluster_are_for_nats_too() {
    let sources = sources(&format!(
        "tls {{ cert_file: c.pem, key_file: k.pem, client_ca: ca.pem }}\n\
         cluster {{ listen: '0.0.0.0:6222', routes: ['nats://b:6222'], node_id: a, raft_logging: true }}\n\
         listen: '127.0.0.1:4333'\nhttp: 8222\nsql {{ source: '{DATABASE}' }}"
    ));

    assert_eq!(
        sources.config.http.as_ref().unwrap().to_string(),
        "127.0.0.1:8222"
    );
    assert_eq!(sources.config.nats.tls.ca, Some("ca.pem".into()));
    let file = sources.config.managed_nats.unwrap().file();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    let tls = serde_json::json!({ "cert_file": "c.pem", "key_file": "k.pem" });
    assert_eq!(file["tls"], tls);
    let cluster = serde_json::json!({ "listen": "0.0.0.0:6222", "routes": ["nats://b:6222"] });
    assert_eq!(file["cluster"], cluster);
}

#[test]
fn the_polynomial_of_a_file_store_has_an_effect_where_that_store_is_imported() {
    let of = |store: &str| {
        sources(&format!(
            "streaming {{ {store}\nfile {{ crc_poly: 3421780262, compact: true }}\nsql {{ source: '{DATABASE}' }} }}"
        ))
    };
    let imported = of("store: file, dir: '/data'");
    assert_eq!(imported.config.import_crc_poly, 3_421_780_262);
    let told = imported.notes.to_string();
    assert!(!told.contains("crc_poly"), "{told}");
    assert!(!told.contains("file ("), "{told}");
    assert!(told.contains("file.compact ("), "{told}");

    let told = of("store: memory").notes.to_string();
    assert!(told.contains("crc_poly ("), "{told}");
}

#[test]
fn keys_that_nats_server_knows_reach_it_and_older_ones_have_no_effect() {
    let sources = sources(&format!(
        "mappings {{ a: b }}\nlame_duck_grace_period: '5s'\nstore_dir: /js\nmax_sub_tokens: 9\nmax_pending_size: 5\n\
         cluster_name: c\nstreaming {{ sql {{ source: '{DATABASE}' }} }}"
    ));

    let told = sources.notes.to_string();
    for key in ["max_pending_size (", "cluster_name ("] {
        assert!(told.contains(key), "{told}");
    }
    let file = sources.config.managed_nats.unwrap().file();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    let mut keys: Vec<&str> = file
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "http",
            "lame_duck_grace_period",
            "mappings",
            "max_sub_tokens",
            "store_dir"
        ]
    );
}

/// As there. Only what would lose data keeps a former line or file from starting.
#[test]
fn tls_to_nats_without_a_check_is_taken_over_with_a_warning() {
    for name in ["insecure", "skip_verify"] {
        let text =
            format!("streaming {{ tls {{ {name}: true }}, sql {{ source: '{DATABASE}' }} }}");
        let config = sources(&text).config;
        assert_eq!(config.nats.tls.demand, Demand::Nothing);
        let told = config.warnings().join("\n");
        assert!(told.contains("are not checked"), "{told}");
    }
}

/// As there: it was one configuration for both.
#[test]
fn the_one_user_of_a_file_is_the_login_at_the_nats_of_somebody_else_too() {
    let text = |authorization: &str, url: &str| {
        format!(
            "authorization {{ {authorization} }}\n\
             streaming {{ ns: \"{url}\", sql {{ source: '{DATABASE}' }} }}"
        )
    };
    let found = sources(&text("user: app, password: secret", "nats://h:4222"));
    let nats = found.config.nats;
    assert_eq!(nats.user.as_deref(), Some("app"));
    assert_eq!(nats.password.as_ref().map(Secret::expose), Some("secret"));
    assert!(found.notes.is_empty(), "{}", found.notes);

    let nats = sources(&text("token: secret", "nats://h:4222")).config.nats;
    assert_eq!(nats.token.as_ref().map(Secret::expose), Some("secret"));

    let found = sources(&text("user: app, password: secret", "nats://u:p@h:4222"));
    assert_eq!(found.config.nats.user.as_deref(), Some("u"));
    let told = found.notes.to_string();
    assert!(told.contains("authorization ("), "{told}");
}
