//! What psql takes, a server takes, and nothing else: certificates made with the openssl program, as Postgres' manual
//! does it and otherwise, each with every `sslmode`, tried by psql and by both of our drivers.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::postgres_tls::Encrypted;
use crate::support::tools;

/// In a directory: `server.crt` and `server.key` are what Postgres shows, `root.crt` is what `sslrootcert` names.
/// `leaf` makes a certificate of version 1, as `openssl x509 -req` of the manual does, with what `-extfile` names.
const HELP: &str = "set -e
req() { openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \"$@\" 2>/dev/null; }
v1_root() { req -keyout $1.key -out $1.csr -subj /CN=$1; openssl x509 -req -in $1.csr -signkey $1.key -days 30 -out $1.crt; }
root() { req -x509 -keyout $1.key -out $1.crt -subj /CN=$1 -days 30 \"${@:2}\"; }
leaf() { req -keyout $1.key -out $1.csr -subj \"/CN=$3\"; openssl x509 -req -in $1.csr -CA $2.crt -CAkey $2.key \\
    -CAcreateserial -days 30 -out $1.crt \"${@:4}\"; }
ext() { printf '%b' \"$1\" > ext; }
authority='basicConstraints=critical,CA:TRUE\\nkeyUsage=critical,keyCertSign,cRLSign\\n'
";

/// Name, and how it is made.
const CASES: &[(&str, &str)] = &[
    ("the manual's self-signed one", "root server -x509 -days 365; cp server.crt root.crt"),
    ("the manual's authority and leaf of version 1", "root root; leaf server root db.example"),
    (
        "the manual's intermediate authority",
        "root root; ext $authority; leaf middle root middle -extfile ext; leaf server middle db.example
         cat middle.crt >> server.crt",
    ),
    ("an authority of version 1", "v1_root root; leaf server root db.example"),
    ("a self-signed one of version 1", "v1_root server; cp server.crt root.crt"),
    (
        "a self-signed one that is no authority",
        "root server -addext basicConstraints=critical,CA:FALSE; cp server.crt root.crt",
    ),
    (
        "a self-signed one of another key",
        "root server; root other; cp other.crt root.crt",
    ),
    (
        "an intermediate authority alone is trusted",
        "root top; ext $authority; leaf middle top middle -extfile ext; leaf server middle db.example
         cp middle.crt root.crt",
    ),
    (
        "an intermediate that is no authority",
        "root root; leaf middle root middle; leaf server middle db.example; cat middle.crt >> server.crt",
    ),
    ("it has expired", "root root; leaf server root db.example -days -1"),
    (
        "its authority has expired",
        "root root; leaf server root db.example
         openssl x509 -in root.crt -signkey root.key -days -1 -out expired.crt; cp expired.crt root.crt",
    ),
    (
        "another name beside the common name",
        "root root; ext 'subjectAltName=DNS:other.example'; leaf server root db.example -extfile ext",
    ),
    (
        "an address beside the common name",
        "root root; ext 'subjectAltName=IP:ADDRESS'; leaf server root db.example -extfile ext",
    ),
    (
        "an address as a name",
        "root root; ext 'subjectAltName=DNS:ADDRESS'; leaf server root none.example -extfile ext",
    ),
    ("an address as the common name", "root root; leaf server root ADDRESS"),
    ("a star as the common name", "root root; leaf server root '*.example'"),
    (
        "a star that stands for two labels",
        "root root; ext 'subjectAltName=DNS:*.com,DNS:*'; leaf server root db.example -extfile ext",
    ),
    (
        "made for clients",
        "root root; ext 'extendedKeyUsage=clientAuth'; leaf server root db.example -extfile ext",
    ),
    (
        "made for anything",
        "root root; ext 'extendedKeyUsage=anyExtendedKeyUsage'; leaf server root db.example -extfile ext",
    ),
    (
        "an authority below one that allows none",
        "root root -addext basicConstraints=critical,CA:TRUE,pathlen:0; ext $authority
         leaf middle root middle -extfile ext; leaf server middle db.example; cat middle.crt >> server.crt",
    ),
    (
        "an authority for this domain",
        "root root -addext 'nameConstraints=critical,permitted;DNS:example'
         ext 'subjectAltName=DNS:db.example'; leaf server root db.example -extfile ext",
    ),
    (
        "an authority for another domain",
        "root root -addext 'nameConstraints=critical,permitted;DNS:else'
         ext 'subjectAltName=DNS:db.example'; leaf server root db.example -extfile ext",
    ),
    (
        "a critical extension that nobody knows",
        "root root; ext '1.2.3.4=critical,ASN1:UTF8String:x'; leaf server root db.example -extfile ext",
    ),
    (
        "keys of RSA",
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.crt -subj /CN=db.example 2>/dev/null
         cp server.crt root.crt",
    ),
];

/// The host that is asked for, and the mode; with a file of authorities, but for the first.
const TRIES: [(&str, &str); 6] = [
    ("db.example", "require"),
    ("db.example", "prefer"),
    ("db.example", "verify-ca"),
    ("db.example", "verify-full"),
    ("ADDRESS", "verify-full"),
    ("server", "verify-full"),
];

fn make(directory: &Path, how: &str, address: &str) {
    let script = format!("{HELP}\n{}", how.replace("ADDRESS", address));
    let made = Command::new("bash")
        .args(["-c", &script])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{how}: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}

#[expect(
    clippy::unwrap_in_result,
    reason = "only what psql says of the URL is a result"
)]
fn taken_by_psql(psql: &Path, url: &str) -> Result<(), String> {
    let mut command = Command::new(psql);
    command.args(["--no-psqlrc", "--quiet", "-c", "SELECT 1", url]);
    // What lies in somebody's home is not meant.
    command
        .env_clear()
        .env("HOME", "/nowhere")
        .env("LC_ALL", "C");
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_psql_takes_are_taken_and_no_others() {
    let (Some(psql), Some(encrypted)) = (tools::of_postgres("psql"), Encrypted::start().await)
    else {
        return;
    };
    let (mut differ, mut taken, mut refused) = (Vec::new(), 0, 0);
    for (what, how) in CASES {
        let directory = TempDir::new().unwrap();
        make(directory.path(), how, encrypted.address());
        let file = |name: &str| -> PathBuf { directory.path().join(name) };
        let shown = fs::read(file("server.crt")).unwrap();
        encrypted
            .show(&shown, &fs::read(file("server.key")).unwrap())
            .await;
        let root = file("root.crt");
        for (host, mode) in TRIES {
            let host = host.replace("ADDRESS", encrypted.address());
            for trusted in [Some(&root), None] {
                // Without a file of authorities a mode that wants one is refused by psql, and public ones are asked here.
                if trusted.is_none() && mode.starts_with("verify") {
                    continue;
                }
                let trusted = trusted.map(|root| format!("&sslrootcert={}", root.display()));
                let url = encrypted.url_of(
                    &host,
                    "by_password",
                    &format!("&sslmode={mode}{}", trusted.unwrap_or_default()),
                );
                let by_psql = taken_by_psql(&psql, &url);
                let by_us = encrypted.reached_by(&url).await;
                if by_psql.is_ok() != by_us.is_ok() {
                    differ.push(format!(
                        "{what}, {url}\n  psql: {by_psql:?}\n  here: {by_us:?}"
                    ));
                }
                if by_psql.is_ok() {
                    taken += 1;
                } else {
                    refused += 1;
                }
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(
        taken > 80 && refused > 50,
        "{taken} taken, {refused} refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_of_version_1_is_shown_as_psql_shows_it() {
    let (Some(psql), Some(encrypted)) = (tools::of_postgres("psql"), Encrypted::start().await)
    else {
        return;
    };
    let directory = TempDir::new().unwrap();
    let how = "root root; leaf server root db.example; leaf client root by_certificate; leaf other root somebody";
    make(directory.path(), how, encrypted.address());
    let file = |name: &str| directory.path().join(name).display().to_string();
    encrypted.put("ca.pem", &fs::read(file("root.crt")).unwrap());
    let shown = fs::read(file("server.crt")).unwrap();
    encrypted
        .show(&shown, &fs::read(file("server.key")).unwrap())
        .await;
    for (certificate, key, expected) in [
        ("client", "client", true),
        ("other", "other", false),
        ("client", "other", false),
    ] {
        let files = format!(
            "&sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
            file("root.crt"),
            file(&format!("{certificate}.crt")),
            file(&format!("{key}.key")),
        );
        let url = encrypted.url_of("db.example", "by_certificate", &files);
        let by_psql = taken_by_psql(&psql, &url);
        assert_eq!(by_psql.is_ok(), expected, "{by_psql:?}");
        if certificate == key {
            let by_us = encrypted.reached_by(&url).await;
            assert_eq!(by_us.is_ok(), expected, "{by_us:?}");
        } else {
            let error = stanby::config::DatabaseUrl::parse(&url)
                .unwrap()
                .for_session();
            let error = error.err().unwrap().to_string();
            assert!(
                error.contains("sslcert and sslkey do not fit together"),
                "{error}"
            );
        }
    }
}

/// While an authority's key is being replaced both stand in the file, under one name. psql tries the first alone unless the
/// certificate says which it is; Go tries both.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_authorities_of_one_name_the_one_that_signed_counts() {
    let Some(encrypted) = Encrypted::start().await else {
        return;
    };
    let directory = TempDir::new().unwrap();
    let how = "root root; cp root.crt first.crt; root root; leaf server root db.example; cat first.crt root.crt > both";
    make(directory.path(), how, encrypted.address());
    let file = |name: &str| directory.path().join(name);
    let shown = fs::read(file("server.crt")).unwrap();
    let key = fs::read(file("server.key")).unwrap();
    encrypted.show(&shown, &key).await;
    for (root, is_taken) in [("both", true), ("root.crt", true), ("first.crt", false)] {
        let root = file(root).display().to_string();
        let files = format!("&sslmode=verify-full&sslrootcert={root}");
        let url = encrypted.url_of("db.example", "by_password", &files);
        assert_eq!(encrypted.reached_by(&url).await.is_ok(), is_taken, "{root}");
    }
}
