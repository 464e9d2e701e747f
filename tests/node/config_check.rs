//! `stanby config check`: what it finds in files and lines, certificates and the part for nats-server included.

use std::path::Path;

use crate::cli::{code, stanby, stderr};
use crate::process::Folder;

#[tokio::test]
async fn a_check_of_a_configuration_opens_the_files_that_a_server_would() {
    let folder = Folder::new();
    let (path, certificate, key) = (
        folder.path("a.conf"),
        folder.path("cert.pem"),
        folder.path("key.pem"),
    );
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let check = async |top: &str, streaming: &str, url: &str| {
        let text = format!(
            "{top}\nstreaming {{ cid: shop, {streaming}, sql {{ source: \"postgres://u@h/d?{url}\" }} }}"
        );
        std::fs::write(&path, text).unwrap();
        stanby(&["config", "check", path.to_str().unwrap()]).await
    };
    let https = |certificate: &Path, key: &Path| {
        format!("https_port: 8223\ntls {{ cert_file: {certificate:?}, key_file: {key:?} }}")
    };
    let outside = "ns: 'nats://h:4222'";
    let good = check(&https(&certificate, &key), outside, "sslmode=disable").await;
    assert_eq!(code(&good), Some(0), "{}", stderr(&good));

    let missing = folder.path("missing.pem");
    let text = missing.display().to_string();
    for (top, streaming, url, told) in [
        (
            https(&missing, &key),
            outside.to_owned(),
            String::new(),
            "missing.pem is of no use as certificate (--https-cert",
        ),
        (
            https(&certificate, &missing),
            outside.to_owned(),
            String::new(),
            "missing.pem is of no use as key (--https-key",
        ),
        (
            https(&certificate, &certificate),
            outside.to_owned(),
            String::new(),
            "cert.pem is of no use as key (--https-key",
        ),
        (
            String::new(),
            format!("{outside}, tls {{ client_ca: {missing:?} }}"),
            String::new(),
            "the CA file for NATS (--nats-tls-ca, -tls_client_cacert or client_ca)",
        ),
        (
            String::new(),
            format!("{outside}, tls {{ client_cert: {missing:?}, client_key: {key:?} }}"),
            String::new(),
            "the client certificate for NATS (--nats-tls-cert, -tls_client_cert or client_cert)",
        ),
        (
            String::new(),
            format!("{outside}, tls {{ client_cert: {certificate:?}, client_key: {missing:?} }}"),
            String::new(),
            "the key of the client certificate for NATS (--nats-tls-key, -tls_client_key or client_key)",
        ),
        (
            String::new(),
            format!("{outside}, credentials: {missing:?}"),
            String::new(),
            "the credentials file",
        ),
        (
            String::new(),
            outside.to_owned(),
            format!("sslmode=verify-full&sslrootcert={text}"),
            "missing.pem",
        ),
        (
            format!("log_file: {:?}", missing.join("a.log")),
            outside.to_owned(),
            String::new(),
            "there is no such directory",
        ),
        // Of the nats-server that a server would run.
        (
            format!("tls {{ cert_file: {missing:?}, key_file: {key:?} }}"),
            "sd: true".to_owned(),
            String::new(),
            "the certificate of the nats-server that this server runs (cert_file in its block tls)",
        ),
        (
            format!("tls {{ cert_file: {certificate:?}, key_file: {missing:?} }}"),
            "sd: true".to_owned(),
            String::new(),
            "nats-server: it refuses the configuration",
        ),
        (
            "write_deadline: nonsense".to_owned(),
            "sd: true".to_owned(),
            String::new(),
            "nats-server: it refuses the configuration",
        ),
    ] {
        let checked = check(&top, &streaming, &url).await;
        let found = stderr(&checked);
        assert_eq!(code(&checked), Some(2), "{told}: {found}");
        assert!(found.contains(told), "{told}: {found}");
        let lines = found.lines().filter(|line| line.contains("missing.pem"));
        assert!(lines.count() <= 1, "{told}: {found}");
    }
}

#[tokio::test]
async fn a_tls_file_of_the_line_that_is_missing_is_named_with_its_flag() {
    let folder = Folder::new();
    let (certificate, key) = (folder.path("cert.pem"), folder.path("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let missing = folder.path("missing.pem");
    let url = "postgres://u@127.0.0.1:1/d";
    for (files, told) in [
        (
            [&missing, &key, &certificate],
            "the certificate of the nats-server that this server runs (-tlscert)",
        ),
        (
            [&certificate, &missing, &certificate],
            "the key of the certificate of the nats-server (-tlskey)",
        ),
        (
            [&certificate, &key, &missing],
            "the CA file of the nats-server (-tlscacert)",
        ),
    ] {
        let [certificate, key, authority] = files.map(|file| file.to_str().unwrap());
        let line = [
            "-tlsverify",
            "-tlscert",
            certificate,
            "-tlskey",
            key,
            "-tlscacert",
            authority,
            "--database-url",
            url,
        ];
        let checked = stanby(&[&["config", "check"][..], &line[..]].concat()).await;
        let found = stderr(&checked);
        assert_eq!(code(&checked), Some(2), "{told}: {found}");
        assert!(found.contains(told), "{told}: {found}");
        let lines = found.lines().filter(|line| line.contains("missing.pem"));
        assert_eq!(lines.count(), 1, "{found}");
    }
}

/// Its own check of a configuration passes over them.
#[tokio::test]
async fn what_is_wrong_with_the_flags_for_nats_server_fails_the_check() {
    let files = crate::certificates::Files::new();
    let (one, other) = (files.sign("localhost"), files.sign("other.example"));
    let [certificate, key, other_key] =
        [&one.certificate, &one.key, &other.key].map(|file| file.to_str().unwrap());
    let check = async |line: &[&str]| {
        let database = ["--database-url", "postgres://u@127.0.0.1:1/d"];
        stanby(&[&["config", "check"], line, &database].concat()).await
    };
    for (line, told) in [
        (&["-D=yes"][..], "invalid boolean value"),
        (&["-tls"], "give -tlscert FILE"),
        (
            &["-tls", "-tlscert", certificate, "-tlskey", other_key],
            "does not match",
        ),
        (
            &["-m", "8222", "-a", "nobody..knows"],
            "write an IP address",
        ),
    ] {
        let checked = check(line).await;
        let found = stderr(&checked);
        assert_eq!(code(&checked), Some(2), "{line:?}: {found}");
        assert!(found.contains(told), "{line:?}: {found}");
    }
    let fits = check(&["-tls", "-tlscert", certificate, "-tlskey", key]).await;
    assert_eq!(code(&fits), Some(0), "{}", stderr(&fits));
}

/// Seconds without a unit, as old files have them: nats-server starts with them.
#[tokio::test]
async fn what_nats_server_only_warns_of_is_a_warning() {
    let folder = Folder::new();
    let file = folder.path("a.conf");
    let text = "write_deadline: 2\nping_interval: 120\nstreaming { id: shop }\n";
    std::fs::write(&file, text).unwrap();
    let line = ["--database-url", "postgres://u@127.0.0.1:1/d"];
    let line = [&["config", "check", file.to_str().unwrap()][..], &line].concat();
    let checked = stanby(&line).await;
    let found = stderr(&checked);
    assert_eq!(code(&checked), Some(0), "{found}");
    let warned = found
        .lines()
        .filter(|line| line.starts_with("warning: nats-server: "));
    assert_eq!(warned.count(), 2, "{found}");
}

#[tokio::test]
async fn every_file_that_is_missing_is_reported_once_whatever_names_it() {
    let folder = Folder::new();
    let missing = |name: &str| folder.path(name).display().to_string();
    let file = folder.path("a.conf");
    let text = format!(
        "https: 8223\nstreaming {{ tls {{ client_cert: {:?}, client_key: {:?}, client_ca: {:?} }} }}\n\
         tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?} }}\n\
         cluster {{ listen: '127.0.0.1:-1', tls {{ cert_file: {:?}, key_file: {:?} }} }}\n",
        missing("a.pem"),
        missing("b.pem"),
        missing("c.pem"),
        missing("d.pem"),
        missing("e.pem"),
        missing("f.pem"),
        missing("d.pem"),
        missing("g.pem"),
    );
    std::fs::write(&file, text).unwrap();
    let line = [
        "config",
        "check",
        file.to_str().unwrap(),
        "--tlscert",
        &missing("h.pem"),
        "--tlskey",
        &missing("i.pem"),
        "--tlscacert",
        &missing("h.pem"),
        "--database-url",
        "postgres://u@127.0.0.1:1/d",
    ];
    let checked = stanby(&line).await;
    let found = stderr(&checked);
    assert_eq!(code(&checked), Some(2), "{found}");
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
        let name = format!("/{name}.pem");
        let lines = found.lines().filter(|line| line.contains(&name));
        assert_eq!(lines.count(), 1, "{name}: {found}");
    }
}
