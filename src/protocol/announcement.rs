//! What an active announces to the other servers of its cluster ID about itself: who it is, and which tables it serves from.
//! Clients never see it. What is made of it is decided in `node`.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::pb;
use crate::core::database_identity::DatabaseIdentity;
use crate::core::ids::Epoch;

/// The largest announcement accepted. No server makes one half as long.
const BYTES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    pub server_id: String,
    /// The machine that it runs on.
    pub host: String,
    /// It serves some of the channels; groups that serve other channels do not conflict with it.
    pub is_partitioned: bool,
    pub epoch: Epoch,
    pub lease: Duration,
    pub identity: DatabaseIdentity,
    /// The ID of the NATS server that it is connected to; empty when it does not say.
    pub nats_server: String,
}

/// A standby announces itself, so that an active knows which servers receive from the clients. Servers that do not know of this
/// take it for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyAnnouncement {
    pub server_id: String,
    pub tables: String,
    pub nats_server: String,
}

impl StandbyAnnouncement {
    pub fn encode(&self) -> Vec<u8> {
        let message = pb::ServerAnnouncement {
            standby_id: bytes(&self.server_id),
            tables: bytes(&self.tables),
            nats_server: bytes(&self.nats_server),
            ..pb::ServerAnnouncement::default()
        };
        message.encode_to_vec()
    }

    /// `None` for what no standby has sent.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let message = message(payload)?;
        Some(Self {
            server_id: name(message.standby_id)?,
            tables: text(message.tables)?,
            nats_server: text(message.nats_server)?,
        })
    }
}

impl Announcement {
    pub fn encode(&self) -> Vec<u8> {
        let identity = &self.identity;
        let message = pb::ServerAnnouncement {
            server_id: bytes(&self.server_id),
            host: bytes(&self.host),
            partitioned: self.is_partitioned,
            epoch: self.epoch.0,
            lease_ms: u32::try_from(self.lease.as_millis()).unwrap_or(u32::MAX),
            system_identifier: identity.system_identifier.unwrap_or(0),
            timeline: identity.timeline.unwrap_or(0),
            database_oid: identity.database_oid,
            database: bytes(&identity.database),
            schema: bytes(&identity.schema),
            address: bytes(&identity.address),
            nats_server: bytes(&self.nats_server),
            ..pb::ServerAnnouncement::default()
        };
        message.encode_to_vec()
    }

    /// `None` for what no server of ours has sent.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let message = message(payload)?;
        Some(Self {
            server_id: name(message.server_id)?,
            host: text(message.host)?,
            is_partitioned: message.partitioned,
            epoch: Epoch(message.epoch),
            lease: Duration::from_millis(message.lease_ms.into()),
            identity: DatabaseIdentity {
                system_identifier: Some(message.system_identifier).filter(|&it| it != 0),
                timeline: Some(message.timeline).filter(|&it| it != 0),
                database_oid: message.database_oid,
                database: text(message.database)?,
                schema: text(message.schema)?,
                address: text(message.address)?,
            },
            nats_server: text(message.nats_server)?,
        })
    }
}

fn message(payload: &[u8]) -> Option<pb::ServerAnnouncement> {
    let is_short = payload.len() <= BYTES_MAX;
    is_short.then(|| pb::ServerAnnouncement::decode(payload).ok())?
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn text(bytes: Bytes) -> Option<String> {
    String::from_utf8(bytes.into()).ok()
}

/// The name of a server; each has one.
fn name(bytes: Bytes) -> Option<String> {
    text(bytes).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement() -> Announcement {
        Announcement {
            server_id: "q3bpB9rTkKJdAnlp0y5zXw".to_owned(),
            host: "node-1".to_owned(),
            is_partitioned: true,
            epoch: Epoch(7),
            lease: Duration::from_secs(2),
            identity: DatabaseIdentity {
                system_identifier: Some(-7_000_000_000),
                timeline: None,
                database_oid: 16_384,
                database: "stan".to_owned(),
                schema: "stanby".to_owned(),
                address: "db:5432".to_owned(),
            },
            nats_server: "NATS1".to_owned(),
        }
    }

    #[test]
    fn an_announcement_is_read_as_it_was_made() {
        let decoded = Announcement::decode(&announcement().encode());

        assert_eq!(decoded, Some(announcement()));
    }

    #[test]
    fn a_standby_is_heard_as_one_and_is_nothing_to_those_who_look_for_actives() {
        let standby = StandbyAnnouncement {
            server_id: "q3bpB9rTkKJdAnlp0y5zXw".to_owned(),
            tables: "7/1/stanby".to_owned(),
            nats_server: "NATS2".to_owned(),
        };

        assert_eq!(
            StandbyAnnouncement::decode(&standby.encode()),
            Some(standby.clone())
        );
        assert_eq!(Announcement::decode(&standby.encode()), None);
        assert_eq!(StandbyAnnouncement::decode(&announcement().encode()), None);
    }

    #[test]
    fn what_no_server_has_sent_is_no_announcement() {
        assert_eq!(Announcement::decode(b"\xff\xff\xff"), None);
        assert_eq!(Announcement::decode(b""), None);
        let mut long = announcement();
        long.identity.database = "x".repeat(BYTES_MAX);
        assert_eq!(Announcement::decode(&long.encode()), None);
        let message = pb::ServerAnnouncement {
            server_id: Bytes::from_static(b"\xc3\x28"),
            ..pb::ServerAnnouncement::default()
        };
        assert_eq!(Announcement::decode(&message.encode_to_vec()), None);
    }
}
