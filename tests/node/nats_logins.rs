//! Every way to be let in by a NATS server, and servers that are learned on the way.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use stanby::nats::{Connection, Error, Settings};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::nats::{LIMIT, settings};
use crate::pair::{Server, free_port};
use crate::support::nats::{own_server, restart};
use crate::support::wait::wait_until;

fn write(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).expect("a temporary file");
    path
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

async fn open(settings: &Settings) -> Result<Connection, Error> {
    let connection = Connection::open(settings, &TaskTracker::new()).await?;
    connection.flush(LIMIT).await?;
    Ok(connection)
}

/// The state itself may be over before anybody looks.
async fn wait_for_a_disconnect(connection: &Connection) {
    wait_until(LIMIT, async || match connection.counts().disconnects {
        0 => Err("still connected".to_owned()),
        _ => Ok(()),
    })
    .await;
}

async fn assert_refused(settings: &Settings) {
    let refused = open(settings).await.map(drop);
    assert!(
        matches!(refused, Err(Error::Unauthorized { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_password_and_a_token_are_let_in() {
    let Some(nats) = own_server(&["--user", "stan", "--pass", "p ä\"ss"]).await else {
        return;
    };
    let mut with_password = settings(&nats);
    assert_refused(&with_password).await;
    with_password.user = Some("stan".to_owned());
    assert_refused(&with_password).await;
    with_password.password = Some("p ä\"ss".to_owned());
    open(&with_password).await.unwrap();

    let Some(nats) = own_server(&["--auth", "t0ken"]).await else {
        return;
    };
    let mut with_token = settings(&nats);
    assert_refused(&with_token).await;
    with_token.token = Some("t0ken".to_owned());
    open(&with_token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_shown_the_login_of_its_own_url() {
    let config = tempfile::NamedTempFile::new().unwrap();
    let users = "authorization { users = [ { user: colin, password: \"\" } ] }";
    fs::write(&config, users).unwrap();
    let (Some(first), Some(second), Some(third)) = (
        own_server(&["--user", "a", "--pass", "b"]).await,
        own_server(&["--config", shown(config.path())]).await,
        own_server(&["--auth", "t0ken"]).await,
    ) else {
        return;
    };
    let ports = [first.port(), second.port(), third.port()];
    let right = ["nats://a:b@", "nats://colin:@", "t0ken@"];
    // Whether a server lets the command in, which nobody answers then.
    let is_let_in = async |list: &[String]| {
        let mut command = Server::command();
        let list = list.join(",");
        command.args([
            "pub",
            "--nats-server",
            &list,
            "--timeout",
            "200ms",
            "x",
            "y",
        ]);
        let mut command = tokio::process::Command::from(command);
        let said = String::from_utf8(command.output().await.unwrap().stderr).unwrap();
        let is_refused = said.contains("does not accept the credentials");
        assert!(
            is_refused || said.contains("no streaming server answers"),
            "{said}"
        );
        !is_refused
    };

    for server in 0..3 {
        for login in 0..3 {
            let other = format!("{}127.0.0.1:{}", right[(login + 1) % 3], ports[login]);
            let url = format!("{}127.0.0.1:{}", right[login], ports[server]);
            assert_eq!(
                is_let_in(std::slice::from_ref(&url)).await,
                server == login,
                "{url}"
            );
            // Where one of several does not let it in, the others are asked.
            let both = [other, url];
            assert_eq!(is_let_in(&both).await, server == login, "{both:?}");
        }
    }
}

/// The configuration of a server that knows one user by its nkey.
fn nkey_config(pair: &KeyPair) -> String {
    let key = pair.public_key();
    format!("authorization {{ users = [ {{ nkey: {key} }} ] }}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_is_read_anew_for_every_connection() {
    let directory = TempDir::new().unwrap();
    let (first, second) = (KeyPair::new_user(), KeyPair::new_user());
    let config = write(&directory, "nats.conf", &nkey_config(&first));
    let seed = write(&directory, "seed", &format!("{}\n", first.seed().unwrap()));
    let Some(mut nats) = own_server(&["-c", shown(&config)]).await else {
        return;
    };
    let mut settings = settings(&nats);
    assert_refused(&settings).await;
    settings.nkey_seed_file = Some(seed.clone());
    let connection = open(&settings).await.unwrap();

    fs::write(&config, nkey_config(&second)).unwrap();
    fs::write(&seed, second.seed().unwrap()).unwrap();
    restart(&mut nats, &["-c", shown(&config)]).await;
    wait_for_a_disconnect(&connection).await;
    connection.flush(LIMIT).await.unwrap();

    fs::write(&seed, first.seed().unwrap()).unwrap();
    assert_refused(&settings).await;
    fs::write(&seed, "no seed").unwrap();
    let unreadable = open(&settings).await.unwrap_err().to_string();
    assert!(unreadable.contains(shown(&seed)), "{unreadable}");
}

/// Signed by `issuer`; `nats` is what NATS wants to know.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let header = part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let claims = part(&json!({
        "jti": "test",
        "iat": 1_600_000_000,
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "name": "test",
        "nats": nats,
    }));
    let signed = format!("{header}.{claims}");
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_is_let_in_by_a_server_with_accounts() {
    let directory = TempDir::new().unwrap();
    let operator = KeyPair::new_operator();
    let (account, user) = (KeyPair::new_account(), KeyPair::new_user());
    let of_operator = jwt(
        &operator,
        &operator,
        &json!({ "type": "operator", "version": 2 }),
    );
    let unlimited = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1 });
    let of_account = jwt(
        &operator,
        &account,
        &json!({ "type": "account", "version": 2, "limits": unlimited }),
    );
    let of_user = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let of_user = jwt(&account, &user, &of_user);
    let key = account.public_key();
    let config = format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {key}: {of_account} }}\n"
    );
    let config = write(&directory, "nats.conf", &config);
    let Some(nats) = own_server(&["-c", shown(&config)]).await else {
        return;
    };
    let credentials = |pair: &KeyPair| {
        let seed = pair.seed().unwrap();
        format!(
            "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    };

    let mut settings = settings(&nats);
    assert_refused(&settings).await;
    let file = write(&directory, "user.creds", &credentials(&user));
    settings.credentials_file = Some(file.clone());
    open(&settings).await.unwrap();

    // The user's token with somebody else's key.
    fs::write(&file, credentials(&KeyPair::new_user())).unwrap();
    assert_refused(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_accounts_does_not_mind_an_nkey() {
    let directory = TempDir::new().unwrap();
    let Some(nats) = own_server(&[]).await else {
        return;
    };
    let mut settings = settings(&nats);
    let seed = KeyPair::new_user().seed().unwrap();
    settings.nkey_seed_file = Some(write(&directory, "seed", &seed));

    open(&settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_server_goes_another_one_of_its_cluster_takes_the_connection() {
    let route = format!("nats://127.0.0.1:{}", free_port());
    let name = ["--cluster_name", "two"];
    let Some(mut first) = own_server(&[&name[..], &["--cluster", &route]].concat()).await else {
        return;
    };
    let own = format!("nats://127.0.0.1:{}", free_port());
    let flags = ["--cluster", &own, "--routes", &route];
    let Some(_second) = own_server(&[&name[..], &flags].concat()).await else {
        return;
    };
    let connection = open(&settings(&first)).await.unwrap();
    let client = crate::nats::client_of(&first).await;
    wait_until(LIMIT, async || {
        // What the server says of its cluster, it says to both.
        match client.server_info().connect_urls.len() {
            2 => Ok(()),
            other => Err(format!("{other} servers are known")),
        }
    })
    .await;
    connection.flush(LIMIT).await.unwrap();

    first.stop(LIMIT).await.unwrap();
    wait_for_a_disconnect(&connection).await;

    connection.flush(LIMIT).await.unwrap();
    assert!(connection.is_connected());
}
