//! The directories that were named as those of a Raft cluster: whether they belong together, and the one that is imported.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::raft::{NodePlace, RaftNode, Stored, find};
use crate::former::encryption::ChannelKeys;
use crate::former::findings::Findings;
use crate::former::raft::history::{self, Compared, History, Published};
use crate::store::Error;

#[derive(Debug)]
pub struct Cluster {
    /// The one with the newest log.
    pub node: RaftNode,
    /// The fingerprints of the stores of all nodes that were named.
    pub fingerprints: Vec<String>,
    /// Messages that others have, to be found in the store of `node` too: nothing else shows whether they are of one cluster.
    pub expected: Vec<Expected>,
}

/// A message that the log of a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub message: Published,
    /// Where that log is.
    pub log: PathBuf,
}

impl Cluster {
    /// Says which logs nothing could be compared of, where `is_compared` says of which messages something was.
    pub fn tell_unproven(&self, is_compared: impl Fn(&Expected) -> bool, findings: &mut Findings) {
        let logs: BTreeSet<&Path> = self.expected.iter().map(|it| it.log.as_path()).collect();
        for log in logs {
            let mut of_log = self.expected.iter().filter(|it| it.log == log);
            if !of_log.any(&is_compared) {
                findings.note(unproven(log, self.node.log()));
            }
        }
    }

    /// As the cluster itself would elect after a restart: of a majority, the node with the highest term in its last entry,
    /// and of those the one with the longest log.
    pub fn open(
        places: &[NodePlace],
        polynomial: u32,
        keys: &ChannelKeys,
        findings: &mut Findings,
    ) -> Result<Self, Error> {
        let found = places.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        ensure_named_once(&found)?;
        let mut nodes: Vec<RaftNode> = Vec::new();
        for place in found {
            let node = RaftNode::open(place, polynomial, findings)?;
            if let Some(other) = nodes
                .iter()
                .find(|it| it.info.cluster_id != node.info.cluster_id)
            {
                return Err(Error::Refused(format!(
                    "{} is a node of cluster {:?} and {} one of {:?}; name the nodes of one cluster",
                    shown(other),
                    other.info.cluster_id,
                    shown(&node),
                    node.info.cluster_id
                )));
            }
            ensure_own_log(&node)?;
            nodes.push(node);
        }
        let newest = (0..nodes.len()).max_by_key(|&at| (nodes[at].last, nodes.len() - at));
        let newest = newest.ok_or_else(|| Error::Refused("no node was named".to_owned()))?;
        for (at, one) in nodes.iter().enumerate() {
            for other in &nodes[at + 1..] {
                ensure_one_cluster(one, other)?;
            }
        }
        let histories: Vec<&History> = nodes.iter().map(|node| &node.history).collect();
        let mut read = |at: usize, indexes| nodes[at].marks(indexes, keys);
        let compared = history::compare(&histories, &mut read)?;
        let mut expected = Vec::new();
        for (at, one) in nodes.iter().enumerate() {
            for (behind, other) in nodes.iter().enumerate().skip(at + 1) {
                let is_proven = ensure_one_history(one, other, &compared[&(at, behind)], keys)?;
                let to_newest = match newest {
                    it if it == at => Some(other),
                    it if it == behind => Some(one),
                    _ => None,
                };
                if let Some(node) = to_newest.filter(|_| !is_proven) {
                    let before = expected.len();
                    expected.extend(expected_of(node, keys)?);
                    if expected.len() == before {
                        findings.note(unproven(node.log(), nodes[newest].log()));
                    }
                }
            }
        }
        let given = nodes.len();
        let fingerprints = nodes.iter().map(|node| node.files.fingerprint().to_owned());
        let fingerprints = fingerprints.collect();
        let node = nodes.swap_remove(newest);
        let (term, index) = node.last;
        findings.note(format!(
            "what node {:?} has is imported: no log of those that were given is newer than its own, which ends with term {term}, \
             index {index}",
            node.name()
        ));
        let voters = node.history.voters();
        let majority = voters / 2 + 1;
        if given < majority {
            findings.note(format!(
                "{given} of {voters} nodes was given, and a majority is {majority}: this one may lack what the others have acked, \
                 and may have entries that were never committed; give the directories of the others, too, if they exist"
            ));
        }
        Ok(Self {
            node,
            fingerprints,
            expected,
        })
    }
}

fn unproven(one: &Path, other: &Path) -> String {
    format!(
        "the logs in {} and {} do not show whether they are of one cluster: they have no entry of a client in common; make \
         sure that they are",
        one.display(),
        other.display()
    )
}

fn shown(node: &RaftNode) -> std::path::Display<'_> {
    node.files.root().display()
}

/// By the same or by another path.
fn ensure_named_once(found: &[(PathBuf, PathBuf)]) -> Result<(), Error> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for (at, (store, log)) in found.iter().enumerate() {
        for (other_store, other_log) in &found[..at] {
            if real(store) == real(other_store) {
                let same = [store, other_store].map(|it| it.display());
                return Err(Error::Refused(if store == other_store {
                    format!("{} is given twice; name each node once", same[0])
                } else {
                    format!(
                        "{} and {} are one directory; name each node once",
                        same[1], same[0]
                    )
                }));
            }
            if real(log) == real(other_log) {
                return Err(Error::Refused(format!(
                    "{} and {} are given with the same log, {}; name the store and the log of each node as STORE:LOG (-dir and \
                     -cluster_log_path)",
                    other_store.display(),
                    store.display(),
                    log.display()
                )));
            }
        }
    }
    Ok(())
}

/// The log has to be one of the cluster that the store's node is in.
fn ensure_own_log(node: &RaftNode) -> Result<(), Error> {
    if node.history.names(node.name()) != Some(false) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{} is the store of node {:?}, and the log in {} is that of a cluster of {}: they do not belong together, or the node was \
         removed from that cluster; name the log that belongs to the store (-cluster_log_path), or leave this node out",
        shown(node),
        node.name(),
        node.log().display(),
        members(node)
    )))
}

fn members(node: &RaftNode) -> String {
    let members = node.history.members().iter();
    let names = members.map(|member| format!("{:?}", member.id));
    names.collect::<Vec<_>>().join(", ")
}

/// By what each knows of its cluster. The later configuration counts: the other may be older than the newest node.
fn ensure_one_cluster(one: &RaftNode, other: &RaftNode) -> Result<(), Error> {
    let names = |one: &RaftNode, other: &RaftNode| one.history.names(other.name()) != Some(false);
    let (later, earlier) = if one.history.is_older(&other.history) {
        (other, one)
    } else {
        (one, other)
    };
    let is_tie = !earlier.history.is_older(&later.history);
    if names(later, earlier) || is_tie && names(earlier, later) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{} and {} do not belong together: the cluster of the first has the nodes {}, and the second is {:?}, which is of \
         another cluster or was removed from this one; name the nodes of one cluster, and leave out one that was removed",
        shown(later),
        shown(earlier),
        members(later),
        earlier.name()
    )))
}

/// By their logs. Returns whether they prove that both are of one cluster.
fn ensure_one_history(
    one: &RaftNode,
    other: &RaftNode,
    compared: &Compared,
    keys: &ChannelKeys,
) -> Result<bool, Error> {
    let mut conflict = compared.conflict.clone();
    if let Some(index) = compared.parted.filter(|_| conflict.is_none()) {
        let committed = |node: &RaftNode| -> Result<u64, Error> {
            let of_snapshot = node.snapshot_index();
            Ok(node.stored(keys)?.committed.max(of_snapshot))
        };
        if index <= committed(one)?.min(committed(other)?) {
            conflict = Some(format!(
                "entry {index} is of different terms in their logs, and committed in both"
            ));
        }
    }
    if let Some(why) = conflict {
        return Err(Error::Refused(format!(
            "{} and {} do not belong together: {why}, so they are of two clusters of one cluster ID, or copies of different \
             histories of one; name the nodes of one cluster, as they were when it was stopped",
            shown(one),
            shown(other)
        )));
    }
    if one.name() == other.name() {
        let (newer, older) = if one.last < other.last {
            (other, one)
        } else {
            (one, other)
        };
        let [(term, index), (older_term, older_index)] = [newer.last, older.last];
        return Err(Error::Refused(format!(
            "{} and {} are two copies of the same node {:?}: the log of the first ends with term {term}, index {index}, that of \
             the second with term {older_term}, index {older_index}; name each node once, by its newest copy",
            shown(newer),
            shown(older),
            one.name()
        )));
    }
    Ok(compared.is_same)
}

fn expected_of(node: &RaftNode, keys: &ChannelKeys) -> Result<Vec<Expected>, Error> {
    let Stored { last, .. } = node.stored(keys)?;
    let expected = last.into_values().map(|message| Expected {
        message,
        log: node.log().to_owned(),
    });
    Ok(expected.collect())
}
