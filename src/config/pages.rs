//! Where the health and monitoring pages are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::Args;

use super::error::Error;
use super::flags::ServeFlags;
use super::managed_nats::argument;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Monitoring")]
pub struct PagesFlags {
    /// Port of the health and monitoring pages; 0 for none
    #[arg(
        long,
        env = "STANBY_HTTP_PORT",
        value_name = "PORT",
        default_value_t = 0
    )]
    pub http_port: u16,

    /// Address of the health and monitoring pages [default: that of the nats-server in the same line or file, else 0.0.0.0]
    #[arg(long, env = "STANBY_HTTP_HOST", value_name = "IP", value_parser = address_of)]
    pub http_host: Option<IpAddr>,

    /// Port of the same pages over HTTPS; 0 for none. Needs a certificate
    #[arg(
        long,
        env = "STANBY_HTTPS_PORT",
        value_name = "PORT",
        default_value_t = 0
    )]
    pub https_port: u16,

    /// Address of the pages over HTTPS [default: that of --http-host]
    #[arg(long, env = "STANBY_HTTPS_HOST", value_name = "IP", value_parser = address_of)]
    pub https_host: Option<IpAddr>,

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

/// Pages over HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurePages {
    pub address: SocketAddr,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

impl PagesFlags {
    /// As the former server had them, whose pages were those of the NATS server in it: where that listens, and with its
    /// certificate, unless something else is said.
    pub(super) fn beside(&self, flags: &ServeFlags) -> Self {
        let mut pages = self.clone();
        pages.http_host = pages.http_host.or_else(|| nats_host(flags));
        if pages.https_port != 0 {
            let file = |name| argument(flags, &[name]).map(PathBuf::from);
            pages.https_cert = pages.https_cert.or_else(|| file("tlscert"));
            pages.https_key = pages.https_key.or_else(|| file("tlskey"));
        }
        pages
    }

    pub(super) fn host(&self) -> IpAddr {
        self.http_host.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    }

    pub(super) fn plain(&self) -> Option<SocketAddr> {
        (self.http_port != 0).then(|| SocketAddr::new(self.host(), self.http_port))
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

    pub(super) fn secure_host(&self) -> IpAddr {
        self.https_host.unwrap_or(self.host())
    }

    pub(super) fn secure(&self) -> Result<Option<SecurePages>, Error> {
        match (self.https_port, &self.https_cert, &self.https_key) {
            (0, None, None) => Ok(None),
            (0, ..) => Err(Error::new(
                "--https-cert and --https-key are for --https-port; give it too, or leave them out",
            )),
            (port, Some(certificate_file), Some(key_file)) => {
                let address = SocketAddr::new(self.secure_host(), port);
                if self.plain() == Some(address) {
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

/// Where to listen: an address, or the name of this machine or of one of its addresses.
fn address_of(host: &str) -> Result<IpAddr, Error> {
    if host == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let failed = |why: &str| {
        let what =
            format!("{host:?} is no address, and no name of one: {why}; write an IP address");
        Error::new(what)
    };
    let found = (host, 0).to_socket_addrs();
    let found = found.map_err(|error| failed(&error.to_string()))?;
    let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    // As Go does.
    let first = found.iter().find(|it| it.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| failed("it has none"))
}

/// `None` where nothing is said, and where it is the name of a host.
fn nats_host(flags: &ServeFlags) -> Option<IpAddr> {
    let key = |names: &[&str]| {
        let mut entries = flags.nats_of_file.iter().rev();
        let found = entries.find(|(key, _)| names.contains(&key.to_ascii_lowercase().as_str()));
        Some(found?.1.as_str()?.to_owned())
    };
    let of_listen = || Some(key(&["listen"])?.rsplit_once(':')?.0.to_owned());
    let host = argument(flags, &["a", "addr", "net"])
        .or_else(|| key(&["host", "net"]))
        .or_else(of_listen)?;
    match host.trim_start_matches('[').trim_end_matches(']') {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        host => host.parse().ok(),
    }
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
        for (args, told) in [
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
            assert!(text.contains(told), "{text}");
        }
    }
}
