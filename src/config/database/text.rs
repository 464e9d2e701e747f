//! The two spellings of a database URL to one [`DatabaseUrl`]. Pure: the environment is an argument.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::service::Files;
use super::{DatabaseUrl, InvalidDatabaseUrl, settings};

pub(super) type Settings = BTreeMap<String, String>;

pub(super) fn parse(
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
    files: &impl Files,
) -> Result<DatabaseUrl, InvalidDatabaseUrl> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty; write postgres://user:password@host:5432/database".into());
    }
    let rest = text
        .strip_prefix("postgres://")
        .or_else(|| text.strip_prefix("postgresql://"));
    let settings = match rest {
        Some(rest) => from_url(rest)?,
        None if text.contains('=') && !text.contains("://") => from_keywords(text)?,
        None => {
            return Err(
                "it is neither a postgres://user@host/database URL nor a list of key=value settings"
                    .into(),
            );
        }
    };
    settings::build(settings, environment, files)
}

// `[user[:password]@][host[:port]][/database][?key=value&…]`
fn from_url(rest: &str) -> Result<Settings, InvalidDatabaseUrl> {
    let mut settings = Settings::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));

    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    put(&mut settings, "user", &decode(user, "user")?);
    put(&mut settings, "password", &decode(password, "password")?);

    let places = place.split(',').map(|place| {
        match place
            .strip_prefix('[')
            .and_then(|place| place.split_once(']'))
        {
            Some((address, port)) => (address, port.strip_prefix(':').unwrap_or(port)),
            None => place.rsplit_once(':').unwrap_or((place, "")),
        }
    });
    let (hosts, ports): (Vec<_>, Vec<_>) = places.unzip();
    put(&mut settings, "host", &decode(&hosts.join(","), "host")?);
    if ports.iter().any(|port| !port.is_empty()) {
        put(&mut settings, "port", &ports.join(","));
    }
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

fn decode(text: &str, what: &str) -> Result<String, InvalidDatabaseUrl> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| {
        format!("the {what} is not UTF-8 after percent-decoding; write % itself as %25").into()
    })
}

// `key = value`, separated by white space; a value may stand in single quotes, with backslash as escape.
fn from_keywords(text: &str) -> Result<Settings, InvalidDatabaseUrl> {
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
                    .into(),
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
