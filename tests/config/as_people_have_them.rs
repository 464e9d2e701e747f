//! Start lines and files of every shape that is in use, composed anew: each is taken as it is, with nothing but the
//! database added, and what means something else here is named.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::ffi::OsString;

use clap::CommandFactory as _;
use stanby::cli::command::Cli;
use stanby::config::arguments::normalise;
use stanby::config::file::{self, Part};
use stanby::config::{Sources, effective};

use crate::{DATABASE, Files};

/// With what is said about it.
fn start(line: &str) -> (Sources, String) {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").unwrap();
    let source = ["-sql_source", DATABASE];
    let words = std::iter::once("/nats-streaming-server")
        .chain(line.split_whitespace())
        .chain(source);
    let arguments = normalise(words.map(OsString::from), serve).unwrap();
    let read = Sources::read(&arguments.args[2..]);
    let sources = read.unwrap_or_else(|error| panic!("{line}: {error}"));
    let said = sources.warnings(&arguments.notes).join("\n");
    (sources, said)
}

#[test]
fn lines_start_as_they_are() {
    let replaced = "store file by Postgres";
    for (line, parts) in [
        ("-cid prod --auth tokenAuth -m 8222 -V", &[][..]),
        ("-m 8222 -mm 10000000", &[]),
        ("-D=1 -V=0 -SD=t -SV=F -SDV=false -DV", &[]),
        (
            "-a 0.0.0.0 -n stan-0 -client_advertise h:4222 -cluster_name c",
            &[],
        ),
        (
            "-cluster_listen nats://0.0.0.0:6222 -no_advertise -connect_retries 10 -routes nats://b:6222",
            &[],
        ),
        (
            "-js -sd /js -profile 6060 -max_traced_msg_len=100 -logtime=false",
            &[],
        ),
        (
            "-l /tmp/stan.log -log_size_limit 10485760 -P /tmp/stan.pid",
            &[],
        ),
        ("-s -r udp://logs:514", &[]),
        ("-remote_syslog=tcp://logs:601", &[]),
        ("-r unix:///dev/log", &[]),
        (
            "--hb_interval=1m --hb_timeout 10s --hb_fail_count=-1 --replace_durable=true",
            &[],
        ),
        ("-user alice -pass=se=cret", &[]),
        ("-ns tcp://10.0.0.3:4222", &[]),
        ("-ns https://nats:4222", &[]),
        (
            "-nats_server=nats://a:4222,nats://b:4222 -user u -pass p",
            &[],
        ),
        (
            "-secure -ns nats://nats:4222 -tls_client_cacert /ca.pem",
            &[],
        ),
        ("-ns= -ft_group= -user= -pass= -sc= -m 8222", &[]),
        (
            "--tls --tlscert /c.pem --tlskey=/k.pem --tlscacert=/ca.pem --tlsverify=true -ms 8443",
            &[],
        ),
        ("-mc 0 -msu=0 -mm 0 -mb 10GB -ma 168h -mi 1h30m", &[]),
        ("-max_bytes 512mb -max_age 0s -max_channels 1_000", &[]),
        (
            "--store file --dir /data -ft_group ft -cluster nats://0.0.0.0:6222 -routes nats://b:6222",
            &[replaced],
        ),
        (
            "-st=FILE -dir=a -file_crc_poly 0xEDB88320 -file_compact_enabled=false -file_slice_max_age 24h",
            &[
                replaced,
                "no effect",
                "-file_compact_enabled, -file_slice_max_age",
            ],
        ),
        (
            "-sql_no_caching -sql_max_open_conns=5 -sql_bulk_insert_limit 1000 -io_batch_size 2048 -logtime_utc",
            &[
                "-sql_no_caching, -sql_max_open_conns, -sql_bulk_insert_limit, -io_batch_size, -logtime_utc",
            ],
        ),
        (
            "-store file -dir b -clustered=true -cluster_node_id=b -cluster_peers=a,c -cluster_raft_logging -ns nats://n:4222",
            &[
                replaced,
                "-clustered, -cluster_node_id, -cluster_peers, -cluster_raft_logging by the lock",
            ],
        ),
        (
            "-store memory -cluster_sync -cluster_log_cache_size 1024 -clustered=0",
            &[
                "store memory by Postgres",
                "-cluster_sync, -cluster_log_cache_size, -clustered",
            ],
        ),
    ] {
        let (sources, said) = start(line);
        for part in parts {
            assert!(said.contains(part), "{line}: {part}: {said}");
        }
        assert_eq!(said.is_empty(), parts.is_empty(), "{line}: {said}");
        assert_eq!(sources.unknown, [""; 0], "{line}");
    }
}

/// Each with what is said about it.
const FILES: &[(&str, &str, &[&str])] = &[
    (
        "a chart, fault tolerant",
        r#"
        http: 8222
        cluster {
            port: 6222
            routes [
                nats://stan-0.stan:6222
                nats://stan-1.stan:6222
            ]
            cluster_advertise: $HOME
            connect_retries: 10
        }
        streaming {
            id: test-cluster
            store: file
            dir: /data/stan/store
            ft_group_name: "test-cluster"
            file_options { buffer_size: 32mb, sync_on_flush: false, slice_max_bytes: 512mb }
            store_limits { max_channels: 10, max_msgs: 0, max_bytes: 256gb, max_age: 1h, max_subs: 128 }
        }"#,
        &["file_options.buffer_size (", "store file by Postgres"],
    ),
    (
        "a node of a cluster",
        r#"
        # NATS
        port: 4222
        cluster { listen: 0.0.0.0:6222, routes: ["nats://host2:6222", "nats://host3:6222"] }
        # Streaming
        streaming {
          cluster_id: mycluster
          store: file, dir: store
          cluster { node_id: "a", peers: ["b", "c"], raft_logging: true, raft_lease_timeout: "500ms" }
        }"#,
        &["cluster (", "by the lock in Postgres"],
    ),
    (
        "one file without a block",
        r#"
        store: file
        dir: "/home/me/NATS"
        file: { compact_enabled: true, crc: true, buffer_size: 2MB, slice_max_bytes: 500MB }
        http_port: 8222
        StoreLimits: { MaxChannels: 100, max_sybs: 100, mm: 100000000, MaxBytes: 5GB, ma: "0" }
        stan_debug: true
        "#,
        &["file.crc ("],
    ),
    (
        "JSON, with a brace too few",
        r#"{
          "port": 4222, "max_payload": 8388608,
          "streaming": {
            "cluster_id": "shop",
            "store_limits": { "channels": { "foo.>": { "max_msgs": 10, "max_age": "24h" }, "bar": {} } }
          }
        "#,
        &[],
    ),
    (
        "users with permissions by variables, a brace too many",
        r#"
        ADMIN_PASS = 'hunter2'
        authorization {
          STAN = { publish = ["_STAN.>", "orders.>"], subscribe = ["_STAN.>", "_INBOX.>"] }
          default_permissions { publish: "public", subscribe: { allow: ["public", "_INBOX.>"], deny: "secret" } }
          timeout: 0.5
          users = [
            { user: admin, password: $ADMIN_PASS, permissions: { publish: ">", subscribe: ">" } },
            { user: app, password: $2a$11$abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNO, permissions: $STAN }
          ]
        }
        streaming { cluster_id: shop, username: admin, password: $ADMIN_PASS }
        }
        "#,
        &[],
    ),
    (
        "accounts",
        r#"
        listen: "0.0.0.0:4222" // for clients
        accounts {
          SYS { users [ { user: sys, password: sys } ] }
          APP: { users: [ { user: stan, password: stan } ], jetstream: enabled }
        }
        system_account: SYS
        streaming = { id = "shop"; user = "stan"; pass = "stan" }
        "#,
        &[],
    ),
    (
        "an operator, on a machine with backslashes",
        r#"
        port: 4222 # Port for client connections
        max_payload: 30000000
        operator: "C:\\NATS\\nsc\\Operator.jwt"
        resolver: URL(http://0.0.0.0:9090/jwt/v1/accounts/)
        logfile_size_limit: 10MB
        log_file: "/tmp/nats-server.log"
        streaming: { cluster_id: "UUEtVGVzdC1D", credentials: "C:\\NATS\\User.creds", store_limits: { max_age: "600s" } }
        server_name: MyServerName
        "#,
        &[],
    ),
    (
        "TLS for both",
        r#"
        listen: localhost:5222
        tls: { cert_file: "/c.pem", key_file: "/k.pem", verify: true, timeout: 2 }
        streaming: {
          cluster_id: my_cluster
          tls: { client_cert: "/cc.pem", client_key: "/ck.pem", client_cacert: "/ca.pem", server_hostname: h }
        }"#,
        &[],
    ),
    (
        "TLS of NATS in a plain file",
        "port: 4222\ntls { cert_file: /c.pem, key_file: /k.pem, verify: true, cipher_suites: [\"X\"] }\nid: shop\n",
        &[],
    ),
    (
        "partitions",
        r#"
        streaming: {
          partitioning: yes
          store_limits: { channels: { foo: {}, "bar.*": { msu: 10 }, baz.boz.> { mb: 1KiB, mi: "1h" } } }
        }"#,
        &[],
    ),
    (
        "leaf nodes, gateway, web sockets",
        r#"
        http: localhost:8222
        leafnodes { remotes = [ { url: "nats-leaf://hub:7422", credentials: "/leaf.creds" } ] }
        gateway { name: A, port: 7222, gateways: [ { name: B, url: "nats://b:7222" } ] }
        websocket { port: 443, no_tls: true }
        ping_interval: "2m", ping_max: 2, write_deadline: "10s", lame_duck_duration: "60s"
        max_control_line: 4KB, max_connections: 64K, max_pending: 64mb, max_subscriptions: 1000
        streaming { id: shop, ns: nats://nats:4222, hbi: "1m", hbt: 10s, hbf: 3, sd: on, sv: OFF }
        "#,
        &["no effect", "leafnodes (", "gateway (", "websocket ("],
    ),
    (
        "keys that neither of the two knows",
        r#"
        monitor_port: 8222
        logfile_max_num: 100
        sd: true
        streaming: { cluster_id: shop, "store": "MEMORY", encrypt: false, syslog_name: nss }
        "#,
        &["logfile_max_num (", "sd (", "syslog_name (", "store memory"],
    ),
];

#[test]
fn files_start_as_they_are_and_say_the_same_once_converted() {
    for (name, text, parts) in FILES {
        let files = Files::new(&[("main.conf", text)]);
        let url = format!("--database-url={DATABASE}");
        let read = |name: &str, of: &Files| {
            let read = of.read(name, &[&url]);
            read.unwrap_or_else(|error| panic!("{name}: {error}\n{text}"))
        };
        let before = read("main.conf", &files);
        let said = before.warnings(&stanby::config::Notes::default());
        let said = said.join("\n");
        for part in *parts {
            assert!(said.contains(part), "{name}: {part}: {said}");
        }
        assert_eq!(said.is_empty(), parts.is_empty(), "{name}: {said}");
        let expected = usize::from(text.contains("max_sybs"));
        assert_eq!(
            before.unknown.len(),
            expected,
            "{name}: {:?}",
            before.unknown
        );

        let found = file::read(&files.path("main.conf"), Part::Both).unwrap();
        let converted = Files::new(&[("main.toml", &file::render(&found))]);
        let after = read("main.toml", &converted);
        let values = |sources: &Sources| {
            let values = effective::values(sources).unwrap().into_iter();
            let values = values.map(|value| (value.name, value.value));
            values.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(values(&before), values(&after), "{name}");
        let (before, after) = (before.config, after.config);
        assert_eq!(before.nats, after.nats, "{name}");
        let of_nats = |config: &stanby::config::Config| {
            let managed = config.managed_nats.as_ref();
            managed.map(stanby::config::managed_nats::ManagedNats::file)
        };
        assert_eq!(of_nats(&before), of_nats(&after), "{name}");
    }
}
