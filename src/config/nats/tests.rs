use super::*;

fn flags(servers: &str) -> NatsFlags {
    NatsFlags {
        nats_server: Some(servers.into()),
        nats_user: None,
        nats_password: None,
        nats_token: None,
        nats_credentials: None,
        nats_nkey: None,
        nats_tls: false,
        nats_tls_ca: None,
        nats_tls_cert: None,
        nats_tls_key: None,
        nats_tls_insecure: false,
        nats_tls_server_name: None,
        nats_tls_first: false,
        cluster_id: "test-cluster".to_owned(),
    }
}

#[test]
fn a_single_url_needs_scheme_and_port() {
    for bad in [
        "nats://127.0.0.1",
        "127.0.0.1:5223",
        "127.0.0.1",
        "localhost:4222",
        " ",
    ] {
        let error = flags(bad).nats().unwrap_err().to_string();
        assert!(error.starts_with("malformed url: "), "{bad:?}: {error}");
    }
    assert_eq!(flags("nats://h:1").nats().unwrap().servers, ["nats://h:1"]);
    assert_eq!(
        flags("nats://[::1]:4222").nats().unwrap().servers,
        ["nats://[::1]:4222"]
    );
}

#[test]
fn any_scheme_but_tls_means_nats_as_it_did_in_the_former_server() {
    for scheme in ["http", "tcp", "https", "NATS"] {
        let nats = flags(&format!("{scheme}://127.0.0.1:4222")).nats();
        assert_eq!(nats.unwrap().servers, ["nats://127.0.0.1:4222"]);
    }
    let list = flags("tcp://a:1,tls://b:2").nats().unwrap();
    assert_eq!(list.servers, ["nats://a:1", "tls://b:2"]);
}

#[test]
fn what_is_empty_is_as_good_as_not_given() {
    let mut flags = flags("");
    flags.nats_user = Some(String::new());
    flags.nats_password = Some("".into());
    flags.nats_token = Some("".into());
    let nats = flags.nats().unwrap();
    assert_eq!(nats.servers, [DEFAULT_SERVER]);
    assert!(nats.has_no_login());
}

#[test]
fn web_sockets_and_paths_are_refused() {
    for bad in [
        "ws://h:1",
        "nats://h:1/x",
        "nats://h:1?a=b",
        "nats://:4222",
        "nats://h:99999",
    ] {
        let error = flags(bad).nats().unwrap_err().to_string();
        assert!(error.starts_with("malformed url: "), "{bad:?}: {error}");
    }
}

#[test]
fn a_list_may_leave_out_scheme_and_port() {
    let config = flags("nats://a:1, b:2,c").nats().unwrap();

    assert_eq!(
        config.servers,
        ["nats://a:1", "nats://b:2", "nats://c:4222"]
    );
}

#[test]
fn user_info_becomes_the_login_and_leaves_the_url() {
    let config = flags("nats://u:p%40ss@h:4222,nats://u:p%40ss@i:4222")
        .nats()
        .unwrap();
    assert_eq!(config.servers, ["nats://h:4222", "nats://i:4222"]);
    assert_eq!(config.user.as_deref(), Some("u"));
    assert_eq!(config.password.as_ref().map(Secret::expose), Some("p@ss"));
    assert!(!format!("{config:?}").contains("p@ss"));

    let config = flags("nats://t0ken@h").nats().unwrap();
    assert_eq!(config.token.as_ref().map(Secret::expose), Some("t0ken"));
    assert_eq!(config.servers, ["nats://h:4222"]);
}

#[test]
fn a_server_uses_the_login_in_a_url_before_that_of_the_flags_and_a_command_that_of_the_flags() {
    let mut both = flags("nats://u:p@h:4222,nats://v:q@i:4222");
    both.nats_user = Some("alice".to_owned());
    both.nats_password = Some("x".into());
    let of_flags = both.nats().unwrap();
    assert_eq!(of_flags.user.as_deref(), Some("alice"));
    assert_eq!(of_flags.logins.len(), 0);
    let of_urls = both.server_nats().unwrap();
    assert_eq!(of_urls.user.as_deref(), Some("u"));
    assert_eq!(of_urls.logins[0].0, "nats://i:4222");
    assert_eq!(of_urls.logins.len(), 1);

    both.nats_server = Some("nats://h:4222,nats://v:q@i:4222".into());
    let some = both.server_nats().unwrap();
    assert_eq!(some.user.as_deref(), Some("alice"));
    assert_eq!(some.logins[0].1.user.as_deref(), Some("v"));

    both.nats_server = Some("nats://h:4222".into());
    both.nats_token = Some("t".into());
    let both = both.nats().unwrap();
    assert_eq!(both.user.as_deref(), Some("alice"));
    assert_eq!(both.token.as_ref().map(Secret::expose), Some("t"));

    let mut alone = flags("nats://h:4222");
    alone.nats_password = Some("x".into());
    assert_eq!(
        alone.nats().unwrap_err().to_string(),
        "--nats-password needs --nats-user beside it"
    );
}

#[test]
fn each_server_may_have_a_login_of_its_own() {
    let list = "nats://h:1,nats://a:b@i:1,tls://c:@j:1,t0ken@[::1]:1,nats://a:b@k:1";
    let config = flags(list).nats().unwrap();
    let login = |user: Option<&str>, password: Option<&str>, token: Option<&str>| NatsLogin {
        user: user.map(str::to_owned),
        password: password.map(Secret::from),
        token: token.map(Secret::from),
    };
    assert_eq!((config.user.as_deref(), config.token), (Some("a"), None));
    assert_eq!(
        config.logins,
        [
            ("tls://j:1".to_owned(), login(Some("c"), Some(""), None)),
            (
                "nats://[::1]:1".to_owned(),
                login(None, None, Some("t0ken"))
            ),
        ]
    );

    let mut flags = flags(list);
    flags.nats_token = Some("t".into());
    let config = flags.nats().unwrap();
    assert_eq!((config.user, config.logins), (None, vec![]));
    let config = flags.server_nats().unwrap();
    assert_eq!((config.user, config.token), (None, Some("t".into())));
    assert_eq!(config.logins.len(), 4);
}

#[test]
fn user_info_is_read_as_clients_of_nats_read_it() {
    for (url, user, password, token) in [
        ("nats://colin:@h", Some("colin"), Some(""), None),
        ("colin:@h", Some("colin"), Some(""), None),
        ("nats://colin@h", None, None, Some("colin")),
        ("nats://:pw@h", Some(""), Some("pw"), None),
        ("nats://a:b:c@h", Some("a"), Some("b:c"), None),
        ("nats://a:b@c@h", Some("a"), Some("b@c"), None),
        ("nats://a%3Ab:%2F%25@h", Some("a:b"), Some("/%"), None),
        ("NATS://A:B@h", Some("A"), Some("B"), None),
        ("tls://a:b@[::1]:4443", Some("a"), Some("b"), None),
        ("nats://@h:1", None, None, None),
        ("nats://:@h:1", None, None, None),
    ] {
        let config = flags(url).nats().unwrap();
        assert_eq!(config.user.as_deref(), user, "{url}");
        let shown = |secret: &Option<Secret>| secret.as_ref().map(|it| it.expose().to_owned());
        assert_eq!(shown(&config.password).as_deref(), password, "{url}");
        assert_eq!(shown(&config.token).as_deref(), token, "{url}");
    }
    for (url, part) in [
        ("ws://h:1", "WebSocket"),
        ("wss://a:hunter2@h:1", "WebSocket"),
        ("nats://a:hunter2/x@h:1", "%2F"),
        ("nats://a:hunter2%@h:1", "%25"),
        ("nats://a:hunter2%zz@h:1", "%25"),
        ("nats://a:%ff@h:1", "UTF-8"),
    ] {
        let error = flags(url).nats().unwrap_err().to_string();
        assert!(
            error.contains(part) && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn an_error_does_not_quote_the_password() {
    for bad in [
        "nats://u:hunter2@h:99999",
        "ws://u:hunter2@h:1",
        "u:hunter2@h:1/x",
    ] {
        let error = flags(bad).nats().unwrap_err().to_string();
        assert!(
            error.starts_with("malformed url: ") && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn a_cluster_id_is_part_of_subjects() {
    for bad in ["", "a..b", ".a", "a.", "a b", "*", "a.>", "a\n"] {
        let mut flags = flags("nats://h:1");
        flags.cluster_id = bad.to_owned();
        let error = flags
            .subjects(&Prefixes::default())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("cluster ID "), "{error}");
    }
    let acks = |prefix: &str| Prefixes {
        ack: Some(prefix.to_owned()),
        ..Prefixes::default()
    };
    assert!(flags("").subjects(&acks("a.>")).is_err());
    let subjects = flags("").subjects(&acks("acks.a")).unwrap();
    assert_eq!(subjects.ack_prefix(), "acks.a");
}
