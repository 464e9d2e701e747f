//! The pages over HTTPS, with certificates made here.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::pair::{Group, LIMIT, Server, free_port};
use crate::support::wait::wait_until;

/// Files of a certificate, and whom to trust for the last one that was written there.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A new authority's certificate for this machine.
    pub(crate) fn write(&self) -> RootCertStore {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        roots
    }
}

/// The whole answer of a page.
async fn get(port: u16, path: &str, roots: &RootCertStore) -> Result<String, String> {
    get_at((Ipv4Addr::LOCALHOST, port).into(), path, roots).await
}

pub(crate) async fn get_at(
    address: SocketAddr,
    path: &str,
    roots: &RootCertStore,
) -> Result<String, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    let asking = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let asked = timeout(LIMIT, asking).await.unwrap();
    asked.map_err(|error| error.to_string())
}

fn server(group: &Group, files: &Files, port: u16) -> Server {
    group.server_with(&[
        "--https-port",
        &port.to_string(),
        "--https-cert",
        &files.path("cert.pem"),
        "--https-key",
        &files.path("key.pem"),
    ])
}

/// Acceptance: 147.
#[tokio::test]
async fn the_pages_are_served_over_https_with_a_certificate_that_may_be_renewed() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let files = Files::new();
    let roots = files.write();
    let port = free_port();
    let server = server(&group, &files, port);
    server.wait_until_active().await;

    // Somebody who connects and says nothing is in nobody's way.
    let silent = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let ready = get(port, "/readyz", &roots).await.unwrap();
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.contains("\"active\""), "{ready}");
    let metrics = get(port, "/metrics", &roots).await.unwrap();
    let last = metrics.lines().last().unwrap_or_default();
    assert!(last.starts_with("nss_"), "the whole page: {metrics}");
    let plain = crate::pair::get(port, "/readyz").await;
    assert!(plain.is_err(), "{plain:?}");
    drop(silent);

    let renewed = files.write();
    let ready = get(port, "/readyz", &renewed).await.unwrap();
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let refused = get(port, "/readyz", &roots).await.unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");

    fs::write(files.path("cert.pem"), "half a fi").unwrap();
    let ready = get(port, "/readyz", &renewed).await.unwrap();
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    wait_until(LIMIT, async || {
        let log = server.log();
        let told = log.contains("the former certificate of the pages is used");
        if told { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_of_no_use_is_named_at_the_start() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let files = Files::new();
    let refusal = async || {
        let mut server = server(&group, &files, free_port());
        assert_eq!(server.end().await.code(), Some(1));
        let log = server.log();
        assert!(log.contains("Failed to start: "), "{log}");
        log
    };

    files.write();
    let other_key = fs::read(files.path("key.pem")).unwrap();
    files.write();
    fs::write(files.path("key.pem"), other_key).unwrap();
    let log = refusal().await;
    assert!(log.contains("cert.pem is of no use"), "{log}");

    fs::write(files.path("cert.pem"), "").unwrap();
    let log = refusal().await;
    assert!(log.contains("no certificate is in it"), "{log}");

    files.write();
    fs::remove_file(files.path("key.pem")).unwrap();
    let log = refusal().await;
    assert!(log.contains("key.pem is of no use"), "{log}");
}
