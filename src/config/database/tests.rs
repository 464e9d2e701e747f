use super::*;

struct NoFiles;

impl service::Files for NoFiles {
    fn service(&self, name: &str) -> Result<Vec<(String, String)>, InvalidDatabaseUrl> {
        match name {
            "here" => Ok(vec![("host".to_owned(), "served".to_owned())]),
            _ => Err(format!("no section [{name}]").into()),
        }
    }

    fn default_passwords(&self) -> Option<PathBuf> {
        None
    }

    fn default_root(&self) -> Option<PathBuf> {
        None
    }
}

fn parse_with(
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<DatabaseUrl, InvalidDatabaseUrl> {
    text::parse(text, environment, &NoFiles)
}

fn parse(text: &str) -> Result<DatabaseUrl, InvalidDatabaseUrl> {
    parse_with(text, |name| {
        (name == "PGUSER").then(|| "os-user".to_owned())
    })
}

#[test]
fn a_url_and_a_keyword_string_mean_the_same() {
    let url =
        parse("postgres://al%40ice:p%3Aw%20d@db.example:6543/app?sslmode=verify-full").unwrap();
    let keywords = parse(
        r"user=al@ice password='p:w d' host = db.example port=6543 dbname='app' sslmode=verify-full",
    )
    .unwrap();

    assert_eq!(url, keywords);
    assert_eq!(url.password.as_deref(), Some("p:w d"));
    assert_eq!(url.ssl, SslMode::VerifyFull);
    assert_eq!(url.address(), "db.example:6543");
}

#[test]
fn a_unix_socket_directory_can_be_named_in_three_ways() {
    for text in [
        "postgres:///app?host=/run/pg&port=5433",
        "postgresql://%2Frun%2Fpg:5433/app",
        "host=/run/pg port=5433 dbname=app",
    ] {
        let url = parse(text).unwrap();
        assert_eq!(url.address(), "/run/pg/.s.PGSQL.5433", "{text}");
        assert_eq!(url.database(), "app", "{text}");
    }
}

#[test]
fn what_is_left_open_comes_from_the_environment_and_then_from_defaults() {
    let url = parse("postgres://localhost").unwrap();
    assert_eq!(url.to_string(), "postgres://os-user@localhost:5432/os-user");

    let of_environment = |name: &str| match name {
        "PGHOST" => Some("a,b".to_owned()),
        "PGHOSTADDR" => Some("10.0.0.1,10.0.0.2".to_owned()),
        "PGPORT" => Some("6543".to_owned()),
        "PGCONNECT_TIMEOUT" => Some("7".to_owned()),
        "PGDATABASE" | "PGPASSWORD" => Some(format!("from {name}")),
        _ => None,
    };
    let url = parse_with("user=u sslmode=verify-full", of_environment).unwrap();
    assert_eq!((url.user(), url.database()), ("u", "from PGDATABASE"));
    assert_eq!(url.password.as_deref(), Some("from PGPASSWORD"));
    assert_eq!(url.address(), "a:6543 (10.0.0.1),b:6543 (10.0.0.2)");
    assert_eq!(url.connect_timeout(), Duration::from_secs(7));
    let url = parse_with("service=here user=u", |_| None).unwrap();
    assert_eq!(url.address(), "served:5432");
}

#[test]
fn what_the_url_says_of_tls_goes_before_the_environment() {
    let environment = |name: &str| match name {
        "PGSSLMODE" => Some("require".to_owned()),
        "PGSSLROOTCERT" => Some("/of/environment.pem".to_owned()),
        _ => None,
    };
    let url = parse_with("host=h user=u", environment).unwrap();
    assert_eq!(url.ssl, SslMode::VerifyCa);
    assert_eq!(url.roots, Roots::File("/of/environment.pem".into()));

    let named = "host=h user=u sslmode=verify-full sslrootcert=/of/url.pem";
    let url = parse_with(named, environment).unwrap();
    assert_eq!(url.ssl, SslMode::VerifyFull);
    assert_eq!(url.roots, Roots::File("/of/url.pem".into()));
}

#[test]
fn a_password_file_is_read_where_nothing_else_names_a_password() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    std::fs::write(&file, "db.example:5432:d:u:geheim\n").unwrap();

    let url = DatabaseUrl::parse(&format!("postgres://u@db.example/d?passfile={path}")).unwrap();
    let passwords = |url: &DatabaseUrl| url.passwords(&url.endpoints[0]).unwrap();
    assert_eq!(passwords(&url), [Some("geheim".to_owned())]);
    // As it is at each connection.
    std::fs::write(&file, "*:*:*:*:old\n*:*:*:*:new\n").unwrap();
    assert_eq!(
        passwords(&url),
        ["old", "new"].map(|it| Some(it.to_owned()))
    );
    std::fs::write(&file, "db.example:5432:d:u:geheim\n").unwrap();
    let url = DatabaseUrl::parse(&format!("postgres://u:p@db.example/d?passfile={path}")).unwrap();
    assert_eq!(passwords(&url), [Some("p".to_owned())]);
    for (text, part) in [
        (
            format!("postgres://other@db.example/d?passfile={path}"),
            "db.example:5432:d:other:PASSWORD",
        ),
        (
            "postgres://u@h/d?passfile=/no/such/file".to_owned(),
            "/no/such/file",
        ),
    ] {
        let error = DatabaseUrl::parse(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn the_password_is_never_shown() {
    for text in [
        "postgres://u:geheim@h/d",
        "host=h user=u password=geheim dbname=d",
    ] {
        let url = parse(text).unwrap();
        assert!(!format!("{url} {url:?} {:?}", url.warnings()).contains("geheim"));
        assert_eq!(url.to_string(), "postgres://u:***@h:5432/d");
    }
    for text in [
        "postgres://u:geheim@h:port/d",
        "postgres://u:geheim@h/d?ssl mode=no&x=1",
        "host=h password=geheim sslmode=maybe",
        "host=h password='geheim",
        "host=h password geheim",
        "u:geheim@h/d",
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(!error.contains("geheim"), "{text}: {error}");
    }
}

#[test]
fn how_a_connection_is_protected_can_be_shown() {
    for (text, shown) in [
        (
            "postgres://u:geheim@h/d",
            "postgres://u:***@h:5432/d?sslmode=verify-full",
        ),
        (
            "host=h user=u dbname=d sslmode=verify-full sslrootcert=/ca sslcert=/c sslkey=/k",
            "postgres://u@h:5432/d?sslmode=verify-full&sslrootcert=/ca&sslcert=/c&sslkey=/k",
        ),
        (
            "postgres://u@/d?host=/run",
            "postgres://u@/d?host=/run&port=5432",
        ),
    ] {
        assert_eq!(parse(text).unwrap().with_tls_settings(), shown);
    }
}

#[test]
fn what_cannot_work_is_refused_with_the_remedy() {
    for (text, part) in [
        ("", "is empty"),
        ("mysql://h/d", "postgres://"),
        ("host=a,b,c hostaddr=10.0.0.1,10.0.0.2", "3 and 2 places"),
        ("host=a,b port=1,2,3", "3 ports for 2 hosts"),
        ("host=a hostaddr=b", "IP address"),
        ("host=h gssencmode=require", "GSS"),
        ("host=h sslcrl=/c", "sslcrl"),
        (
            "host=h sslnegotiation=direct sslmode=prefer",
            "sslmode=require",
        ),
        ("host=h sslmode=require sslrootcert=system", "verify-full"),
        ("host=h channel_binding=maybe", "channel_binding"),
        ("host=h target_session_attrs=master", "target_session_attrs"),
        // All of it at once.
        ("host=h:0 port=x hots=y sslmode=no", "also: setting hots"),
        ("postgres://h:0/d", "port"),
        ("postgres://h:70000/d", "port"),
        ("host=h sslmode=maybe", "verify-full"),
        ("host=h hots=x", "hots"),
        ("host=h service=x", "[x]"),
        ("host=h sslcert=/c", "sslkey"),
        ("host=h connect_timeout=soon", "connect_timeout"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn several_hosts_are_meant_as_libpq_means_them() {
    for (text, address) in [
        ("postgres://u@a,b:6432/d", "a:5432,b:6432"),
        (
            "postgres://u@a:1,[::1]:2,10.0.0.1/d",
            "a:1,[::1]:2,10.0.0.1:5432",
        ),
        ("host=a,b,c port=6432 user=u", "a:6432,b:6432,c:6432"),
        ("host=a,/run/pg port=,6 user=u", "a:5432,/run/pg/.s.PGSQL.6"),
        ("postgres://u@/d?host=a,b&port=1,2", "a:1,b:2"),
        (
            "hostaddr=10.0.0.1,10.0.0.2 user=u",
            "10.0.0.1:5432,10.0.0.2:5432",
        ),
        ("host=db hostaddr=10.0.0.1 user=u", "db:5432 (10.0.0.1)"),
    ] {
        let url = parse(text).unwrap();
        assert_eq!(url.address(), address, "{text}");
    }
}

#[test]
fn what_has_no_effect_here_is_named_and_what_has_is_not() {
    let quiet = "host=localhost target_session_attrs=read-write channel_binding=prefer gssencmode=prefer \
                 sslnegotiation=postgres connect_timeout=3 load_balance_hosts=disable";
    assert_eq!(parse(quiet).unwrap().warnings(), [""; 0]);
    for setting in [
        "target_session_attrs=standby",
        "load_balance_hosts=random",
        "options=-csearch_path=x",
        "binary_parameters=yes",
        "search_path=x",
        "statement_timeout=1000",
        "pool_max_conns=5",
        "keepalives_idle=5",
        "application_name=x",
        "requirepeer=postgres",
        "default_query_exec_mode=simple_protocol",
        "sslsni=0",
    ] {
        let url = parse(&format!("host=localhost user=u {setting}")).unwrap();
        let name = setting.split('=').next().unwrap();
        let [warning] = url.warnings() else {
            panic!("{setting}: {:?}", url.warnings());
        };
        assert!(warning.contains(name), "{warning}");
    }
}

#[test]
fn timeouts_of_the_go_driver_are_ignored_with_a_warning() {
    let url = parse("host=localhost readTimeout=5s writeTimeout=5s sslmode=disable").unwrap();
    assert_eq!(url.warnings().len(), 2, "{:?}", url.warnings());
    assert!(url.warnings()[0].contains("readTimeout"));
}

#[test]
fn an_unverified_connection_to_another_machine_is_warned_about() {
    for (text, warned) in [
        ("postgres://db.example/d?sslmode=disable", true),
        ("postgres://db.example/d?sslmode=prefer", true),
        ("postgres://db.example/d?sslmode=require", true),
        ("postgres://db.example/d?sslmode=verify-full", false),
        ("postgres://127.0.0.1/d", false),
        ("postgres://[::1]/d", false),
        ("postgres://localhost/d", false),
        ("postgres:///d?host=/run", false),
    ] {
        assert_eq!(
            !parse(text).unwrap().warnings().is_empty(),
            warned,
            "{text}"
        );
    }
}

#[test]
fn another_machine_has_to_prove_who_it_is_unless_told_otherwise() {
    for (text, mode) in [
        ("postgres://db.example/d", SslMode::VerifyFull),
        ("postgres://10.0.0.1/d", SslMode::VerifyFull),
        ("postgres://db.example/d?sslmode=prefer", SslMode::Prefer),
        ("postgres://localhost/d", SslMode::Prefer),
        ("postgres:///d?host=/run", SslMode::Prefer),
    ] {
        assert_eq!(parse(text).unwrap().ssl, mode, "{text}");
    }
}

#[test]
fn a_root_certificate_that_cannot_be_read_is_named() {
    let url = parse("host=h sslmode=verify-full sslrootcert=/no/such/file.pem").unwrap();
    let error = url.for_session().err().unwrap().to_string();
    assert!(error.contains("/no/such/file.pem"), "{error}");
}
