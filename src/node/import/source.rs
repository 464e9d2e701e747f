//! Where a former store is, and what it says of its server.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;

use super::run::{Error, Import};
use super::stan::{Monitor, Running};
use crate::config::NatsConfig;
use crate::core::limits::Limits;
use crate::former::Findings;
use crate::former::records::ServerInfo;
use crate::store::files::{Cluster, NodePlace};
use crate::store::{self, FileStore, FormerStore, FormerTables};

#[derive(Debug)]
pub enum Source {
    /// A SQL store.
    Tables(FormerTables),
    /// A file store.
    Files {
        directory: PathBuf,
        /// The polynomial of its checksums.
        polynomial: u32,
        /// The former server's limits. Without them, messages come back that it had dropped and not yet removed.
        limits: Option<Box<Limits>>,
    },
    /// The directories of the nodes of a Raft cluster.
    Raft {
        nodes: Vec<NodePlace>,
        polynomial: u32,
        limits: Option<Box<Limits>>,
    },
    /// A server that runs, by what its clients can have and its monitoring pages show.
    Running {
        nats: Box<NatsConfig>,
        monitor: Monitor,
    },
}

pub(super) enum Opened {
    Tables(Box<FormerStore>),
    Files(Arc<FileStore>),
    Raft(Arc<Cluster>),
    Running(Box<Running>),
}

impl Import {
    pub(super) async fn open_former(
        &self,
        findings: &mut Findings,
        tasks: &TaskTracker,
    ) -> Result<Opened, Error> {
        match &self.from {
            Source::Running { nats, monitor } => {
                let discover = self.subjects.discover();
                let opened = Running::open(nats, monitor, &self.cluster_id, discover, tasks).await;
                Ok(Opened::Running(Box::new(opened?)))
            }
            Source::Tables(tables) => {
                let opened = FormerStore::open(tables).await;
                let opened = opened.map_err(Error::Former)?;
                Ok(Opened::Tables(Box::new(opened)))
            }
            Source::Files {
                directory,
                polynomial,
                limits: _,
            } => {
                let (directory, polynomial) = (directory.clone(), *polynomial);
                let mut found = std::mem::take(findings);
                let opening = spawn_blocking(move || {
                    let opened = FileStore::open(&directory, polynomial, &mut found);
                    (opened, found)
                });
                let (opened, found) = opening.await.map_err(|why| Error::reading(&why))?;
                *findings = found;
                let files = opened.map_err(Error::of_files)?;
                Ok(Opened::Files(Arc::new(files)))
            }
            Source::Raft {
                nodes,
                polynomial,
                limits: _,
            } => {
                let (nodes, polynomial) = (nodes.clone(), *polynomial);
                let keys = self.from_keys.of_log();
                let mut found = std::mem::take(findings);
                let opening = spawn_blocking(move || {
                    let opened = Cluster::open(&nodes, polynomial, &keys, &mut found);
                    (opened, found)
                });
                let (opened, found) = opening.await.map_err(|why| Error::reading(&why))?;
                *findings = found;
                let cluster = opened.map_err(Error::of_files)?;
                Ok(Opened::Raft(Arc::new(cluster)))
            }
        }
    }

    /// What clients of the former server were given. Fails unless it is one of this cluster.
    pub(super) async fn read_server_info(
        &self,
        former: &mut Opened,
        findings: &mut Findings,
    ) -> Result<ServerInfo, Error> {
        let (info, files) = match former {
            Opened::Tables(former) => {
                let info = former.server_info(&self.cluster_id).await;
                return info.map_err(Error::Former);
            }
            Opened::Files(files) => {
                let info = files.server_info(findings).map_err(Error::Former)?;
                (info.unwrap_or_else(|| self.usual_info()), &**files)
            }
            Opened::Raft(cluster) => (cluster.node.info.clone(), &cluster.node.files),
            Opened::Running(running) => {
                running.ensure_cluster().await?;
                return Ok(self.usual_info());
            }
        };
        let root = files.root().display();
        if info.cluster_id != self.cluster_id {
            return Err(Error::Former(store::Error::Refused(format!(
                "{root}: it is the store of cluster ID {:?}, and {:?} was asked for; give --cluster-id {}",
                info.cluster_id, self.cluster_id, info.cluster_id
            ))));
        }
        if let (Some(node), Source::Files { .. }) = (&info.node, &self.from) {
            return Err(Error::OfRaft(format!(
                "{root}: it is the store of {node:?}, a node of a Raft cluster, whose clients and subscriptions are in its \
                 log; import it by `stanby import --from raft:DIR1,DIR2,DIR3` with the directories of all nodes"
            )));
        }
        Ok(info)
    }

    /// As a former server of this cluster ID would have written it.
    fn usual_info(&self) -> ServerInfo {
        let subjects = &self.subjects;
        ServerInfo {
            cluster_id: self.cluster_id.clone(),
            discover: subjects.discover().to_string(),
            publish: subjects.publish_prefix().to_string(),
            subscribe: subjects.subscribe().to_string(),
            unsubscribe: subjects.unsubscribe().to_string(),
            close: subjects.close_client().to_string(),
            close_subscription: Some(subjects.close_subscription().to_string()),
            node: None,
        }
    }
}

/// Without passwords.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables(tables) => write!(f, "{tables}"),
            Self::Files { directory, .. } => write!(f, "{}", directory.display()),
            Self::Raft { nodes, .. } => {
                let stores = nodes.iter().map(|node| node.store.display().to_string());
                write!(f, "raft:{}", stores.collect::<Vec<_>>().join(","))
            }
            Self::Running { nats, monitor } => {
                write!(f, "the server at {} ({monitor})", nats.servers.join(","))
            }
        }
    }
}

impl Opened {
    /// Empty for anything but directories.
    pub(super) fn fingerprints(&self) -> Vec<String> {
        match self {
            Self::Tables(_) | Self::Running(_) => Vec::new(),
            Self::Files(files) => vec![files.fingerprint().to_owned()],
            Self::Raft(cluster) => cluster.fingerprints.clone(),
        }
    }

    pub(super) async fn close(self) {
        match self {
            Self::Tables(former) => former.close().await,
            Self::Files(_) | Self::Raft(_) | Self::Running(_) => {}
        }
    }
}
