//! Opens a session where the database URL leads: of several hosts, or addresses of one name, at the one that takes writes.
//! All are tried beside each other, so that one that hangs costs nothing; passwords after each other.

use std::pin::Pin;

use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::database::{
    DatabaseError, DatabaseErrorKind, DatabaseUrl, Endpoint, InvalidDatabaseUrl, Login, is_of_tls,
};
use crate::happy_eyeballs::first;

/// Nobody drives the connection yet.
pub type Opened = (
    Client,
    Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>,
);

/// Looking a name up and connecting take the URL's `connect_timeout` at most, each. Notes in the URL where it was let in.
///
/// # Errors
/// What each place says, where none lets this server in and, of several, takes writes.
pub async fn connect(
    url: &DatabaseUrl,
    adjust: &(dyn Fn(&mut Config) + Sync),
) -> Result<Opened, DatabaseError> {
    let is_choice = url.endpoints().len() > 1;
    let attempts = url.endpoints().iter().map(|endpoint| -> Attempt<'_> {
        Box::pin(async move {
            let url = url.at(endpoint);
            let addresses = addresses(&url, endpoint).await?;
            let is_choice = is_choice || addresses.len() > 1;
            let attempts = addresses.into_iter().map(|endpoint| -> Attempt<'_> {
                let url = url.at(&endpoint);
                Box::pin(async move { at(&url, &endpoint, is_choice, adjust).await })
            });
            first(attempts.collect()).await.map_err(together)
        })
    });
    first(attempts.collect()).await.map_err(together)
}

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Opened, DatabaseError>> + Send + 'a>>;

/// Waiting helps as long as it does with one of them.
fn together(failures: Vec<DatabaseError>) -> DatabaseError {
    let is_passing = |failure: &DatabaseError| failure.kind == DatabaseErrorKind::Unavailable;
    let kind = match failures.first() {
        Some(first) if !failures.iter().any(is_passing) => first.kind,
        Some(_) | None => DatabaseErrorKind::Unavailable,
    };
    let mut texts: Vec<String> = failures.into_iter().map(|failure| failure.text).collect();
    texts.dedup();
    DatabaseError {
        kind,
        text: texts.join("; "),
    }
}

async fn addresses(url: &DatabaseUrl, endpoint: &Endpoint) -> Result<Vec<Endpoint>, DatabaseError> {
    let Some(name) = endpoint.name() else {
        return Ok(vec![endpoint.clone()]);
    };
    let found = timeout(url.connect_timeout(), lookup_host(name)).await;
    let found = found.map_err(|_| DatabaseError::of_timeout(url, "its name"))?;
    let found = found.map_err(|error| DatabaseError::of_io(url, &error))?;
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for address in found {
        let endpoint = endpoint.with_address(address.ip());
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    Ok(match endpoints.len() {
        0 | 1 => vec![endpoint.clone()],
        _ => endpoints,
    })
}

async fn at(
    url: &DatabaseUrl,
    endpoint: &Endpoint,
    is_choice: bool,
    adjust: &(dyn Fn(&mut Config) + Sync),
) -> Result<Opened, DatabaseError> {
    let mut last = None;
    for password in url.passwords(endpoint).map_err(|error| refused(&error))? {
        let mut login = Login {
            endpoint: endpoint.clone(),
            password,
            is_plain: false,
        };
        let mut opened = open(url, &login, adjust).await?;
        if let Err(error) = &opened
            && url.may_be_plain(endpoint)
            && (is_of_tls(error) || code_of(error) == Some(NOT_LET_IN))
        {
            login.is_plain = true;
            // What was said first is what has to be mended.
            if let Ok(plain) = open(url, &login, adjust).await? {
                opened = Ok(plain);
            }
        }
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let failure = DatabaseError::of_session(url, &error);
                if matches!(code_of(&error), Some(WRONG_PASSWORD | NOT_LET_IN)) {
                    last = Some(failure);
                    continue;
                }
                return Err(failure);
            }
        };
        if is_choice && opened.1.parameter("in_hot_standby") == Some("on") {
            return Err(DatabaseError {
                kind: DatabaseErrorKind::Unavailable,
                text: format!(
                    "Postgres at {endpoint} is a replica; the database URL must lead to the primary"
                ),
            });
        }
        url.found(login);
        return Ok(opened);
    }
    Err(last.unwrap_or_else(|| DatabaseError::of_timeout(url, "connecting")))
}

async fn open(
    url: &DatabaseUrl,
    login: &Login,
    adjust: &(dyn Fn(&mut Config) + Sync),
) -> Result<Result<Opened, tokio_postgres::Error>, DatabaseError> {
    let (mut config, tls) = url.for_session_at(login).map_err(|error| refused(&error))?;
    adjust(&mut config);
    let connected = timeout(url.connect_timeout(), config.connect(tls)).await;
    connected.map_err(|_| DatabaseError::of_timeout(url, "connecting"))
}

fn refused(error: &InvalidDatabaseUrl) -> DatabaseError {
    DatabaseError {
        kind: DatabaseErrorKind::Refused,
        text: error.to_string(),
    }
}

const WRONG_PASSWORD: &str = "28P01";
const NOT_LET_IN: &str = "28000";

fn code_of(error: &tokio_postgres::Error) -> Option<&str> {
    error.code().map(tokio_postgres::error::SqlState::code)
}
