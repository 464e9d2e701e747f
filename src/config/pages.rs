//! Where the health and monitoring pages are.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::{Args, value_parser};

use super::error::Error;
use super::flags::ServeFlags;
use super::managed_nats::argument;

const ANY_HOST: &str = "0.0.0.0";

/// As the former server had it: a port that the system chooses.
const ANY_PORT: i32 = -1;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Monitoring")]
pub struct PagesFlags {
    /// Port of the health and monitoring pages; 0 for none, -1 for any that is free
    #[arg(
        long,
        env = "STANBY_HTTP_PORT",
        value_name = "PORT",
        default_value_t = 0,
        value_parser = value_parser!(i32).range(i64::from(ANY_PORT)..=65535)
    )]
    pub http_port: i32,

    /// Address of the health and monitoring pages [default: that of the nats-server in the same line or file, else 0.0.0.0]
    #[arg(long, env = "STANBY_HTTP_HOST", value_name = "HOST")]
    pub http_host: Option<String>,

    /// Port of the same pages over HTTPS; 0 for none, -1 for any that is free. Needs a certificate
    #[arg(
        long,
        env = "STANBY_HTTPS_PORT",
        value_name = "PORT",
        default_value_t = 0,
        value_parser = value_parser!(i32).range(i64::from(ANY_PORT)..=65535)
    )]
    pub https_port: i32,

    /// Address of the pages over HTTPS [default: that of --http-host]
    #[arg(long, env = "STANBY_HTTPS_HOST", value_name = "HOST")]
    pub https_host: Option<String>,

    /// Certificate of the pages over HTTPS (PEM), read for every connection
    #[arg(long, env = "STANBY_HTTPS_CERT", value_name = "FILE")]
    pub https_cert: Option<PathBuf>,

    /// Key of the certificate
    #[arg(long, env = "STANBY_HTTPS_KEY", value_name = "FILE")]
    pub https_key: Option<PathBuf>,

    /// Serve the API (/api/v1) to operators who send the token in this file, which is read for every request
    #[arg(long, env = "STANBY_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,

    /// Who may log in to the console (/console): a file with a line each that `stanby console-user` prints, read for every
    /// request [default: whoever has the token of --api-token-file]
    #[arg(long, env = "STANBY_CONSOLE_USERS", value_name = "FILE")]
    pub console_users: Option<PathBuf>,
}

/// Where pages listen. A name is looked up when they begin to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagesAddress {
    /// An IP address, or the name of one of this machine's.
    pub host: String,
    /// 0 is any that is free.
    pub port: u16,
}

/// Pages over HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurePages {
    pub address: PagesAddress,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

impl PagesFlags {
    /// As the former server had them, whose pages were those of the NATS server in it: where that listens, and with its
    /// certificate, unless something else is said.
    pub(super) fn beside(&self, flags: &ServeFlags) -> Self {
        let mut pages = self.clone();
        let filled = |host: &String| !host.is_empty();
        pages.https_host = pages.https_host.filter(filled);
        pages.http_host = pages.http_host.filter(filled);
        pages.http_host = pages.http_host.or_else(|| nats_host(flags));
        if pages.https_port != 0 {
            let file = |name| argument(flags, &[name]).map(PathBuf::from);
            pages.https_cert = pages.https_cert.or_else(|| file("tlscert"));
            pages.https_key = pages.https_key.or_else(|| file("tlskey"));
        }
        pages
    }

    pub(super) fn host(&self) -> String {
        let host = self.http_host.as_deref().unwrap_or(ANY_HOST);
        known(host).to_owned()
    }

    pub(super) fn plain(&self) -> Option<PagesAddress> {
        (self.http_port != 0).then(|| PagesAddress::new(self.host(), self.http_port))
    }

    /// Fails where there are no pages to ask on.
    pub(super) fn token_file(&self) -> Result<Option<PathBuf>, Error> {
        if self.api_token_file.is_some() && self.http_port == 0 && self.https_port == 0 {
            return Err(Error::new(
                "--api-token-file is for the pages; give --http-port or --https-port too, or leave it out",
            ));
        }
        Ok(self.api_token_file.clone())
    }

    /// Fails where there are no pages to look at.
    pub(super) fn console_users(&self) -> Result<Option<PathBuf>, Error> {
        if self.console_users.is_some() && self.http_port == 0 && self.https_port == 0 {
            return Err(Error::new(
                "--console-users is for the pages; give --http-port or --https-port too, or leave it out",
            ));
        }
        Ok(self.console_users.clone())
    }

    pub(super) fn secure_host(&self) -> String {
        let host = self.https_host.as_deref();
        host.map_or_else(|| self.host(), |host| known(host).to_owned())
    }

    pub(super) fn secure(&self) -> Result<Option<SecurePages>, Error> {
        match (self.https_port, &self.https_cert, &self.https_key) {
            (0, None, None) => Ok(None),
            (0, ..) => Err(Error::new(
                "--https-cert and --https-key are for --https-port; give it too, or leave them out",
            )),
            (port, Some(certificate_file), Some(key_file)) => {
                let address = PagesAddress::new(self.secure_host(), port);
                if port != ANY_PORT && self.plain().as_ref() == Some(&address) {
                    return Err(Error::new(format!(
                        "--http-port and --https-port are both {port}; give each its own"
                    )));
                }
                Ok(Some(SecurePages {
                    address,
                    certificate_file: certificate_file.clone(),
                    key_file: key_file.clone(),
                }))
            }
            (_, _, _) => Err(Error::new(
                "--https-port takes a certificate; give --https-cert FILE and --https-key FILE",
            )),
        }
    }
}

/// That name needs no name service.
fn known(host: &str) -> &str {
    match host {
        "localhost" => "127.0.0.1",
        host => host,
    }
}

impl PagesAddress {
    fn new(host: String, port: i32) -> Self {
        let port = u16::try_from(port).unwrap_or(0);
        Self { host, port }
    }

    /// Asks the name service where it is a name.
    pub fn look_up(&self) -> Result<SocketAddr, Error> {
        let Self { host, port } = self;
        if let Ok(address) = host.parse() {
            return Ok(SocketAddr::new(address, *port));
        }
        let failed = |why: &str| {
            Error::new(format!(
                "the monitoring pages cannot listen on {host:?}, which is no address, and no name of one: {why}; write an IP \
                 address (--http-host, or http in the file)"
            ))
        };
        let found = (host.as_str(), *port).to_socket_addrs();
        let found: Vec<SocketAddr> = found.map_err(|error| failed(&error.to_string()))?.collect();
        // As Go does.
        let first = found.iter().find(|it| it.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| failed("it has none"))
    }

    /// Whether it means every address, and is of no use in a link.
    pub fn is_everywhere(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        address.is_ok_and(|address| address.is_unspecified())
    }
}

impl fmt::Display for PagesAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse() {
            Ok(address) => SocketAddr::new(address, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// `None` where nothing is said.
fn nats_host(flags: &ServeFlags) -> Option<String> {
    let key = |names: &[&str]| {
        let mut entries = flags.nats_of_file.iter().rev();
        let found = entries.find(|(key, _)| names.contains(&key.to_ascii_lowercase().as_str()));
        Some(found?.1.as_str()?.to_owned())
    };
    let of_listen = || Some(key(&["listen"])?.rsplit_once(':')?.0.to_owned());
    let host = argument(flags, &["a", "addr", "net"])
        .or_else(|| key(&["host", "net"]))
        .or_else(of_listen)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: PagesFlags,
    }

    fn secure(args: &[&str]) -> Result<Option<SecurePages>, Error> {
        let cli = Cli::parse_from(["serve"].iter().chain(args));
        cli.flags.secure()
    }

    #[test]
    fn pages_over_https_are_where_the_others_are_unless_told_otherwise() {
        let files = ["--https-cert=c.pem", "--https-key=k.pem"];
        let at = |args: &[&str]| {
            let args = [&files, args].concat();
            secure(&args).unwrap().unwrap().address.to_string()
        };
        assert_eq!(at(&["--https-port=8443"]), "0.0.0.0:8443");
        assert_eq!(
            at(&["--https-port=8443", "--http-host=127.0.0.1"]),
            "127.0.0.1:8443"
        );
        assert_eq!(
            at(&[
                "--https-port=8443",
                "--http-host=127.0.0.1",
                "--https-host=::"
            ]),
            "[::]:8443"
        );
        assert_eq!(secure(&[]), Ok(None));
    }

    #[test]
    fn half_of_what_https_takes_is_refused() {
        for (args, expected) in [
            (&["--https-port=8443"][..], "takes a certificate"),
            (
                &["--https-port=8443", "--https-cert=c"],
                "takes a certificate",
            ),
            (&["--https-key=k"], "are for --https-port"),
            (
                &[
                    "--https-port=1",
                    "--http-port=1",
                    "--https-cert=c",
                    "--https-key=k",
                ],
                "both 1",
            ),
        ] {
            let text = secure(args).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
