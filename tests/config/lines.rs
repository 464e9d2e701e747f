//! Start lines of nats-streaming-server, from the first argument to the values.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::ffi::OsString;
use std::time::Duration;

use clap::CommandFactory as _;
use stanby::certificates::Demand;
use stanby::cli::command::Cli;
use stanby::config::arguments::normalise;
use stanby::config::encryption::Cipher;
use stanby::config::log::LogTarget;
use stanby::config::{Error, Sources};

use crate::{DATABASE, Files};

fn run(words: &[&str]) -> Result<(Sources, String), Error> {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").unwrap();
    let arguments = normalise(words.iter().map(OsString::from), serve)?;
    assert_eq!(arguments.args[1], "serve", "{words:?}");
    let sources = Sources::read(&arguments.args[2..])?;
    let told = sources.warnings(&arguments.notes).join("\n");
    Ok((sources, told))
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
    let (sources, told) = run(&line).unwrap();

    let config = sources.config;
    assert_eq!(config.cluster_id, "prod");
    assert_eq!(config.ft_group.as_deref(), Some("pair"));
    assert_eq!(config.nats.servers, ["nats://n1:4222", "nats://n2:4222"]);
    assert_eq!(config.nats.user.as_deref(), Some("u"));
    assert_eq!(config.http.unwrap().port, 8222);
    assert_eq!(config.heartbeats.interval, Duration::from_mins(1));
    assert_eq!(config.limits.channels, None);
    let channel = config.limits.channel;
    assert_eq!(
        (channel.subscriptions, channel.messages, channel.bytes),
        (Some(7), Some(8), Some(102_400))
    );
    assert!(config.replace_durables);
    assert!(matches!(config.log.target, LogTarget::File { .. }));
    assert!(told.contains(": -sql_no_caching, DV"), "{told}");
    assert!(!told.contains('\n'), "one message: {told}");
    assert_eq!(config.managed_nats, None);
    assert_eq!(
        config.import_dir, None,
        "only the file store keeps something there"
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

const SQL: [&str; 2] = ["-sql_source", DATABASE];

/// As people have them; nothing is added but the database.
#[test]
fn start_lines_of_every_kind_are_taken_as_they_are() {
    for (line, parts) in [
        (
            "-p 4222 -m 8222 -hbi 5s -hbt 5s -hbf 2 -SD -cid shop",
            &[][..],
        ),
        (
            "nats-streaming-server -m 8222 --store=memory --cluster_id=f",
            &["store memory by Postgres"],
        ),
        (
            "-store file -dir /data -cid shop -m 8222",
            &["store file by Postgres"],
        ),
        (
            "-cid shop -ns nats://127.0.0.1:4222 -p 4222",
            &["no effect", "p=4222"],
        ),
        (
            "-cid shop -cluster_node_id b -cluster_peers a,c -ns nats://127.0.0.1:4222",
            &["no effect", "-cluster_node_id, -cluster_peers"],
        ),
        ("-cid shop -ns http://127.0.0.1:4222", &[]),
        (
            "--cluster_id shop --clustered --cluster_bootstrap --cluster_log_path=/d/log --cluster_node_id n1 \
             --cluster_peers n1,n2,n3 --cluster=nats://0.0.0.0:6222 --routes=nats://n2:6222,nats://n3:6222 --store file \
             --dir /d --file_sync --http_port 8222",
            &[
                "no effect (remove them when you can): -file_sync;",
                "-clustered, -cluster_bootstrap, -cluster_log_path, -cluster_node_id, -cluster_peers by the lock in Postgres",
                "store file by Postgres",
            ],
        ),
        ("", &[]),
    ] {
        let words: Vec<&str> = std::iter::once("/nats-streaming-server")
            .chain(line.split_whitespace())
            .chain(SQL)
            .collect();
        let (_, told) = run(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
        for part in parts {
            assert!(told.contains(part), "{line}: {told}");
        }
        assert_eq!(told.is_empty(), parts.is_empty(), "{line}: {told}");
        assert!(!told.contains('\n'), "one message: {told}");
    }
}

#[test]
fn without_a_nats_server_of_somebody_else_one_is_run_with_the_former_flags() {
    let line = [
        "nats-streaming-server",
        "-p",
        "4333",
        "--user",
        "app",
        "--pass",
        "secret",
        "-D",
    ];
    let (sources, told) = run(&[&line[..], &SQL[..]].concat()).unwrap();

    assert_eq!(told, "");
    let config = sources.config;
    let managed = config.managed_nats.unwrap();
    assert_eq!(managed.arguments, ["--p=4333", "--D"]);
    assert_eq!(managed.port(), 4333);
    let file: serde_json::Value = serde_json::from_str(&managed.file()).unwrap();
    let login = serde_json::json!({ "user": "app", "password": "secret" });
    assert_eq!(file["authorization"], login);
    assert_eq!(config.nats.user.as_deref(), Some("app"));
    assert!(!format!("{managed:?}").contains("secret"));
}

/// They were those of the NATS server inside, and of its pages.
#[test]
fn the_certificate_on_a_line_is_that_of_the_nats_server_and_of_its_pages() {
    let tls = ["--tls", "--tlscert=c.pem", "--tlskey", "k.pem"];
    let line = |more: &[&'static str]| {
        let words = [&["nats-streaming-server"], &tls[..], more, &SQL[..]].concat();
        run(&words).unwrap()
    };
    let (sources, told) = line(&["-p", "4333"]);

    assert_eq!(told, "");
    let config = sources.config;
    assert_eq!(config.https, None);
    let managed = config.managed_nats.unwrap();
    let given = ["--tls", "--tlscert=c.pem", "--tlskey=k.pem", "--p=4333"];
    assert_eq!(managed.arguments, given);
    let trusted = config.nats.tls;
    assert_eq!(trusted.ca.unwrap().to_str(), Some("c.pem"));
    assert_eq!(trusted.demand, Demand::Authority);
    let (sources, _) = line(&["-tls_client_cacert", "ca.pem"]);
    let trusted = sources.config.nats.tls;
    assert_eq!(trusted.ca.unwrap().to_str(), Some("ca.pem"));
    assert_eq!(trusted.demand, Demand::HostAndAuthority);
    let (sources, told) = line(&["-ms", "8443", "-ns", "nats://h:4222"]);
    let pages = sources.config.https.unwrap();
    assert_eq!(pages.certificate_file.to_str(), Some("c.pem"));
    assert_eq!(pages.key_file.to_str(), Some("k.pem"));
    assert!(told.ends_with(": tls"), "{told}");
}

#[test]
fn the_pages_listen_where_the_nats_server_of_the_line_does() {
    for (line, address) in [
        (&["-a", "127.0.0.1"][..], "127.0.0.1:8222"),
        (&["--addr=localhost"], "127.0.0.1:8222"),
        (&["-net", "::1", "-ns", "nats://h:4222"], "[::1]:8222"),
        (&["-a", "127.0.0.1", "--http-host=0.0.0.0"], "0.0.0.0:8222"),
        (&["-a", "nobody..knows"], "nobody..knows:8222"),
        (&[], "0.0.0.0:8222"),
    ] {
        let words = [&["nats-streaming-server", "-m", "8222"], line, &SQL[..]].concat();
        let (sources, _) = run(&words).unwrap();
        assert_eq!(
            sources.config.http.as_ref().unwrap().to_string(),
            address,
            "{line:?}"
        );
    }
}

#[test]
fn a_mysql_store_is_refused_with_the_way_there_is() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migrate.md"));
    assert!(page.unwrap().contains("## Without an import"));
}

#[test]
fn the_directory_of_a_file_store_is_known() {
    let line = ["nats-streaming-server", "-store", "FILE", "-dir", "/data"];
    let (sources, _) = run(&[&line[..], &SQL[..]].concat()).unwrap();

    assert_eq!(sources.config.import_dir.unwrap().to_str(), Some("/data"));
}

/// Acceptance: 129.
#[test]
fn lines_whose_data_would_be_left_behind_are_refused() {
    for (line, text) in [
        (&["-store", "x"][..], "unknown store type: x"),
        (
            &["-st", "SQL", "-sql_driver", "mysql"],
            "stanby import --from mysql://",
        ),
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

/// As charts, compose files and units leave them where a value is not set.
#[test]
fn a_flag_with_an_empty_value_is_as_good_as_absent() {
    let line = [
        "nats-streaming-server",
        "-ns",
        "",
        "-ft_group",
        "",
        "-user",
        "",
        "-pass",
        "",
        "-auth=",
        "-sc",
        "",
        "-c=",
        "-l=",
        "-P",
        "",
        "-dir",
        "",
        "-tls_client_cert=",
        "-tls_client_key=",
        "-tls_client_cacert=",
        "-routes",
        "",
        "-encryption_key=",
        "-sql_driver",
        "",
        "-r",
        "",
        "-cid",
        "shop",
    ];
    let (sources, _) = run(&[&line[..], &SQL[..]].concat()).unwrap();

    let config = sources.config;
    assert_eq!(config.cluster_id, "shop");
    assert_eq!((config.ft_group, config.encryption.key), (None, None));
    assert_eq!(config.log.target, LogTarget::StandardError);
    assert_eq!((&config.nats.user, &config.nats.token), (&None, &None));
    assert_eq!(config.nats.tls.ca, None);
    let managed = config.managed_nats.expect("no other NATS is named");
    assert!(!managed.file().contains("authorization"));
    assert_eq!(sources.warnings, [""; 0]);
}

/// Nobody's line has them from before.
#[test]
fn an_empty_file_of_a_flag_that_is_only_stanbys_is_refused() {
    for flag in [
        "--nats-tls-ca=",
        "--nats_tls_ca=",
        "-nats-credentials=",
        "--import-dir=",
    ] {
        let told = run(&["stanby", flag]).unwrap_err().to_string();
        assert!(told.contains("is empty: name a file"), "{flag}: {told}");
    }
}

#[test]
fn an_empty_login_on_the_line_hides_none_of_the_file() {
    let text = format!(
        "authorization {{ user: app, password: geheim }}\nstreaming {{ encryption_key: k3y, sql {{ source: '{DATABASE}' }} }}"
    );
    let files = Files::new(&[("s.conf", &text)]);
    let path = files.path("s.conf").display().to_string();
    let line = [
        "stanby",
        "-c",
        &path,
        "-user",
        "",
        "-pass",
        "",
        "-encryption_key",
        "",
    ];
    let (sources, _) = run(&line).unwrap();
    assert_eq!(sources.config.nats.user.as_deref(), Some("app"));
    assert_eq!(sources.config.encryption.key, Some("k3y".into()));
}

/// The example of the former server's documentation: without the login, it would not have started.
#[test]
fn a_login_on_the_line_is_one_of_the_users_of_the_file() {
    for users in [
        "authorization { users = [ {user: alice, password: foo}\n{user: bob, password: bar} ] }",
        "accounts { A: { users: [ {user: alice, password: foo}\n{user: bob, password: bar} ] } }",
    ] {
        let text = format!("listen: 127.0.0.1:4233\n{users}\n");
        let files = Files::new(&[("server.cfg", &text)]);
        let path = files.path("server.cfg").display().to_string();
        let line = ["stanby", "-config", &path, "-user", "alice", "-pass", "foo"];
        let (sources, told) = run(&[&line[..], &SQL[..]].concat()).unwrap();
        assert_eq!(told, "");
        assert_eq!(sources.config.nats.user.as_deref(), Some("alice"));
        let file = sources.config.managed_nats.unwrap().file();
        let file: serde_json::Value = serde_json::from_str(&file).unwrap();
        let block = file.get("authorization");
        let users = block.unwrap_or(&file["accounts"]["A"])["users"].as_array();
        assert_eq!(users.unwrap().len(), 2, "{file}");
        assert!(
            block.is_none_or(|block| block.get("user").is_none()),
            "{file}"
        );
    }
}

#[test]
fn a_login_on_the_line_takes_the_place_of_the_only_one_of_the_file() {
    let text = "authorization { Username: old, pass: x, timeout: 2 }\n";
    let files = Files::new(&[("s.conf", text)]);
    let path = files.path("s.conf").display().to_string();
    let line = ["stanby", "-c", &path, "--user", "app", "--pass", "y"];
    let (sources, _) = run(&[&line[..], &SQL[..]].concat()).unwrap();
    let file = sources.config.managed_nats.unwrap().file();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    let expected = serde_json::json!({ "user": "app", "password": "y", "timeout": 2 });
    assert_eq!(file["authorization"], expected);
}

#[test]
fn one_file_named_for_both_is_read_as_one() {
    let files = Files::new(&[("s.conf", "cluster_id: shop\nport: 4333\nlogtime: true\n")]);
    let path = files.path("s.conf").display().to_string();
    let again = path.replace("/s.conf", "/./s.conf");
    let line = ["stanby", "-c", &path, "-sc", &again];
    let (sources, told) = run(&[&line[..], &SQL[..]].concat()).unwrap();
    assert_eq!(sources.config.cluster_id, "shop");
    assert_eq!(sources.config.managed_nats.unwrap().port(), 4333);
    assert_eq!(told, "");
}

#[test]
fn a_fail_count_below_zero_is_zero() {
    let line = ["nats-streaming-server", "-hbf", "-1"];
    let (sources, _) = run(&[&line[..], &SQL[..]].concat()).unwrap();
    assert_eq!(sources.config.heartbeats.fail_count, 0);
}
