use clap::Args;

use super::*;
use crate::config::ServeFlags;

fn normalised(line: &str) -> Result<Arguments, Error> {
    let serve = ServeFlags::augment_args(clap::Command::new("serve"));
    normalise(
        line.split(' ')
            .filter(|word| !word.is_empty())
            .map(OsString::from),
        &serve,
    )
}

fn shown(line: &str) -> String {
    let args = normalised(line).unwrap().args;
    args.iter()
        .map(|arg| arg.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Acceptance: 165.
#[test]
fn spellings_of_nats_streaming_become_ours() {
    let cases = [
        ("-cid x", "--cluster-id=x"),
        ("--cid=x", "--cluster-id=x"),
        ("-cluster_id x", "--cluster-id=x"),
        ("--cluster-id x", "--cluster-id=x"),
        ("-ns nats://h:1", "--nats-server=nats://h:1"),
        ("-nats_server=nats://h:1", "--nats-server=nats://h:1"),
        ("-ft_group g", "--ft-group=g"),
        (
            "-sql_source postgres://h/d?a=b",
            "--sql-source=postgres://h/d?a=b",
        ),
        ("-sql_driver postgres", "--sql-driver=postgres"),
        ("-store=SQL", "--store=SQL"),
        ("-st sql", "--store=sql"),
        ("--store SQL -cid x", "--store=SQL --cluster-id=x"),
        (
            "-sc a.conf -c b.conf",
            "--stan-config=a.conf --config=b.conf",
        ),
        (
            "-stan_config a.conf -config=b.conf",
            "--stan-config=a.conf --config=b.conf",
        ),
        (
            "-l x.log -s -r udp://h:1 -P x.pid",
            "--log=x.log --syslog=true --remote-syslog=udp://h:1 --pid=x.pid",
        ),
        (
            "-secure -tls_client_cacert ca.pem",
            "--nats-tls=true --nats-tls-ca=ca.pem",
        ),
        (
            "-tls_client_cert c.pem -tls_client_key k.pem",
            "--nats-tls-cert=c.pem --nats-tls-key=k.pem",
        ),
        ("-m 8222", "--http-port=8222"),
        ("-http_port 8222", "--http-port=8222"),
        (
            "-hbi 1s -hbt 2s -hbf 3",
            "--hb-interval=1s --hb-timeout=2s --hb-fail-count=3",
        ),
        ("-hb_interval 1s", "--hb-interval=1s"),
        (
            "-hb_timeout 1s -hb_fail_count 2",
            "--hb-timeout=1s --hb-fail-count=2",
        ),
        (
            "-mc 1 -msu 2 -mm -1",
            "--max-channels=1 --max-subs=2 --max-msgs=-1",
        ),
        (
            "-mb 1KB -ma 1h -mi 2h",
            "--max-bytes=1KB --max-age=1h --max-inactivity=2h",
        ),
        (
            "-max_channels 1 -max_subs 2",
            "--max-channels=1 --max-subs=2",
        ),
        ("-max_msgs 1 -max_bytes 2", "--max-msgs=1 --max-bytes=2"),
        (
            "-max_age 1h -max_inactivity 2h",
            "--max-age=1h --max-inactivity=2h",
        ),
        ("-SD", "--debug=true"),
        ("-stan_debug -cid x", "--debug=true --cluster-id=x"),
        ("-SV=false", "--trace=false"),
        ("-replace_durable", "--replace-durable=true"),
        ("-SDV", "--debug=true --trace=true"),
        ("-SDV=F", "--debug=false --trace=false"),
        ("--debug", "--debug=true"),
        ("-user u -pass p", "--nats-user=u --nats-password=p"),
        ("-auth t", "--nats-token=t"),
        ("-cid", "--cluster-id"),
        ("-cid=", "--cluster-id="),
        ("-ns=", "--nats-server="),
        // They name no file.
        ("-sc= -c= -l= -P= -dir= -cid x", "--cluster-id=x"),
        ("-tls_client_cert= -tls_client_key=", ""),
        // As Go reads numbers.
        (
            "-mm 1_000 -mc 0x10 -hbf=0b1 -m 020",
            "--max-msgs=1000 --max-channels=16 --hb-fail-count=1 --http-port=16",
        ),
        ("-file_crc_poly 0xEDB88320", "--import-crc-poly=3988292384"),
        ("-mm 08", "--max-msgs=08"),
        ("-cid 0x10 -mb 10KB", "--cluster-id=0x10 --max-bytes=10KB"),
        ("-SD false", "--debug=true false"),
        ("-max_mgs 5", "--max-mgs 5"),
        ("-- -cid x", "-- -cid x"),
        ("---cid x", "---cid x"),
    ];
    for (theirs, ours) in cases {
        let expected = format!("stanby serve {ours}");
        assert_eq!(
            shown(&format!("stanby {theirs}")),
            expected.trim_end(),
            "{theirs}"
        );
        assert_eq!(
            shown(&format!("stanby serve {theirs}")),
            expected.trim_end(),
            "{theirs}"
        );
    }
}

#[test]
fn the_name_of_the_reference_means_serve() {
    assert_eq!(
        shown("/usr/bin/nats-streaming-server"),
        "/usr/bin/nats-streaming-server serve"
    );
    assert_eq!(
        shown("nats-streaming-server -cid x"),
        "nats-streaming-server serve --cluster-id=x"
    );
    assert_eq!(
        shown("nats-streaming-server -v"),
        "nats-streaming-server --version"
    );
    assert_eq!(
        shown("nats-streaming-server -h"),
        "nats-streaming-server serve --help"
    );
    assert_eq!(
        shown("nats-streaming-server -t -v=false -cid x"),
        "nats-streaming-server config check --cluster-id=x"
    );
    for asked in [
        "version",
        "-cid x -v",
        "-SD --version",
        "-v -t",
        "-v -t=false",
    ] {
        assert_eq!(
            shown(&format!("nats-streaming-server {asked}")),
            "nats-streaming-server --version"
        );
    }
    assert_eq!(
        shown("nats-streaming-server help"),
        "nats-streaming-server serve --help"
    );
}

#[test]
fn other_commands_pass_unchanged() {
    let lines = [
        "stanby",
        "stanby --help",
        "stanby -V",
        "stanby pub foo -cid x",
        "stanby sub -- -x",
    ];
    for line in lines {
        assert_eq!(shown(line), line);
    }
    assert_eq!(shown("stanby -help"), "stanby --help");
    assert_eq!(shown("stanby -version"), "stanby --version");
}

#[test]
fn flags_without_effect_are_named_once_each_and_take_their_value_along() {
    let arguments =
        normalised("stanby -file_crc -sql_max_open_conns 5 -io_batch_size=3 -cid x").unwrap();

    assert_eq!(arguments.args, ["stanby", "serve", "--cluster-id=x"]);
    let notes = arguments.notes.to_string();
    let list = ": -file_crc, -sql_max_open_conns, -io_batch_size";
    assert!(notes.ends_with(list), "{notes}");
}

#[test]
fn a_line_that_checks_or_signals_becomes_another_command() {
    for (theirs, ours) in [
        ("-c a.conf -t", "config check --config=a.conf"),
        ("serve -t=false -cid x", "serve --cluster-id=x"),
        (
            "config check a.conf -cid x",
            "config check a.conf --cluster-id=x",
        ),
        ("config show -cid x", "config show --cluster-id=x"),
        ("config convert a.conf", "config convert a.conf"),
        (
            "config check -cid x -sl stop",
            "config check --cluster-id=x",
        ),
        ("-sl stop=12", "signal stop=12"),
        ("--signal reload", "signal reload"),
    ] {
        assert_eq!(shown(&format!("stanby {theirs}")), format!("stanby {ours}"));
    }
}

/// Acceptance: 129.
#[test]
fn what_cannot_be_kept_is_refused_with_what_to_do() {
    for (flag, text) in [
        ("-SD=maybe", "-SD is on or off; write -SD or -SD=false"),
        ("-sl", "-sl needs a value after it"),
    ] {
        let error = normalised(&format!("stanby {flag}")).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn flags_of_the_nats_server_inside_go_to_the_one_beside() {
    for (theirs, ours) in [
        (
            "-p 4222 -a=0.0.0.0",
            "--nats-server-arg=--p=4222 --nats-server-arg=--a=0.0.0.0",
        ),
        (
            "-D -DV=false -max_traced_msg_len 9",
            "--nats-server-arg=--D --nats-server-arg=--DV=false --nats-server-arg=--max_traced_msg_len=9",
        ),
        (
            "-cluster nats://0.0.0.0:6222 -cid x",
            "--nats-server-arg=--cluster=nats://0.0.0.0:6222 --cluster-id=x",
        ),
    ] {
        assert_eq!(
            shown(&format!("stanby {theirs}")),
            format!("stanby serve {ours}")
        );
    }
}

#[test]
fn raft_is_replaced_where_it_was_on_and_without_effect_where_it_was_not() {
    let notes = |line: &str| normalised(line).unwrap().notes.to_string();
    let on = notes("stanby -cluster_node_id a --clustered -cluster_peers a,b");
    let list = "replaced: -cluster_node_id, -clustered, -cluster_peers by the lock in Postgres";
    assert!(on.contains(list) && !on.contains("no effect"), "{on}");

    let off = notes("stanby -cluster_node_id a -cluster_peers a,b -clustered=false");
    let list = ": -cluster_node_id, -cluster_peers, -clustered";
    assert!(off.ends_with(list), "{off}");
}

#[test]
fn an_image_passes_the_former_program_as_the_first_argument() {
    for first in ["nats-streaming-server", "/nats-streaming-server"] {
        assert_eq!(
            shown(&format!("stanby {first} -cid x")),
            "stanby serve --cluster-id=x"
        );
        assert_eq!(shown(&format!("stanby {first}")), "stanby serve");
    }
}
