//! Whose the tables are: one cluster's, whose clients were given certain subjects.

use super::shared::RoleError;
use crate::config::Config;
use crate::protocol::Subjects;
use crate::protocol::subjects::{self, AdvertisedSubjects};
use crate::store::{ServerInfo, Store};

/// Fails when the tables are another cluster's: asked at the start, because a standby may not get as far as a
/// takeover for months. False before the first server has made them its own.
pub(super) async fn ensure_same_cluster(store: &Store, config: &Config) -> Result<bool, RoleError> {
    ensure_ours(store.server_info().await?, config)
}

/// The same for what was read.
pub(super) fn ensure_ours(stored: Option<ServerInfo>, config: &Config) -> Result<bool, RoleError> {
    let Some(stored) = stored else {
        return Ok(false);
    };
    stored.ensure_cluster_id(&config.cluster_id)?;
    ensure_same_subjects(&stored, &server_info(&config.cluster_id, &config.subjects))?;
    Ok(true)
}

/// The subjects to serve on: those of the configuration, unless the tables came from a server that gave its clients
/// others.
pub(super) async fn subjects_of(store: &Store, config: &Config) -> Result<Subjects, RoleError> {
    let subjects = config.subjects.clone();
    let stored = match store.server_info().await? {
        // What else differs is refused later, with what to do.
        Some(stored)
            if stored.cluster_id == config.cluster_id
                && stored.discover_prefix == **subjects.discover() =>
        {
            stored
        }
        Some(_) | None => return Ok(subjects),
    };
    let advertised = AdvertisedSubjects {
        publish_prefix: stored.publish_prefix,
        subscribe: stored.subscribe_subject,
        unsubscribe: stored.unsubscribe_subject,
        close_subscription: stored.close_subscription_subject,
        close_client: stored.close_subject,
    };
    let refused = |error: subjects::Error| {
        RoleError::Settings(format!(
            "table server_info, the subjects that clients use: {error}"
        ))
    };
    subjects.advertising(advertised).map_err(refused)
}

pub(super) fn server_info(cluster_id: &str, subjects: &Subjects) -> ServerInfo {
    ServerInfo {
        cluster_id: cluster_id.to_owned(),
        discover_prefix: subjects.discover().to_string(),
        publish_prefix: subjects.publish_prefix().to_string(),
        subscribe_subject: subjects.subscribe().to_string(),
        unsubscribe_subject: subjects.unsubscribe().to_string(),
        close_subscription_subject: subjects.close_subscription().to_string(),
        close_subject: subjects.close_client().to_string(),
        ack_prefix: subjects.ack_prefix().to_string(),
    }
}

/// Clients keep using the subjects that they were given when they connected. The ack prefix is none of them: each
/// subscription has its own ack inbox.
pub(super) fn ensure_same_subjects(
    stored: &ServerInfo,
    wanted: &ServerInfo,
) -> Result<(), RoleError> {
    let stored = ServerInfo {
        ack_prefix: wanted.ack_prefix.clone(),
        ..stored.clone()
    };
    if stored == *wanted {
        return Ok(());
    }
    Err(RoleError::Settings(format!(
        "clients use other subjects than this server is configured for (connect subject {:?}, here {:?}); \
         {}",
        stored.discover_prefix,
        wanted.discover_prefix,
        if stored.discover_prefix == wanted.discover_prefix {
            "they came into the tables after its start; start it again"
        } else {
            "start with the former"
        }
    )))
}
