//! Log lines to syslog: the machine's own, or another one over UDP. A line that cannot be sent within a second is lost.
//! Used by the thread of the log alone.

use std::io;
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tracing::Level;

use crate::log_queue::Sink;

const SOCKET: &str = "/dev/log";

/// Longer lines are cut: what does not fit into a datagram would be lost.
const LINE_BYTES_MAX: usize = 8192;

/// The facility `daemon`.
const FACILITY: u8 = 3 << 3;

const TAG: &str = "stanby";

/// A daemon that is busy for longer than this may hang.
const SEND_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Syslog {
    socket: Socket,
    host: Option<String>,
}

#[derive(Debug)]
enum Socket {
    Local(UnixDatagram),
    Remote(UdpSocket),
}

impl Syslog {
    pub(super) fn local() -> io::Result<Self> {
        Self::at(SOCKET)
    }

    fn at(path: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // Fails where nobody listens: said at the start rather than never.
        socket.connect(path)?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Self {
            socket: Socket::Local(socket),
            host: None,
        })
    }

    /// `address` is host and port.
    pub(super) fn remote(address: &str) -> io::Result<Self> {
        let to = address.to_socket_addrs()?.next();
        let to = to.ok_or_else(|| io::Error::other("the host has no address"))?;
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        let host = nix::unistd::gethostname().ok();
        let host = host.map(|host| host.to_string_lossy().into_owned());
        Ok(Self {
            socket: Socket::Remote(socket),
            host: Some(host.unwrap_or_else(|| "-".to_owned())),
        })
    }

    fn send(&self, severity: u8, line: &[u8]) -> io::Result<()> {
        let priority = FACILITY | severity;
        let process = std::process::id();
        let now = jiff::Zoned::now();
        let head = match &self.host {
            None => format!(
                "<{priority}>{} {TAG}[{process}]: ",
                now.strftime("%b %e %H:%M:%S")
            ),
            Some(host) => {
                let time = now.strftime("%Y-%m-%dT%H:%M:%S%:z");
                format!("<{priority}>{time} {host} {TAG}[{process}]: ")
            }
        };
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let mut datagram = head.into_bytes();
        datagram.extend_from_slice(text);
        datagram.truncate(LINE_BYTES_MAX);
        match &self.socket {
            Socket::Local(socket) => {
                let sent = socket.send(&datagram);
                if sent.is_err() {
                    // A daemon that was started anew has a new socket at the old place.
                    socket.connect(SOCKET)?;
                    socket.send(&datagram)?;
                }
            }
            Socket::Remote(socket) => drop(socket.send(&datagram)?),
        }
        Ok(())
    }
}

impl Sink for Syslog {
    fn write(&mut self, level: Level, line: &[u8]) -> io::Result<()> {
        self.send(severity(level), line)
    }
}

fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn a_line_reaches_a_local_syslog_with_its_severity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let syslog = Syslog::at(path.to_str().unwrap()).unwrap();

        syslog.send(severity(Level::WARN), b"a line\n").unwrap();
        syslog
            .send(severity(Level::ERROR), &vec![b'x'; 20_000])
            .unwrap();

        let mut bytes = vec![0; 20_000];
        let length = daemon.recv(&mut bytes).unwrap();
        let line = received(&bytes[..length]);
        assert!(line.starts_with("<28>"), "{line}");
        assert!(
            line.ends_with(&format!(" stanby[{}]: a line", std::process::id())),
            "{line}"
        );
        assert_eq!(daemon.recv(&mut bytes).unwrap(), LINE_BYTES_MAX);
    }

    #[test]
    fn a_line_reaches_a_remote_syslog_with_time_and_host() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let syslog = Syslog::remote(&server.local_addr().unwrap().to_string()).unwrap();

        syslog.send(severity(Level::INFO), b"a line\n").unwrap();

        let mut bytes = [0; 500];
        let length = server.recv(&mut bytes).unwrap();
        let line = received(&bytes[..length]);
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let time = words[0].strip_prefix("<30>").unwrap();
        time.parse::<jiff::Timestamp>().unwrap();
        assert_eq!(words[2], format!("stanby[{}]:", std::process::id()));
        assert_eq!(words[3], "a line");
    }

    #[test]
    fn a_syslog_that_is_not_there_is_an_error() {
        assert!(Syslog::at("/nowhere/log").is_err());
        assert!(Syslog::remote("no-port").is_err());
    }
}
