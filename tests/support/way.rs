//! The way to a Postgres, which a test leads elsewhere: new connections go there, those that are open stay where they are,
//! as behind a name, a balancer or a Service.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Ends with the value, and all connections through it.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) port: u16,
    socket: watch::Sender<Option<PathBuf>>,
    _tasks: JoinSet<()>,
}

impl Way {
    pub(crate) async fn to(socket: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (socket, leads) = watch::channel(Some(socket.to_owned()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, leads));
        Self {
            port,
            socket,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self) -> String {
        let port = self.port;
        format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable")
    }

    /// New connections go there.
    pub(crate) fn lead_to(&self, socket: &Path) {
        self.socket.send_replace(Some(socket.to_owned()));
    }

    /// New connections are closed at once.
    pub(crate) fn close(&self) {
        self.socket.send_replace(None);
    }
}

async fn accept(listener: TcpListener, leads: watch::Receiver<Option<PathBuf>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((near, _)) = accepted {
                let socket = leads.borrow().clone();
                connections.spawn(forward(near, socket));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(mut near: TcpStream, socket: Option<PathBuf>) {
    let Some(socket) = socket else { return };
    near.set_nodelay(true).ok();
    if let Ok(mut far) = UnixStream::connect(socket).await {
        copy_bidirectional(&mut near, &mut far).await.ok();
    }
}
