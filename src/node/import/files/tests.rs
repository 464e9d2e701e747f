use std::path::Path;

use super::*;
use crate::core::ids::{ClientId, Guid, Sequence};
use crate::core::message::Message;
use crate::former::files::checksum::IEEE;
use crate::former::return_way::{self, AdvertisedSubjects};
use crate::store::files::export::NewStore;

/// A store with a channel `a` of one slice.
fn store(place: &Path, sequences: std::ops::RangeInclusive<u64>) {
    let store = NewStore::begin(place).unwrap();
    let advertised = AdvertisedSubjects {
        cluster_id: "c",
        discover: "d",
        publish: "p",
        subscribe: "s",
        unsubscribe: "u",
        close: "c",
        close_subscription: "sc",
    };
    store.server(&return_way::server(&advertised)).unwrap();
    store.clients(&[]).unwrap();
    let name = ChannelName::parse("a".into()).unwrap();
    let mut channel = store.channel(&name, &[]).unwrap();
    for sequence in sequences {
        let message = Message {
            sequence: Sequence(sequence),
            published_at: Timestamp(1),
            client_id: ClientId::parse("app".into()).unwrap(),
            guid: Guid::parse("g".into()).unwrap(),
            reply: "".into(),
            data: Bytes::from_static(b"data"),
        };
        let stored = return_way::message(&name, &message);
        let added = channel.add(stored.sequence, stored.timestamp, &stored.record);
        added.unwrap();
    }
    channel.finish().unwrap();
    store.finish().unwrap();
}

#[test]
fn what_was_copied_ahead_before_a_file_was_removed_counts_and_the_next_pass_goes_on_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let [place, later] = ["store", "later"].map(|name| folder.path().join(name));
    store(&place, 1..=3);
    store(&later, 4..=5);
    let second = ["dat", "idx"].map(|kind| {
        let path = place.join(format!("a/msgs.2.{kind}"));
        std::fs::copy(later.join(format!("a/msgs.1.{kind}")), &path).unwrap();
        path
    });
    let files = FileStore::open_in_use(&place, IEEE, &mut Findings::default()).unwrap();
    let files = Arc::new(files);
    let (parts, mut arrived) = mpsc::channel(WAITING);
    let mut walk = Walk {
        directory: Directory::Store(Arc::clone(&files)),
        copied: Copied::default(),
        is_ahead: true,
        keys: Keys::default(),
        not_encrypted: false,
        limits: None,
        now: Timestamp(2),
        writes: true,
        findings: Findings::default(),
        parts,
    };
    let planned = walk.standalone(&files, &mut Former::default()).unwrap();
    for path in &second {
        std::fs::remove_file(path).unwrap();
    }

    let read = walk.messages(&planned[0]).unwrap();

    assert_eq!((read.totals.count, read.totals.last), (3, Sequence(3)));
    let Ok(Part::Messages(batch)) = arrived.try_recv() else {
        panic!("nothing was sent");
    };
    assert_eq!(batch.messages.len(), 3);
    assert!(walk.findings.notes()[0].contains("not copied ahead to its end yet"));
}
