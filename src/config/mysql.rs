//! Where a former server's `MySQL` is: a `mysql://` URL, or the source as that server's own driver takes it
//! (`user:password@tcp(host:3306)/database`). It opens no connection.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::error::Error;
use super::secret::Secret;

const PORT: u16 = 3306;

const SCHEME: &str = "mysql://";

/// Shows neither the password nor what stands behind a question mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MySqlUrl {
    pub address: Address,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    pub tls: Tls,
    /// Authorities in place of the public ones.
    pub ca: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// As the `--ssl-mode` of `MySQL`'s own programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

impl MySqlUrl {
    /// Whether it is one of `MySQL` at all.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// What it says of a mistake holds no password.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let Some((server, database)) = rest.rsplit_once('/') else {
            return Err(wrong("it names no database"));
        };
        let (login, server) = server.rsplit_once('@').unwrap_or(("", server));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let is_of_driver = server.is_empty() || server.ends_with(')') || server == "tcp";
        let decoded = |part: &str| {
            if is_of_driver {
                return Ok(part.to_owned());
            }
            let text = percent_decode_str(part).decode_utf8();
            let text = text.map_err(|_| wrong("a part of it is not UTF-8"))?;
            Ok(text.into_owned())
        };
        let mut url = Self {
            address: if is_of_driver {
                address_of_driver(server)?
            } else {
                tcp_address(server)?
            },
            user: decoded(user)?,
            password: password.map(decoded).transpose()?.map(Secret::from),
            database: decoded(database)?,
            tls: if is_of_driver {
                Tls::Disabled
            } else {
                Tls::Preferred
            },
            ca: None,
        };
        if url.user.is_empty() || url.database.is_empty() {
            return Err(wrong("it needs a user and a database"));
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            url.set(name, value, is_of_driver)?;
        }
        Ok(url)
    }

    fn set(&mut self, name: &str, value: &str, is_of_driver: bool) -> Result<(), Error> {
        match (name, is_of_driver) {
            ("ssl-mode" | "sslmode", false) => {
                let mode = value.to_ascii_lowercase().replace('-', "_");
                self.tls = match mode.as_str() {
                    "disabled" => Tls::Disabled,
                    "preferred" => Tls::Preferred,
                    "required" => Tls::Required,
                    "verify_ca" => Tls::VerifyCa,
                    "verify_identity" => Tls::VerifyIdentity,
                    _ => {
                        return Err(wrong(
                            "its ssl-mode must be disabled, preferred, required, verify_ca or verify_identity",
                        ));
                    }
                };
            }
            ("ssl-ca", false) => {
                let path = percent_decode_str(value).decode_utf8();
                let path = path.map_err(|_| wrong("its ssl-ca is not UTF-8"))?;
                self.ca = Some(path.into_owned().into());
            }
            ("tls", true) => {
                self.tls = match value {
                    "false" => Tls::Disabled,
                    "preferred" => Tls::Preferred,
                    "skip-verify" => Tls::Required,
                    "true" => Tls::VerifyIdentity,
                    _ => {
                        return Err(wrong(
                            "its tls names what only the former program knew; write it as a URL, with \
                             ?ssl-mode=verify_identity&ssl-ca=FILE",
                        ));
                    }
                };
            }
            // What else it configures that driver with is about its own timeouts and types.
            (_, true) => {}
            (_, false) => {
                return Err(wrong(&format!(
                    "{name} is not known there; ssl-mode and ssl-ca are"
                )));
            }
        }
        Ok(())
    }
}

fn wrong(why: &str) -> Error {
    Error::new(format!(
        "the URL of MySQL: {why}; write it as mysql://user:password@host:3306/database (with % and two digits for special \
         characters of the password)"
    ))
}

fn port(text: &str) -> Result<u16, Error> {
    text.parse().map_err(|_| wrong("its port is not a number"))
}

/// `host`, `host:port`, `[address]:port`.
fn tcp_address(server: &str) -> Result<Address, Error> {
    let (host, after) = match server.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .ok_or_else(|| wrong("a bracket is open"))?,
        None => server
            .find(':')
            .map_or((server, ""), |at| server.split_at(at)),
    };
    if host.is_empty() {
        return Err(wrong("it names no host"));
    }
    Ok(Address::Tcp {
        host: host.to_owned(),
        port: match after.strip_prefix(':') {
            Some(text) => port(text)?,
            None if after.is_empty() => PORT,
            None => return Err(wrong("its host cannot be read")),
        },
    })
}

/// Nothing, `tcp`, `tcp(host:port)`, `unix(path)`.
fn address_of_driver(server: &str) -> Result<Address, Error> {
    let (network, address) = server
        .strip_suffix(')')
        .and_then(|it| it.split_once('('))
        .unwrap_or((server, ""));
    match (network, address) {
        ("" | "tcp", "") => tcp_address("127.0.0.1"),
        ("tcp", address) => tcp_address(address),
        ("unix", path) if !path.is_empty() => Ok(Address::Unix(path.into())),
        _ => Err(wrong("its network is neither tcp nor unix")),
    }
}

/// Without the password.
impl fmt::Display for MySqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, database, .. } = self;
        write!(f, "{SCHEME}{user}@{}/{database}", self.address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix({})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_and_the_source_of_the_former_server_say_the_same() {
        for (text, shown, password, tls) in [
            (
                "mysql://stan:s%40e@db:3307/st%61n",
                "mysql://stan@db:3307/stan",
                Some("s@e"),
                Tls::Preferred,
            ),
            (
                "mysql://stan@[::1]/stan?ssl-mode=VERIFY_CA&ssl-ca=/etc/ca.pem",
                "mysql://stan@[::1]:3306/stan",
                None,
                Tls::VerifyCa,
            ),
            (
                "stan:p@ss/w:d@tcp(db:3306)/stan?readTimeout=5s&writeTimeout=5s",
                "mysql://stan@db:3306/stan",
                Some("p@ss/w:d"),
                Tls::Disabled,
            ),
            (
                "mysql://stan:%41@tcp(db)/stan?tls=true",
                "mysql://stan@db:3306/stan",
                Some("%41"),
                Tls::VerifyIdentity,
            ),
            (
                "stan:x@/stan",
                "mysql://stan@127.0.0.1:3306/stan",
                Some("x"),
                Tls::Disabled,
            ),
            (
                "stan@unix(/run/mysqld.sock)/stan",
                "mysql://stan@unix(/run/mysqld.sock)/stan",
                None,
                Tls::Disabled,
            ),
        ] {
            let url = MySqlUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.password.as_ref().map(Secret::expose), password);
            assert_eq!(url.tls, tls);
            assert!(!format!("{url:?}").contains("s@e"), "{url:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_without_the_password() {
        for text in [
            "mysql://stan:geheim@db",
            "mysql://stan:geheim@db:x/stan",
            "mysql://stan:geheim@db/stan?ssl-mode=maybe",
            "mysql://stan:geheim@db/stan?charset=latin1",
            "mysql://db/stan",
            "stan:geheim@tcp(db:3306)/stan?tls=ours",
            "stan:geheim@pipe(x)/stan",
        ] {
            let text = MySqlUrl::parse(text).unwrap_err().to_string();
            assert!(!text.contains("geheim"), "{text}");
            assert!(text.contains("mysql://user:password@"), "{text}");
        }
    }
}
