//! `server.dat`, `clients.dat` and `subs.dat`. The last two are journals: what is there is what all records, one after the
//! other, have left.

use std::collections::BTreeMap;
use std::io::BufRead;

use bytes::Bytes;
use prost::Message as _;

use super::checksum::Checksum;
use super::records::{HEADER_BYTES, Record, RecordError, Records, VERSION_BYTES};
use super::slice::Finding;
use crate::core::ids::{ChannelId, SubscriptionId};
use crate::former::Broken;
use crate::former::pending::Pending;
use crate::former::records::{Client, ServerInfo, Subscription, UpdateRecord};

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
}

/// Why `server.dat` is of no use.
#[derive(Debug)]
pub enum BadServerInfo {
    /// Nothing else can be read either.
    Unreadable(String),
    /// The other files may be well.
    Damaged(String),
}

/// The only record of `server.dat`. `length` is that of the file.
pub fn server_info(
    source: impl BufRead,
    length: u64,
    checksum: &Checksum,
) -> Result<ServerInfo, BadServerInfo> {
    use BadServerInfo::{Damaged, Unreadable};
    let bad = |error: RecordError| match error {
        RecordError::NoVersion | RecordError::Cut { .. } | RecordError::Checksum { .. } => {
            Damaged(error.sentence())
        }
        RecordError::Io(_) | RecordError::Version(_) | RecordError::OfIndex(_) => {
            Unreadable(error.sentence())
        }
    };
    let mut records = Records::untyped(source, checksum).map_err(bad)?;
    let record = match records.read_next() {
        Ok(Some(record)) => record,
        Ok(None) => return Err(Damaged("it holds nothing but its version".to_owned())),
        Err(RecordError::Checksum { record, .. })
            if checksum.is_usual() && ServerInfo::decode(&record.payload).is_ok() =>
        {
            return Err(Unreadable(
                "its checksum is wrong and its content is good: the former server was started with another polynomial \
                 (-file_crc_poly); give the same as --from-crc-poly"
                    .to_owned(),
            ));
        }
        Err(error) => return Err(bad(error)),
    };
    let expected = VERSION_BYTES + HEADER_BYTES + record.payload.len() as u64;
    if length != expected {
        let what = format!("it has {length} bytes instead of {expected}");
        return Err(Damaged(what));
    }
    ServerInfo::decode(&record.payload).map_err(|why| Damaged(why.to_string()))
}

/// Those that are connected, by ID.
pub fn clients(
    source: impl BufRead,
    checksum: &Checksum,
    found: &mut dyn FnMut(Finding),
) -> Result<Vec<Client>, RecordError> {
    let mut clients: BTreeMap<Bytes, Client> = BTreeMap::new();
    replay(source, checksum, found, &mut |record| {
        match record.kind {
            1 => {
                let client = Client::of_record(&record.payload)?;
                let id = Bytes::copy_from_slice(client.id.as_str().as_bytes());
                clients.insert(id, client);
            }
            2 => {
                let name = Name::decode(&record.payload[..])?;
                clients.remove(&name.id);
            }
            kind => return Err(unknown(kind)),
        }
        Ok(())
    })?;
    Ok(clients.into_values().collect())
}

/// The subscriptions of one channel, by their numbers there.
pub fn subscriptions(
    source: impl BufRead,
    channel: ChannelId,
    checksum: &Checksum,
    found: &mut dyn FnMut(Finding),
) -> Result<Vec<Subscription>, RecordError> {
    let mut stored: BTreeMap<u64, Stored> = BTreeMap::new();
    replay(source, checksum, found, &mut |record| {
        if !(1..=5).contains(&record.kind) {
            return Err(unknown(record.kind));
        }
        let about = UpdateRecord::decode(&record.payload[..]);
        match record.kind {
            1 | 2 => {
                // The number has the same place in both kinds of records.
                let id = Numbered::decode(&record.payload[..])?.id;
                let payload = &record.payload;
                // Said now, with its place.
                Subscription::decode(channel, SubscriptionId(id), 0, payload)?;
                let entry = stored.entry(id).or_default();
                if record.kind == 1 {
                    entry.pending = Pending::default();
                }
                entry.record = payload.clone();
            }
            3 => {
                stored.remove(&about?.id);
            }
            kind => {
                let about = about?;
                // The subscription may be gone.
                if let Some(entry) = stored.get_mut(&about.id) {
                    if kind == 5 {
                        entry.pending.sent(about.sequence)?;
                    } else {
                        entry.pending.sequences.remove(&about.sequence);
                    }
                }
            }
        }
        Ok(())
    })?;
    let read = stored.into_iter().map(|(id, stored)| {
        let last_sent = stored.pending.last_sent;
        let read = Subscription::decode(channel, SubscriptionId(id), last_sent, &stored.record);
        read.map(|mut subscription| {
            subscription.pending.sequences = stored.pending.sequences;
            subscription
        })
    });
    // Each was decoded before.
    Ok(read.flatten().collect())
}

/// Old servers left several records for one durable queue group without members. The one that was sent most counts.
pub fn latest_shadows(subscriptions: Vec<Subscription>) -> Vec<Subscription> {
    let mut kept: Vec<Subscription> = Vec::with_capacity(subscriptions.len());
    for next in subscriptions {
        if next.owner.is_some() {
            kept.push(next);
            continue;
        }
        let is_other = |one: &&mut Subscription| one.owner.is_none() && one.kind == next.kind;
        match kept.iter_mut().find(is_other) {
            Some(other) if other.pending.last_sent < next.pending.last_sent => *other = next,
            Some(_) => {}
            None => kept.push(next),
        }
    }
    kept
}

#[derive(Default)]
struct Stored {
    record: Bytes,
    pending: Pending,
}

/// The number of a subscription's record alone.
#[derive(Clone, PartialEq, prost::Message)]
struct Numbered {
    #[prost(uint64, tag = "1")]
    id: u64,
}

fn unknown(kind: u8) -> Broken {
    format!("its type is {kind}, which is not known").into()
}

fn replay(
    source: impl BufRead,
    checksum: &Checksum,
    found: &mut dyn FnMut(Finding),
    apply: &mut dyn FnMut(&Record) -> Result<(), Broken>,
) -> Result<(), RecordError> {
    let mut records = match Records::typed(source, checksum) {
        Err(error @ RecordError::NoVersion) => {
            found(Finding::Damage(format!(
                "{}: is the copy complete? All that it said is lost",
                error.sentence()
            )));
            return Ok(());
        }
        opened => opened?,
    };
    loop {
        match records.read_next() {
            Ok(None) => return Ok(()),
            Ok(Some(record)) => {
                if let Err(why) = apply(&record) {
                    found(Finding::Damage(format!(
                        "record {} at byte {}, of type {}: {why}; what it says is lost",
                        record.number, record.at, record.kind
                    )));
                }
            }
            Err(error @ RecordError::Checksum { .. }) => found(Finding::Damage(format!(
                "{}; what it says is lost",
                error.sentence()
            ))),
            Err(error @ RecordError::Cut { .. }) if records.hides_records() => {
                found(Finding::Damage(format!(
                    "{}, but whole records follow: its length is damaged; what it and all that follow say is lost",
                    error.sentence()
                )));
                return Ok(());
            }
            Err(error @ RecordError::Cut { .. }) => {
                found(Finding::Cut(format!(
                    "{}; what was written last before the crash is not known",
                    error.sentence()
                )));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}
