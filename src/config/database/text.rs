//! The two spellings of a database URL to one [`DatabaseUrl`]. Pure: the environment is an argument.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::{ClientIdentity, DEFAULT_CONNECT_TIMEOUT, DEFAULT_PORT, DatabaseUrl, Host, SslMode};

type Settings = BTreeMap<String, String>;

/// Settings of libpq that the server makes itself on each connection.
const OURS: [&str; 9] = [
    "application_name",
    "client_encoding",
    "fallback_application_name",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// Settings of NATS Streaming's Go driver: here every call has a limit anyway.
const GO_DRIVER: [&str; 2] = ["readTimeout", "writeTimeout"];

pub(super) fn parse(
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<DatabaseUrl, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty; write postgres://user:password@host:5432/database".to_owned());
    }
    let rest = text
        .strip_prefix("postgres://")
        .or_else(|| text.strip_prefix("postgresql://"));
    let settings = match rest {
        Some(rest) => from_url(rest)?,
        None if text.contains('=') && !text.contains("://") => from_keywords(text)?,
        None => {
            return Err(
                "it is neither a postgres://user@host/database URL nor a list of \
                        key=value settings"
                    .to_owned(),
            );
        }
    };
    build(settings, environment)
}

// `[user[:password]@][host[:port]][/database][?key=value&…]`
fn from_url(rest: &str) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));

    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    put(&mut settings, "user", &decode(user, "user")?);
    put(&mut settings, "password", &decode(password, "password")?);

    let (host, port) = match place
        .strip_prefix('[')
        .and_then(|place| place.split_once(']'))
    {
        Some((address, port)) => (address, port.strip_prefix(':').unwrap_or(port)),
        None => place.rsplit_once(':').unwrap_or((place, "")),
    };
    put(&mut settings, "host", &decode(host, "host")?);
    put(&mut settings, "port", port);
    put(&mut settings, "dbname", &decode(database, "database")?);

    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or("a setting after the ? has no value; write ?key=value&key=value")?;
        let key = decode(key, "setting's name")?;
        let value = decode(value, &key)?;
        put(&mut settings, &key, &value);
    }
    Ok(settings)
}

fn decode(text: &str, what: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| {
        format!("the {what} is not UTF-8 after percent-decoding; write % itself as %25")
    })
}

// `key = value`, separated by white space; a value may stand in single quotes, with backslash as escape.
fn from_keywords(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        // The text itself is not quoted in errors: what is out of place may be the password.
        let (key, after) = rest
            .split_once('=')
            .ok_or("a setting has no value; write key=value and quote values with spaces: 'a b'")?;
        let key = key.trim_end();
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(
                "a setting's name is not a plain word; write key=value and quote values \
                        with spaces: 'a b'"
                    .to_owned(),
            );
        }
        let (value, after) = keyword_value(after.trim_start())
            .ok_or_else(|| format!("the value of {key} has no closing quote"))?;
        put(&mut settings, key, &value);
        rest = after.trim_start();
    }
    Ok(settings)
}

fn keyword_value(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => value.push(characters.next()?.1),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            c if !quoted && c.is_whitespace() => return Some((value, &text[at..])),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

// An empty value means "not set", as in libpq.
fn put(settings: &mut Settings, key: &str, value: &str) {
    if !value.is_empty() {
        settings.insert(key.to_owned(), value.to_owned());
    }
}

fn build(
    mut settings: Settings,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<DatabaseUrl, String> {
    let mut warnings = Vec::new();
    let host = host(settings.remove("host").or(settings.remove("hostaddr")))?;
    let port = port(settings.remove("port"))?;
    let user = settings
        .remove("user")
        .or_else(|| environment("PGUSER"))
        .or_else(operating_system_user)
        .ok_or("it names no user; write postgres://user@host/database")?;
    let password = settings
        .remove("password")
        .or_else(|| environment("PGPASSWORD"));
    let database = settings
        .remove("dbname")
        .or_else(|| environment("PGDATABASE"))
        .unwrap_or(user.clone());
    let password_file = settings
        .remove("passfile")
        .or_else(|| environment("PGPASSFILE"))
        .map(PathBuf::from);
    let mut of_tls = |name: &str, variable: &str| {
        let named = settings.remove(name);
        named.or_else(|| environment(variable))
    };
    let ssl = match of_tls("sslmode", "PGSSLMODE") {
        Some(mode) => ssl_mode(&mode)?,
        None if is_elsewhere(&host) => SslMode::VerifyFull,
        None => SslMode::Prefer,
    };
    let root_certificates = of_tls("sslrootcert", "PGSSLROOTCERT")
        .filter(|path| path != "system")
        .map(PathBuf::from);
    let client_identity =
        client_identity(of_tls("sslcert", "PGSSLCERT"), of_tls("sslkey", "PGSSLKEY"))?;
    let connect_timeout = connect_timeout(settings.remove("connect_timeout"))?;

    // libpq: a root certificate turns "encrypted" into "encrypted and verified".
    let ssl = match (ssl, &root_certificates) {
        (SslMode::Require, Some(_)) => SslMode::VerifyCa,
        _ => ssl,
    };
    if is_elsewhere(&host) && ssl != SslMode::VerifyFull && ssl != SslMode::VerifyCa {
        warnings.push(format!(
            "the database is on another machine and sslmode is {}: nothing proves that it is \
             the right one; use sslmode=verify-full",
            ssl.name()
        ));
    }
    for key in settings.into_keys() {
        if GO_DRIVER.contains(&key.as_str()) {
            warnings.push(format!(
                "{key} has no effect: every database call has a limit already"
            ));
        } else if OURS.contains(&key.as_str()) {
            warnings.push(format!("{key} has no effect: the server sets it itself"));
        } else {
            return Err(format!(
                "setting {key} is unknown or cannot be used here; use host, port, user, password, \
                 dbname, sslmode, sslrootcert, sslcert, sslkey, passfile, connect_timeout"
            ));
        }
    }
    Ok(DatabaseUrl {
        host,
        port,
        user,
        password,
        password_file,
        database,
        ssl,
        root_certificates,
        client_identity,
        connect_timeout,
        warnings,
    })
}

fn host(text: Option<String>) -> Result<Host, String> {
    let Some(text) = text else {
        return Ok(Host::Tcp("localhost".to_owned()));
    };
    if text.contains(',') {
        return Err(
            "it names several hosts; name one host, the primary's own (after a failover \
                    a list may lead to the old one)"
                .to_owned(),
        );
    }
    Ok(if text.starts_with('/') {
        Host::Unix(text)
    } else {
        Host::Tcp(text)
    })
}

fn port(text: Option<String>) -> Result<u16, String> {
    let Some(text) = text else {
        return Ok(DEFAULT_PORT);
    };
    let port = text.parse().ok().filter(|&port| port != 0);
    // Not quoted: an unescaped @ or : in a password ends up here.
    port.ok_or_else(|| {
        "the port is not a number from 1 to 65535 (write @ : / in a password as %40 %3A %2F)"
            .to_owned()
    })
}

fn ssl_mode(text: &str) -> Result<SslMode, String> {
    match text {
        "disable" => Ok(SslMode::Disable),
        "prefer" | "allow" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        _ => Err(
            "sslmode (or PGSSLMODE) must be one of disable, prefer, require, verify-ca, verify-full".to_owned(),
        ),
    }
}

fn client_identity(
    certificate: Option<String>,
    key: Option<String>,
) -> Result<Option<ClientIdentity>, String> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(ClientIdentity {
            certificate: certificate.into(),
            key: key.into(),
        })),
        (Some(_), None) => Err("sslcert needs sslkey beside it".to_owned()),
        (None, Some(_)) => Err("sslkey needs sslcert beside it".to_owned()),
    }
}

fn connect_timeout(text: Option<String>) -> Result<Duration, String> {
    let Some(text) = text else {
        return Ok(DEFAULT_CONNECT_TIMEOUT);
    };
    match text.parse::<u32>() {
        Ok(0) => Ok(DEFAULT_CONNECT_TIMEOUT),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => Err("connect_timeout must be a whole number of seconds".to_owned()),
    }
}

fn operating_system_user() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    user.ok().flatten().map(|user| user.name)
}

pub(super) fn is_elsewhere(host: &Host) -> bool {
    match host {
        Host::Unix(_) => false,
        Host::Tcp(name) => match name.parse::<IpAddr>() {
            Ok(address) => !address.is_loopback(),
            Err(_) => name != "localhost",
        },
    }
}
