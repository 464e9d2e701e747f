//! A nats-streaming-server that runs: whether it is there, what its pages show, and what it answers.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::client::Client;
use super::error::PagesError;
use super::following::Following;
use super::pages::{Look, Monitor};
use crate::clock::Clock;
use crate::config::NatsConfig;
use crate::former::Findings;
use crate::nats::{Connection, Settings};
use crate::node::import::reading::{ProgressReporter, Read};
use crate::node::import::run::Error;
use crate::node::import::sink::Sink;
use crate::node::nats_settings;
use crate::store;

/// Whoever listens answers sooner.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// A former server that runs.
#[derive(Clone, Debug)]
pub(in crate::node::import) struct Running {
    nats: Connection,
    settings: Settings,
    monitor: Monitor,
    cluster_id: String,
    discover: String,
}

pub(super) enum Looked {
    Shown(Look),
    /// It is there, and its pages are no help.
    Hindered(PagesError),
    Silent,
}

impl Running {
    pub(in crate::node::import) async fn open(
        nats: &NatsConfig,
        monitor: &Monitor,
        cluster_id: &str,
        discover: &str,
        tasks: &TaskTracker,
    ) -> Result<Self, Error> {
        let settings = nats_settings(nats, format!("stanby-import-{cluster_id}"));
        let opened = Connection::open(&settings, tasks).await;
        Ok(Self {
            nats: opened.map_err(|why| unavailable(&why))?,
            settings,
            monitor: monitor.clone(),
            cluster_id: cluster_id.to_owned(),
            discover: discover.to_owned(),
        })
    }

    /// Fails where the pages are those of another cluster.
    pub(in crate::node::import) async fn ensure_cluster(&self) -> Result<(), Error> {
        let server = self.monitor.server(&self.settings).await;
        let server = server.map_err(|why| unavailable(&why))?;
        if server.cluster_id == self.cluster_id {
            return Ok(());
        }
        Err(Error::Former(store::Error::Refused(format!(
            "{} are the pages of cluster ID {:?}, and {:?} was asked for; give --cluster-id {}",
            self.monitor, server.cluster_id, self.cluster_id, server.cluster_id
        ))))
    }

    /// Whether somebody serves clients. A NATS that has gone with its server has nobody.
    pub(in crate::node::import) async fn is_answered(&self) -> bool {
        if !self.nats.is_connected() {
            return false;
        }
        let mut answers = self.nats.inbox();
        let reply = self.nats.new_subject();
        if answers.subscribe(&reply).is_err() {
            return false;
        }
        // Not a valid connect: whoever gets it refuses it.
        let asked = self.nats.publish(&self.discover, Some(&reply), b"").await;
        if asked.is_err() {
            return false;
        }
        match timeout(ANSWER_LIMIT, answers.next()).await {
            Ok(Ok(answer)) => !answer.is_no_responders(),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    pub(super) async fn look(self, pause: Duration) -> (Looked, Duration) {
        sleep(pause).await;
        let began = Clock.now().monotonic;
        let looked = match self.monitor.look(&self.settings).await {
            Ok(look) => Looked::Shown(look),
            Err(why) if self.is_answered().await => Looked::Hindered(why),
            Err(_) => Looked::Silent,
        };
        (looked, Clock.now().monotonic.since(began))
    }

    /// Without a sink it reads what is there; with one it goes on until the former server has gone.
    pub(in crate::node::import) async fn read(
        &self,
        findings: &mut Findings,
        sink: Option<&mut Sink>,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<Read, Error> {
        let limits = self.monitor.limits(&self.settings).await;
        for note in limits.map_err(|why| unavailable(&why))? {
            findings.note(note);
        }
        let client = Client::connect(&self.nats, &self.discover, &self.cluster_id).await;
        let client = client.map_err(|why| unavailable(&why))?;
        let mut following = Following::new(client, sink, progress);
        let done = following.run(self).await;
        let read = done.map(|()| following.finish(findings));
        following.client.close().await;
        read
    }
}

pub(super) fn unavailable(why: &dyn std::fmt::Display) -> Error {
    Error::Former(store::Error::Unavailable(why.to_string()))
}
