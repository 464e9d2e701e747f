//! The part of a file that is for the NATS server, and where it meets the part for streaming.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use serde_json::{Value, json};
use stanby::config::Sources;
use stanby::config::secret::Secret;

use crate::{DATABASE, Files, sources};

fn of_nats(sources: &Sources) -> Value {
    let managed = sources.config.managed_nats.as_ref();
    serde_json::from_str(&managed.unwrap().file()).unwrap()
}

/// A file without the block `streaming`, read for NATS and for streaming.
fn plain(text: &str) -> Sources {
    let files = Files::new(&[("main.conf", text)]);
    let url = format!("--database-url={DATABASE}");
    files.read("main.conf", &[&url]).unwrap()
}

#[test]
fn a_tls_block_of_nats_in_a_plain_file_has_no_unknown_keys() {
    let tls = "cert_file: c.pem, key_file: k.pem, ca_file: ca.pem, verify: true, timeout: 2, handshake_first: 1";
    let plain = plain(&format!(
        "port: 4333\nTLS {{ {tls}, client_ca: 'ours.pem' }}"
    ));

    assert_eq!(plain.unknown, [""; 0]);
    let expected = json!({ "cert_file": "c.pem", "key_file": "k.pem", "ca_file": "ca.pem", "verify": true,
        "timeout": 2, "handshake_first": 1 });
    assert_eq!(of_nats(&plain)["tls"], expected);
    let trusted = plain.config.nats.tls.ca.unwrap();
    assert_eq!(trusted.to_str(), Some("ours.pem"));
}

#[test]
fn the_pages_of_a_plain_file_show_the_certificate_of_its_tls_block() {
    let tls = "cert_file: c.pem, key_file: k.pem, pinned_certs: ['a']";
    for text in [
        format!("https: '127.0.0.1:8443'\ntls {{ {tls} }}"),
        format!("https: '127.0.0.1:8443'\ntls {{ {tls} }}\nstreaming {{ id: x }}"),
    ] {
        let found = plain(&text);
        assert_eq!(found.unknown, [""; 0], "{text}");
        let pages = found.config.https.clone().unwrap();
        assert_eq!(pages.certificate_file.to_str(), Some("c.pem"), "{text}");
        assert_eq!(pages.key_file.to_str(), Some("k.pem"), "{text}");
        assert_eq!(of_nats(&found)["tls"]["pinned_certs"], json!(["a"]));
    }
}

/// As there, for both.
#[test]
fn keys_may_be_written_in_any_case() {
    let found = sources(&format!(
        "Port: 4333\nMax_Payload: 2MB\nAuthorization {{ User: app, Password: geheim }}\n\
         mappings {{ a: b, A: c }}\nSTREAMING {{ Cluster_ID: shop, SQL {{ Source: '{DATABASE}' }} }}"
    ));
    let config = &found.config;
    assert_eq!(config.cluster_id, "shop");
    assert_eq!(config.managed_nats.as_ref().unwrap().port(), 4333);
    assert_eq!(config.nats.user.as_deref(), Some("app"));
    let file = of_nats(&found);
    assert_eq!(file["max_payload"], json!(2 << 20));
    // Names are not keys.
    assert_eq!(file["mappings"], json!({ "a": "b", "A": "c" }));
}

/// It logged in as the one user that the file has for NATS, and the streaming block's came after that.
#[test]
fn the_one_user_of_a_file_takes_precedence_over_the_login_of_its_streaming_block() {
    let text = |authorization: &str, more: &str| {
        format!(
            "authorization {{ {authorization} }}\n\
             streaming {{ username: stan, password: other, {more} sql {{ source: '{DATABASE}' }} }}"
        )
    };
    for more in ["", "ns: 'nats://h:4222',"] {
        let found = sources(&text("user: app, password: geheim", more));
        let nats = &found.config.nats;
        assert_eq!(nats.user.as_deref(), Some("app"));
        assert_eq!(nats.password.as_ref().map(Secret::expose), Some("geheim"));
        let told = found.notes.to_string();
        assert!(
            told.contains("the login of the streaming block ("),
            "{told}"
        );
        assert!(!told.contains("geheim"), "{told}");
        let found = sources(&text("token: geheim", more));
        assert_eq!(found.config.nats.user, None);
        assert!(found.config.nats.token.is_some());
    }
    // Of several users, it is one; and a hash is of no use to log in.
    for authorization in [
        "users: [{ user: stan, password: other }, { user: app, password: geheim }]",
        "user: app, password: $2a$11$abcdefghijklmnopqrstuv",
        "timeout: 2",
    ] {
        let found = sources(&text(authorization, ""));
        assert_eq!(found.config.nats.user.as_deref(), Some("stan"));
        assert!(found.notes.is_empty(), "{}", found.notes);
    }
}

#[test]
fn the_names_of_an_account_server_are_keys_of_nats_server() {
    let found = sources(&format!(
        "account_resolver: MEMORY\nno_sublist_cache: true\n\
         streaming {{ sql {{ source: '{DATABASE}' }} }}"
    ));
    let expected =
        json!({ "account_resolver": "MEMORY", "no_sublist_cache": true, "http": "127.0.0.1:-1" });
    assert_eq!(of_nats(&found), expected);
    assert!(found.notes.is_empty(), "{}", found.notes);
}

#[test]
fn a_file_in_another_encoding_is_read_but_for_our_own_format() {
    let files = Files::new(&[]);
    let text = b"# f\xfcr alle\ncid: shop\ncredentials: 'f\xfcr.creds'\n";
    std::fs::write(files.path("main.conf"), text).unwrap();
    let url = format!("--database-url={DATABASE}");
    let config = files.read("main.conf", &[&url]).unwrap().config;
    assert_eq!(config.cluster_id, "shop");
    assert_eq!(config.nats.credentials, Some("f\u{fc}r.creds".into()));
    // One that mixes two: what is UTF-8 stays.
    let text = b"# f\xfcr alle\ncid: shop\ncredentials: 'f\xc3\xbcr.creds'\n";
    std::fs::write(files.path("mixed.conf"), text).unwrap();
    let config = files.read("mixed.conf", &[&url]).unwrap().config;
    assert_eq!(config.nats.credentials, Some("f\u{fc}r.creds".into()));

    std::fs::write(files.path("main.toml"), b"# f\xfcr alle\n").unwrap();
    let refused = files.read("main.toml", &[&url]).unwrap_err();
    assert!(refused.to_string().contains("not UTF-8"), "{refused}");
}

#[test]
fn the_pages_may_be_bound_by_the_name_of_a_host() {
    let http = |host: &str| {
        let found = sources(&format!(
            "http: '{host}'\nstreaming {{ sql {{ source: '{DATABASE}' }} }}"
        ));
        found.config.http.unwrap().to_string()
    };
    assert_eq!(http("localhost:8222"), "127.0.0.1:8222");
    assert_eq!(http(":8222"), "0.0.0.0:8222");
    assert_eq!(http("[::1]:8222"), "[::1]:8222");
    // This machine's own, which it finds without asking anybody.
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let is_known = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 0)).is_ok();
    if is_known {
        assert!(http(&format!("{name}:8222")).ends_with(":8222"));
    }
}
