//! The NATS of a world: one nats-server, or two in a cluster, of which the second one leads to the first by a route that can be
//! cut. Clients are at the last one.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::path::PathBuf;

use nix::sys::signal::Signal;
use stanby::dev::Error;
use stanby::dev::directory::Directory;
use stanby::dev::guardian::Guardian;
use stanby::dev::nats::{NatsServer, Options};

use crate::pair::{LIMIT, free_port};
use crate::proxy::{Proxy, Target};

/// The shortest that nats-server takes; with few connections it is over sooner.
const LAME_DUCK: &str = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n";

pub(crate) struct Nats {
    first: NatsServer,
    arguments: Vec<String>,
    second: Option<Second>,
}

struct Second {
    server: NatsServer,
    /// To the first one.
    route: Proxy,
    _directory: Directory,
}

impl Nats {
    pub(crate) async fn start(
        directory: &Directory,
        guardian: &Guardian,
        has_two: bool,
    ) -> Result<Self, Error> {
        if !has_two {
            return Ok(Self {
                first: start(directory, guardian, None, &[]).await?,
                arguments: Vec::new(),
                second: None,
            });
        }
        let settings = directory.root().join("nats.conf");
        std::fs::write(&settings, LAME_DUCK).unwrap();
        let member = |port: u16| {
            let listens = format!("nats://127.0.0.1:{port}");
            [
                "--cluster_name",
                "c",
                "--no_advertise",
                "--cluster",
                &listens,
            ]
            .map(String::from)
        };
        let port = free_port();
        let mut arguments = member(port).to_vec();
        arguments.extend(["-c".to_owned(), settings.display().to_string()]);
        let first = start(directory, guardian, None, &arguments).await?;
        let route = Proxy::start(Target::Port(port)).await;
        let leads = format!("nats://127.0.0.1:{}", route.port);
        let mut second_arguments = member(free_port()).to_vec();
        // The first one finds no way to the second by itself, so that the route can be cut.
        let more = ["--cluster_advertise", "127.0.0.1:9", "--routes", &leads];
        second_arguments.extend(more.map(String::from));
        let of_second = Directory::open(&directory.root().join("nats-2"))?;
        let server = start(&of_second, guardian, None, &second_arguments).await?;
        Ok(Self {
            first,
            arguments,
            second: Some(Second {
                server,
                route,
                _directory: of_second,
            }),
        })
    }

    fn servers(&self) -> Vec<&NatsServer> {
        let second = self.second.as_ref().map(|second| &second.server);
        std::iter::once(&self.first).chain(second).collect()
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.servers().iter().map(|server| server.port()).collect()
    }

    /// Of the server that clients are at.
    pub(crate) fn url(&self) -> String {
        let second = self.second.as_ref().map(|second| &second.server);
        second.unwrap_or(&self.first).url()
    }

    pub(crate) fn port(&self) -> u16 {
        self.first.port()
    }

    pub(crate) fn route(&self) -> &Proxy {
        let second = self.second.as_ref();
        &second.expect("the world has two nats-servers").route
    }

    /// To the first one.
    pub(crate) fn signal(&self, signal: Signal) {
        self.first.signal(signal);
    }

    /// Ends the first one.
    pub(crate) async fn end(&mut self, signal: Signal) {
        self.first.signal(signal);
        self.ended().await;
    }

    /// Waits until the first one has ended.
    pub(crate) async fn ended(&mut self) {
        tokio::time::timeout(LIMIT, self.first.wait())
            .await
            .expect("nats-server ends")
            .unwrap();
    }

    /// The first one, on the same port.
    pub(crate) async fn start_again(&mut self, directory: &Directory, guardian: &Guardian) {
        let port = Some(self.first.port());
        self.first = start(directory, guardian, port, &self.arguments)
            .await
            .unwrap();
    }

    pub(crate) async fn stop(mut self, patience: std::time::Duration) {
        self.first.stop(patience).await.unwrap();
        if let Some(mut second) = self.second {
            second.server.stop(patience).await.unwrap();
        }
    }
}

async fn start(
    directory: &Directory,
    guardian: &Guardian,
    port: Option<u16>,
    arguments: &[String],
) -> Result<NatsServer, Error> {
    let options = Options {
        program: std::env::var_os("STANBY_NATS_SERVER_BIN").map(PathBuf::from),
        port,
        arguments: arguments.to_vec(),
    };
    NatsServer::start(directory, &options, guardian).await
}
