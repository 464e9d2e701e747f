//! What this server shows a NATS server to be let in: made again for every connection, from the files as they
//! are then.

use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;

use super::error::Error;
use super::servers::Address;
use super::settings::Settings;
use super::wire::Hello;

const CREDENTIALS: &str = "the credentials file";
const NKEY_SEED: &str = "the nkey seed file";

/// Holds no seed: that is forgotten once it has signed.
#[derive(Default)]
pub(super) struct Login {
    jwt: Option<String>,
    nkey: Option<String>,
    signature: Option<String>,
}

impl Login {
    /// `nonce`: what the server wants signed. A server without one asks for no signature, and none is made; nor is the
    /// credentials file read, which may be missing there.
    pub(super) async fn prepare(settings: &Settings, nonce: Option<&str>) -> Result<Self, Error> {
        let mut login = Self::default();
        if let Some(file) = &settings.nkey_seed_file {
            let text = read(file, NKEY_SEED).await?;
            let pair = key_pair(text.trim(), NKEY_SEED, file)?;
            if let Some(nonce) = nonce {
                login.nkey = Some(pair.public_key());
                login.signature = Some(signature(&pair, nonce, NKEY_SEED, file)?);
            }
        }
        if let (Some(file), Some(nonce)) = (&settings.credentials_file, nonce) {
            let text = read(file, CREDENTIALS).await?;
            let [jwt, seed] = credentials(&text).ok_or_else(|| {
                unreadable(CREDENTIALS, file, "it does not hold a JWT and a seed")
            })?;
            let pair = key_pair(seed, CREDENTIALS, file)?;
            login.jwt = Some(jwt.to_owned());
            login.nkey = None;
            login.signature = Some(signature(&pair, nonce, CREDENTIALS, file)?);
        }
        Ok(login)
    }

    pub(super) fn hello<'a>(
        &'a self,
        settings: &'a Settings,
        server: &Address,
        tls_required: bool,
    ) -> Hello<'a> {
        let (user, password, token) = match settings.login_of(server) {
            Some(own) => (&own.user, &own.password, &own.token),
            None => (&settings.user, &settings.password, &settings.token),
        };
        // A user may have none, and is then known by an empty one.
        let empty = user.is_some().then_some("");
        Hello {
            name: &settings.name,
            tls_required,
            user: user.as_deref(),
            password: password.as_deref().or(empty),
            token: token.as_deref(),
            jwt: self.jwt.as_deref(),
            nkey: self.nkey.as_deref(),
            signature: self.signature.as_deref(),
        }
    }
}

async fn read(file: &Path, what: &'static str) -> Result<String, Error> {
    tokio::fs::read_to_string(file)
        .await
        .map_err(|source| Error::UnreadableFile {
            what,
            path: file.display().to_string(),
            source,
        })
}

/// The two entries of a credentials file. Each stands alone between two lines of dashes.
fn credentials(text: &str) -> Option<[&str; 2]> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    let is_rule = |line: &str| line.len() > 6 && line.starts_with("---") && line.ends_with("---");
    let mut entries = lines.windows(3).filter_map(|three| match three {
        [begin, entry, end] if is_rule(begin) && !is_rule(entry) && is_rule(end) => Some(*entry),
        _ => None,
    });
    Some([entries.next()?, entries.next()?])
}

fn key_pair(seed: &str, what: &'static str, file: &Path) -> Result<KeyPair, Error> {
    // The reason that the library gives might quote the seed.
    KeyPair::from_seed(seed).map_err(|_| unreadable(what, file, "the seed in it is not an nkey"))
}

fn signature(
    pair: &KeyPair,
    nonce: &str,
    what: &'static str,
    file: &Path,
) -> Result<String, Error> {
    let signature = pair
        .sign(nonce.as_bytes())
        .map_err(|_| unreadable(what, file, "the key in it cannot sign"))?;
    Ok(BASE64URL_NOPAD.encode(&signature))
}

fn unreadable(what: &'static str, file: &Path, why: &str) -> Error {
    Error::UnreadableFile {
        what,
        path: file.display().to_string(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_holds_a_token_and_a_seed_between_rules() {
        let file = "-----BEGIN NATS USER JWT-----\r\neyJ0.e30.sig_-\r\n------END NATS USER JWT------\r\n\r\n\
            ************ IMPORTANT ************\nKeep it.\n\n\
            -----BEGIN USER NKEY SEED-----\nSUAB\n------END USER NKEY SEED------\n\n*****\n";
        assert_eq!(credentials(file), Some(["eyJ0.e30.sig_-", "SUAB"]));
        assert_eq!(
            credentials("-----BEGIN X-----\njwt\n-----END X-----\n"),
            None
        );
        assert_eq!(credentials(""), None);
    }

    #[test]
    fn an_error_about_a_seed_does_not_quote_it() {
        let error = key_pair("SUHUNTER2", NKEY_SEED, Path::new("/seed")).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(
            said.contains("/seed") && !said.contains("HUNTER2"),
            "{said}"
        );
    }
}
