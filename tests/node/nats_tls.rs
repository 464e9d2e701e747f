//! TLS to a real nats-server, with certificates made here.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::error::Error as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use stanby::nats::settings::ClientCertificate;
use stanby::nats::{Connection, Error, Settings};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::certificates::{Files, Signed};
use crate::cli::{stderr, stdout};
use crate::nats::{LIMIT, settings};
use crate::pair::{Group, Server};
use crate::stores::Case;
use crate::support::nats::own_server;
use crate::support::postgres;

/// Flags of a nats-server that shows this certificate.
fn flags(files: &Files, shown: &Signed, and: &[&str]) -> Vec<String> {
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let mut flags = vec![
        "--tls".to_owned(),
        format!("--tlscert={}", path(&shown.certificate)),
        format!("--tlskey={}", path(&shown.key)),
        format!("--tlscacert={}", path(&files.path("ca.pem"))),
    ];
    flags.extend(and.iter().map(|&flag| flag.to_owned()));
    flags
}

fn texts(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

async fn open(settings: &Settings) -> Result<(), Error> {
    let connection = Connection::open(settings, &TaskTracker::new()).await?;
    connection.flush(LIMIT).await
}

/// The whole chain of an error.
async fn why_not(settings: &Settings) -> String {
    let error = open(settings).await.expect_err("it is let in");
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_tls_gets_it_and_has_to_be_trusted_and_rightly_named() {
    let files = Files::new();
    let Some(nats) = own_server(&texts(&flags(&files, &files.sign("127.0.0.1"), &[]))).await else {
        return;
    };
    let mut settings = settings(&nats);
    let error = why_not(&settings).await;
    assert!(error.contains("the TLS handshake failed"), "{error}");

    settings.tls.ca_file = Some(files.path("ca.pem"));
    open(&settings).await.unwrap();
    settings.tls.required = true;
    open(&settings).await.unwrap();
    settings.servers = vec![nats.url().replace("nats://", "tls://")];
    open(&settings).await.unwrap();

    settings.tls.server_name = Some("nats.example".to_owned());
    let error = why_not(&settings).await;
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_is_expected_of_a_server_can_be_given() {
    let files = Files::new();
    let signed = files.sign("nats.example");
    let Some(nats) = own_server(&texts(&flags(&files, &signed, &[]))).await else {
        return;
    };
    let mut settings = settings(&nats);
    settings.tls.ca_file = Some(files.path("ca.pem"));
    let error = why_not(&settings).await;
    assert!(error.contains("not valid for name"), "{error}");

    settings.tls.server_name = Some("nats.example".to_owned());
    open(&settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let files = Files::new();
    let wanted = flags(&files, &files.sign("127.0.0.1"), &["--tlsverify"]);
    let Some(nats) = own_server(&texts(&wanted)).await else {
        return;
    };
    let mut settings = settings(&nats);
    settings.tls.ca_file = Some(files.path("ca.pem"));
    let error = why_not(&settings).await;
    assert!(error.contains("cannot connect to NATS"), "{error}");

    let client = files.sign("client.example");
    settings.tls.client = Some(ClientCertificate {
        certificate_file: client.certificate,
        key_file: client.key.clone(),
    });
    open(&settings).await.unwrap();

    fs::write(&client.key, "no key").unwrap();
    let error = why_not(&settings).await;
    assert!(error.contains(client.key.to_str().unwrap()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let mut settings = settings(&nats);
    settings.tls.required = true;
    let error = why_not(&settings).await;
    assert!(error.contains("does not offer it"), "{error}");

    settings.tls.required = false;
    settings.servers = vec![nats.url().replace("nats://", "tls://")];
    let error = why_not(&settings).await;
    assert!(error.contains("does not offer it"), "{error}");
}

/// Speaks TLS from the first byte and passes on what is in it.
async fn tls_in_front_of(nats: String, signed: &Signed, tasks: &mut JoinSet<()>) -> u16 {
    let chain = CertificateDer::pem_file_iter(&signed.certificate).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&signed.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut client) = acceptor.accept(socket).await else {
                continue;
            };
            let mut server = TcpStream::connect(&nats).await.unwrap();
            tokio::io::copy_bidirectional(&mut client, &mut server)
                .await
                .ok();
        }
    });
    port
}

/// As nats-server from 2.10.4 on with `handshake_first`, which older ones do not know.
#[tokio::test(flavor = "multi_thread")]
async fn tls_may_begin_with_the_first_byte() {
    let files = Files::new();
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let mut tasks = JoinSet::new();
    let behind = nats.url().replace("nats://", "");
    let port = tls_in_front_of(behind, &files.sign("127.0.0.1"), &mut tasks).await;
    let mut settings = settings(&nats);
    settings.servers = vec![format!("tls://127.0.0.1:{port}")];
    settings.tls.ca_file = Some(files.path("ca.pem"));
    settings.tls.first = true;

    open(&settings).await.unwrap();

    settings.tls.first = false;
    let error = why_not(&settings).await;
    assert!(error.contains("no answer in time"), "{error}");
}

/// Acceptance: 168.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_of_certificates_by_a_configuration_file() {
    let files = Files::new();
    let wanted = flags(&files, &files.sign("nats.example"), &["--tlsverify"]);
    let Some(nats) = own_server(&texts(&wanted)).await else {
        return;
    };
    let Some(database) = postgres::database().await else {
        return;
    };
    let own = files.sign("stanby.example");
    let config = files.path("stan.conf");
    let text = format!(
        "tls {{ client_ca: {:?}, server_name: nats.example, client_cert: {:?}, client_key: {:?} }}",
        files.path("ca.pem"),
        own.certificate,
        own.key
    );
    fs::write(&config, format!("streaming {{ {text} }}")).unwrap();
    let file = ["--config", config.to_str().unwrap()];

    let server = Group::over(database.url.clone(), nats.url(), &file).server();

    server.wait_until_active().await;
}

/// Runs a command of the program; what it says, and whether it succeeds.
async fn run(args: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::from(Server::command());
    let output = command.args(args).kill_on_drop(true).output();
    let output = timeout(crate::pair::LIMIT, output).await.unwrap().unwrap();
    (output.status.success(), stdout(&output) + &stderr(&output))
}

/// They trust whom the servers trust.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_speaks_to_nats_takes_its_certificate_as_it_is_told_to() {
    let files = Files::new();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let signed = files.sign("nats.example");
    let (Some(nats), Some(database)) = (
        own_server(&texts(&flags(&files, &signed, &["-js", "-sd", store]))).await,
        postgres::database().await,
    ) else {
        return;
    };
    let url = nats.url();
    let ca = files.path("ca.pem");
    let insecure = ["--nats-tls-insecure"];
    let by_name = [
        "--nats-tls-ca",
        ca.to_str().unwrap(),
        "--nats-tls-server-name",
        "nats.example",
    ];
    let group = Group::over(database.url.clone(), url.clone(), &insecure);
    let server = group.server();
    server.wait_until_active().await;
    let (nats, cluster) = (["--nats-server", &url], ["--cluster-id", &group.cluster_id]);
    let tables = ["--database-url", &group.database_url];
    let of_nats = [&nats[..], &cluster].concat();
    let of_both = [&of_nats[..], &tables].concat();

    for (command, rest) in [
        (&["pub", "orders", "data"][..], &of_nats),
        (&["sub", "orders", "--all", "--count", "1"], &of_nats),
        (&["bench", "--count", "1"], &of_nats),
        (&["doctor"], &of_both),
        (&["mirror", "jetstream", "--once"], &of_both),
        (&["mirror", "status"], &of_both),
    ] {
        for flags in [&insecure[..], &by_name, &[]] {
            let (succeeds, said) = run(&[command, &rest[..], flags].concat()).await;
            let is_told = !flags.is_empty();
            assert_eq!(succeeds, is_told, "{command:?} {flags:?}: {said}");
            // Of the mirror, its library says no more than that.
            let is_named = ["certificate", "TLS"].iter().any(|it| said.contains(it));
            assert!(is_told || is_named, "{command:?}: {said}");
        }
    }

    // A file of the former server says the same of its NATS: a running server is heard there.
    let config = files.path("stan.conf");
    let text = format!(
        "ns: {url:?}, cluster_id: {:?}, store: file, dir: {store:?}, tls: {{ insecure: true }}",
        group.cluster_id
    );
    fs::write(&config, format!("streaming {{ {text} }}")).unwrap();
    let from = [
        "import",
        "--dry-run",
        "--from-config",
        config.to_str().unwrap(),
    ];
    let case = Case::unpack("plain-clean");
    let directory = case.store();
    let from_store = [
        "--from",
        directory.to_str().unwrap(),
        "--cluster-id",
        case.cluster_id(),
    ];
    let (_, said) = run(&[&from[..], &from_store, &tables].concat()).await;
    assert!(!said.contains("NATS was not asked"), "{said}");
}
