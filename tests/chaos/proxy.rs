//! A network between one server and what it talks to, which tests cut, reset and slow down. It forwards bytes and
//! knows nothing of what they mean.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// What happens to bytes and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Up,
    /// Neither bytes nor ends of connections get through; they wait. Connecting seems to work.
    Silent,
    /// The same, one way only: what our side says arrives nowhere.
    SilentThere,
    /// The same, the other way: what the other side says does not arrive.
    SilentBack,
    /// Connections end with a reset, and new ones do, too.
    Reset,
    /// Everything gets through so much later.
    Slow(Duration),
    /// So many bytes of a connection get through in a second, each way. Of a proxy with [`Proxy::start_narrow`], so that
    /// little is on its way at once.
    Narrow(u32),
}

impl Link {
    /// Of one direction.
    fn passes(self, way: Way) -> bool {
        match self {
            Self::Silent => false,
            Self::SilentThere => way != Way::There,
            Self::SilentBack => way != Way::Back,
            Self::Up | Self::Reset | Self::Slow(_) | Self::Narrow(_) => true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    There,
    Back,
    /// That of connections, which begin and end.
    Both,
}

/// Where connections lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Socket(PathBuf),
    Port(u16),
}

/// Ends with the value, and all connections through it.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    link: watch::Sender<Link>,
    lead: watch::Sender<Lead>,
    /// Each connection has one of these, and the proxy and its listener.
    connections: Arc<()>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Debug)]
struct Lead {
    target: Target,
    /// How often connections were reset because they lead elsewhere now.
    resets: u64,
}

/// Of one direction of one connection.
const CHUNKS_MAX: usize = 256;
const CHUNK_BYTES: usize = 16 << 10;

const NARROW_BYTES: u32 = 128 << 10;

impl Proxy {
    pub(crate) async fn start(target: Target) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::on(listener, target)
    }

    /// Takes little from who sends before it has passed it on.
    pub(crate) fn start_narrow(target: Target) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(NARROW_BYTES).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self::on(socket.listen(64).unwrap(), target)
    }

    fn on(listener: TcpListener, target: Target) -> Self {
        let port = listener.local_addr().unwrap().port();
        let (link, links) = watch::channel(Link::Up);
        let (lead, leads) = watch::channel(Lead { target, resets: 0 });
        let connections = Arc::new(());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, links, leads, Arc::clone(&connections)));
        Self {
            port,
            link,
            lead,
            connections,
            _tasks: tasks,
        }
    }

    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Leads new connections elsewhere, and resets those there are.
    pub(crate) fn lead_to(&self, target: Target) {
        self.lead.send_if_modified(|lead| {
            let is_other = lead.target != target;
            lead.target = target;
            lead.resets += u64::from(is_other);
            is_other
        });
    }

    /// Leads new connections elsewhere; those there are stay where they are, as behind a name or a balancer.
    pub(crate) fn lead_new_to(&self, target: Target) {
        self.lead.send_modify(|lead| lead.target = target);
    }

    /// How many there are.
    pub(crate) fn connections(&self) -> usize {
        Arc::strong_count(&self.connections).saturating_sub(2)
    }
}

async fn accept(
    listener: TcpListener,
    links: watch::Receiver<Link>,
    leads: watch::Receiver<Lead>,
    counted: Arc<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let (links, leads, one) = (links.clone(), leads.clone(), Arc::clone(&counted));
                connections.spawn(async move {
                    forward(stream, links, leads).await;
                    drop(one);
                });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(
    mut near: TcpStream,
    mut links: watch::Receiver<Link>,
    mut leads: watch::Receiver<Lead>,
) {
    near.set_nodelay(true).ok();
    let (mut their_links, lead) = (links.clone(), leads.borrow().clone());
    let carried = async {
        open(&mut their_links, Way::Both).await;
        let (near_read, near_write) = near.split();
        match lead.target {
            Target::Socket(path) => {
                let mut far = UnixStream::connect(path).await.ok()?;
                let (read, write) = far.split();
                both(near_read, near_write, read, write, &their_links).await;
            }
            Target::Port(port) => {
                let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
                far.set_nodelay(true).ok();
                let (read, write) = far.split();
                both(near_read, near_write, read, write, &their_links).await;
            }
        }
        Some(())
    };
    let is_reset = tokio::select! {
        _ = carried => false,
        _ = links.wait_for(|link| *link == Link::Reset) => true,
        _ = leads.wait_for(|now| now.resets != lead.resets) => true,
    };
    if is_reset {
        near.set_zero_linger().ok();
    }
}

/// Returns when either side has ended.
async fn both(
    near_read: impl AsyncRead + Unpin,
    near_write: impl AsyncWrite + Unpin,
    far_read: impl AsyncRead + Unpin,
    far_write: impl AsyncWrite + Unpin,
    links: &watch::Receiver<Link>,
) {
    tokio::select! {
        () = pump(near_read, far_write, links.clone(), Way::There) => {}
        () = pump(far_read, near_write, links.clone(), Way::Back) => {}
    }
    // The end of a connection is news as well, and travels no faster than bytes.
    open(&mut links.clone(), Way::Both).await;
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    links: watch::Receiver<Link>,
    way: Way,
) {
    let (chunks, mut due) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_MAX);
    let mut read_links = links.clone();
    let reading = async move {
        let mut free_at = Instant::now();
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
            let read = from.read_buf(&mut chunk).await;
            let delay = open(&mut read_links, way).await;
            if !matches!(read, Ok(1..)) {
                return;
            }
            let link = *read_links.borrow();
            if let Link::Narrow(rate) = link {
                let bytes = u32::try_from(chunk.len()).unwrap();
                free_at = free_at.max(Instant::now()) + Duration::from_secs(1) * bytes / rate;
                timeout_at(free_at, std::future::pending::<()>()).await.ok();
            }
            let sent = chunks.send((Instant::now() + delay, chunk.freeze()));
            if sent.await.is_err() {
                return;
            }
        }
    };
    let mut write_links = links;
    let writing = async move {
        while let Some((at, chunk)) = due.recv().await {
            timeout_at(at, std::future::pending::<()>()).await.ok();
            open(&mut write_links, way).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(
        async {
            reading.await;
        },
        writing
    );
}

/// Waits until bytes may pass; says how much later they arrive.
async fn open(links: &mut watch::Receiver<Link>, way: Way) -> Duration {
    let Ok(link) = links.wait_for(|link| link.passes(way)).await else {
        return Duration::ZERO;
    };
    match *link {
        Link::Slow(delay) => delay,
        Link::Up
        | Link::Silent
        | Link::SilentThere
        | Link::SilentBack
        | Link::Reset
        | Link::Narrow(_) => Duration::ZERO,
    }
}
