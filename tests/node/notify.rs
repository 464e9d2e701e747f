//! What a server tells systemd, over a socket like systemd's.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::signal::Signal;

use crate::pair::{Group, LIMIT, Server};
use crate::support::wait::wait_until;

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self {
            socket,
            heard: Vec::new(),
        }
    }

    /// Reads until the message comes; fails with what came instead.
    fn wait_for(&mut self, message: &str) {
        let mut bytes = [0; 4096];
        while self.heard.last().is_none_or(|last| last != message) {
            let length = self.socket.recv(&mut bytes);
            let length = length.unwrap_or_else(|error| panic!("{error}: {:?}", self.heard));
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            self.heard.push(text.trim_end().to_owned());
        }
    }

    fn count(&self, message: &str) -> usize {
        self.heard.iter().filter(|heard| *heard == message).count()
    }
}

fn watched(group: &Group, socket: &str) -> Server {
    group.server_changed(|command| {
        command.env("NOTIFY_SOCKET", socket);
        command
            .env("WATCHDOG_USEC", "300000")
            .env_remove("WATCHDOG_PID");
    })
}

#[tokio::test]
async fn systemd_is_told_when_a_server_is_ready_what_it_is_that_it_lives_and_that_it_ends() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let mut manager = Manager::new(UnixDatagram::bind(&path).unwrap());

    let mut server = watched(&group, path.to_str().unwrap());
    manager.wait_for("READY=1");
    assert_eq!(manager.heard[0], "STATUS=it is starting");
    assert_eq!(manager.heard[1], "EXTEND_TIMEOUT_USEC=900000000");
    manager.wait_for("STATUS=active, epoch 1");
    manager.wait_for("WATCHDOG=1");
    server.signal(Signal::SIGTERM);
    manager.wait_for("STOPPING=1");

    assert_eq!(server.end().await.code(), Some(143));
    assert_eq!(manager.count("READY=1"), 1, "{:?}", manager.heard);
}

#[tokio::test]
async fn a_frozen_server_is_not_taken_for_alive_and_a_standby_is_ready() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let active = group.server();
    active.wait_until_active().await;
    let name = format!("stanby-test-{}-{}", std::process::id(), group.cluster_id);
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut manager = Manager::new(UnixDatagram::bind_addr(&address).unwrap());

    let standby = watched(&group, &format!("@{name}"));
    manager.wait_for("READY=1");
    assert_eq!(manager.count("STATUS=standby"), 1, "{:?}", manager.heard);
    manager.wait_for("WATCHDOG=1");
    standby.signal(Signal::SIGSTOP);
    wait_until(LIMIT, async || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", standby.pid())).unwrap();
        if stat.contains(") T ") {
            Ok(())
        } else {
            Err(stat)
        }
    })
    .await;
    // What it had sent before.
    manager.socket.set_nonblocking(true).unwrap();
    while manager.socket.recv(&mut [0; 4096]).is_ok() {}
    manager.socket.set_nonblocking(false).unwrap();
    let silence = std::time::Duration::from_millis(900);
    manager.socket.set_read_timeout(Some(silence)).unwrap();
    let heard = manager.socket.recv(&mut [0; 4096]);

    assert!(heard.is_err(), "a frozen process said that it lives");
    standby.signal(Signal::SIGCONT);
    manager.socket.set_read_timeout(Some(LIMIT)).unwrap();
    manager.wait_for("WATCHDOG=1");
}
