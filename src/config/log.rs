//! Where the log goes, and how much of it.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::error::Error;
use super::flags::{LogFormat, ServeFlags};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: LogLevel,
    pub target: LogTarget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    StandardError,
    File {
        path: PathBuf,
        /// Bytes after which a new file is begun.
        limit: Option<u64>,
    },
    /// The machine's own.
    Syslog,
    RemoteSyslog(SyslogServer),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogServer {
    /// Host and port.
    Udp(String),
    Tcp(String),
    /// A socket on this machine.
    Unix(PathBuf),
}

impl fmt::Display for SyslogServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Info,
    Debug,
    Trace,
}

pub(super) fn log(flags: &ServeFlags) -> Result<LogConfig, Error> {
    Ok(LogConfig {
        format: flags.log_format,
        level: match (flags.trace, flags.debug) {
            (true, _) => LogLevel::Trace,
            (false, true) => LogLevel::Debug,
            (false, false) => LogLevel::Info,
        },
        target: log_target(flags)?,
    })
}

fn log_target(flags: &ServeFlags) -> Result<LogTarget, Error> {
    let remote = flags.remote_syslog.as_deref().filter(|url| !url.is_empty());
    match (&flags.log, flags.syslog, remote) {
        (None, false, None) => Ok(LogTarget::StandardError),
        // As NATS: a file takes precedence over syslog, and a server's address says that syslog is meant.
        (Some(path), _, _) => Ok(LogTarget::File {
            path: path.clone(),
            limit: u64::try_from(flags.log_size_limit.0)
                .ok()
                .filter(|&limit| limit > 0),
        }),
        (None, true, None) => Ok(LogTarget::Syslog),
        (None, _, Some(url)) => remote_syslog(url),
    }
}

fn remote_syslog(url: &str) -> Result<LogTarget, Error> {
    const PORT: u16 = 514;
    let wrong = || {
        Error::new(format!(
            "{url:?} is not the address of a syslog server; write it like udp://host:514, tcp://host:514 or unix:///path"
        ))
    };
    let parsed = url::Url::parse(url).map_err(|_| wrong())?;
    let host = parsed.host_str().filter(|host| !host.is_empty());
    let address = host.map(|host| format!("{host}:{}", parsed.port().unwrap_or(PORT)));
    let server = match (parsed.scheme(), address) {
        ("udp", Some(address)) => SyslogServer::Udp(address),
        ("tcp", Some(address)) => SyslogServer::Tcp(address),
        ("unix", None) if parsed.path().starts_with('/') => {
            let path = percent_decode_str(parsed.path()).collect::<Vec<u8>>();
            SyslogServer::Unix(OsString::from_vec(path).into())
        }
        _ => return Err(wrong()),
    };
    Ok(LogTarget::RemoteSyslog(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_syslog_socket_may_have_any_characters() {
        let target = remote_syslog("unix:///run/my log/gr\u{f6}\u{df}e").unwrap();
        let path = PathBuf::from("/run/my log/gr\u{f6}\u{df}e");
        assert_eq!(target, LogTarget::RemoteSyslog(SyslogServer::Unix(path)));
    }
}
