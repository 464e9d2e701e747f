//! Log lines to syslog: the machine's own, or another one over UDP, TCP or a socket. A line that cannot be sent within a
//! second is lost. Used by the thread of the log alone.

use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use tracing::Level;

use crate::config::log::SyslogServer;
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
    Local(UnixDatagram, PathBuf),
    Remote(UdpSocket),
    Stream(Stream, SyslogServer),
}

/// Lines end with a line end there.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn open(server: &SyslogServer) -> io::Result<Self> {
        let address = match server {
            SyslogServer::Tcp(address) | SyslogServer::Udp(address) => address,
            SyslogServer::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(SEND_LIMIT))?;
                return Ok(Self::Unix(stream));
            }
        };
        let mut last = io::Error::other("the host has no address");
        for to in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&to, SEND_LIMIT) {
                Ok(stream) => {
                    stream.set_write_timeout(Some(SEND_LIMIT))?;
                    return Ok(Self::Tcp(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(line),
            Self::Unix(stream) => stream.write_all(line),
        }
    }
}

impl Syslog {
    pub(super) fn local() -> io::Result<Self> {
        Self::at(SOCKET.as_ref())
    }

    pub(super) fn of(server: &SyslogServer) -> io::Result<Self> {
        let host = match server {
            SyslogServer::Udp(address) => return Self::remote(address),
            SyslogServer::Tcp(_) => Some(own_host()),
            SyslogServer::Unix(path) => match Self::at(path) {
                // It takes a stream.
                Err(error) if error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => None,
                opened => return opened,
            },
        };
        Ok(Self {
            socket: Socket::Stream(Stream::open(server)?, server.clone()),
            host,
        })
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // Fails where nobody listens: said at the start rather than never.
        socket.connect(path)?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Self {
            socket: Socket::Local(socket, path.to_owned()),
            host: None,
        })
    }

    /// `address` is host and port.
    fn remote(address: &str) -> io::Result<Self> {
        let to = address.to_socket_addrs()?.next();
        let to = to.ok_or_else(|| io::Error::other("the host has no address"))?;
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Self {
            socket: Socket::Remote(socket),
            host: Some(own_host()),
        })
    }

    fn send(&mut self, severity: u8, line: &[u8]) -> io::Result<()> {
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
        match &mut self.socket {
            Socket::Local(socket, path) => {
                let sent = socket.send(&datagram);
                if sent.is_err() {
                    // A daemon that was restarted has a new socket at the old place.
                    socket.connect(path)?;
                    socket.send(&datagram)?;
                }
            }
            Socket::Remote(socket) => drop(socket.send(&datagram)?),
            Socket::Stream(stream, server) => {
                datagram.push(b'\n');
                if stream.send(&datagram).is_err() {
                    *stream = Stream::open(server)?;
                    stream.send(&datagram)?;
                }
            }
        }
        Ok(())
    }
}

fn own_host() -> String {
    let host = nix::unistd::gethostname().ok();
    let host = host.map(|host| host.to_string_lossy().into_owned());
    host.unwrap_or_else(|| "-".to_owned())
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
    use std::io::BufRead as _;
    use std::net::{Shutdown, TcpListener};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn received(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn a_line_reaches_a_local_syslog_with_its_severity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::of(&SyslogServer::Unix(path)).unwrap();

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
        let address = server.local_addr().unwrap().to_string();
        let mut syslog = Syslog::of(&SyslogServer::Udp(address)).unwrap();

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

    fn lines(from: impl io::Read, count: usize) -> Vec<String> {
        let lines = io::BufReader::new(from).lines().take(count);
        lines.map(Result::unwrap).collect()
    }

    #[test]
    fn lines_reach_a_syslog_over_tcp_again_once_it_was_started_anew() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string();
        let mut syslog = Syslog::of(&SyslogServer::Tcp(address)).unwrap();
        let (first, _) = server.accept().unwrap();
        for text in ["one", "two\n"] {
            syslog.send(severity(Level::INFO), text.as_bytes()).unwrap();
        }
        let received = lines(&first, 2);
        assert!(received[0].starts_with("<30>"), "{received:?}");
        assert!(received[0].ends_with("]: one"), "{received:?}");
        assert!(received[1].ends_with("]: two"), "{received:?}");

        first.shutdown(Shutdown::Both).unwrap();
        drop(first);
        server.set_nonblocking(true).unwrap();
        // What is sent first may get lost: only the answer to it shows that the connection has ended.
        let second = loop {
            syslog.send(severity(Level::INFO), b"more").unwrap();
            if let Ok((second, _)) = server.accept() {
                break second;
            }
        };
        second.set_nonblocking(false).unwrap();
        assert!(lines(second, 1)[0].ends_with("]: more"));
    }

    #[test]
    fn a_socket_may_be_one_of_streams() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let server = UnixListener::bind(&path).unwrap();
        let mut syslog = Syslog::of(&SyslogServer::Unix(path)).unwrap();
        let (stream, _) = server.accept().unwrap();
        syslog.send(severity(Level::INFO), b"a line").unwrap();
        assert!(lines(stream, 1)[0].ends_with("]: a line"));
    }

    #[test]
    fn a_syslog_that_is_not_there_is_an_error() {
        for server in [
            SyslogServer::Unix("/nowhere/log".into()),
            SyslogServer::Udp("no-port".to_owned()),
            SyslogServer::Tcp("127.0.0.1:1".to_owned()),
        ] {
            assert!(Syslog::of(&server).is_err(), "{server}");
        }
    }
}
