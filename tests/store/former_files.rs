//! File stores of nats-streaming-server, written here by the facts of their layout and read back: whatever the sizes
//! of slices, lost indexes, crashes and cuts are, nothing that an index lists is missing without a word.

use std::fs;
use std::path::Path;

use crc::{CRC_32_ISO_HDLC, Crc};
use proptest::prelude::*;
use prost::Message as _;
use stanby::former::Findings;
use stanby::former::files::checksum::IEEE;
use stanby::former::records::Subscription;
use stanby::protocol::pb::MsgProto;
use stanby::store::{Error, FileStore};

const CHANNEL: &str = "orders";
const VERSION: [u8; 4] = [1, 0, 0, 0];

fn checksum(bytes: &[u8]) -> [u8; 4] {
    Crc::<u32>::new(&CRC_32_ISO_HDLC)
        .checksum(bytes)
        .to_le_bytes()
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap() | u32::from(kind) << 24;
    [&length.to_le_bytes()[..], &checksum(payload), payload].concat()
}

/// Payloads tell whether the message was stored or only written by a server that then crashed.
fn payload(sequence: u64, size: usize, is_stored: bool) -> String {
    let what = if is_stored { "stored" } else { "lost" };
    format!("{what} {sequence} {}", "x".repeat(size))
}

struct Slice {
    records: Vec<u8>,
    index: Vec<u8>,
    count: usize,
}

impl Slice {
    fn new() -> Self {
        Self {
            records: VERSION.to_vec(),
            index: VERSION.to_vec(),
            count: 0,
        }
    }

    fn add(&mut self, sequence: u64, data: String, is_listed: bool) {
        let timestamp = 1_600_000_000_000_000_000 + sequence.cast_signed();
        let message = MsgProto {
            sequence,
            subject: CHANNEL.into(),
            data: data.into(),
            timestamp,
            ..MsgProto::default()
        };
        let message = message.encode_to_vec();
        if is_listed {
            let size = u32::try_from(message.len()).unwrap();
            let entry = [
                &sequence.to_le_bytes()[..],
                &(self.records.len() as u64).to_le_bytes(),
                &timestamp.to_le_bytes(),
                &size.to_le_bytes(),
            ]
            .concat();
            self.index.extend(&entry);
            self.index.extend(checksum(&entry));
            self.count += 1;
        }
        self.records.extend(record(0, &message));
    }
}

#[derive(Clone, Debug)]
struct Plan {
    /// The size of each message, and how many records a crash left in front of it that nobody was told of.
    messages: Vec<(usize, u64)>,
    per_slice: usize,
    lost_indexes: Vec<bool>,
    padding: usize,
}

fn plan() -> impl Strategy<Value = Plan> {
    let message = (0_usize..60, prop_oneof![5 => Just(0_u64), 1 => 1_u64..4]);
    (
        proptest::collection::vec(message, 1..40),
        1_usize..12,
        proptest::collection::vec(any::<bool>(), 40),
        prop_oneof![Just(0_usize), 8_usize..70],
    )
        .prop_map(|(messages, per_slice, lost_indexes, padding)| Plan {
            messages,
            per_slice,
            lost_indexes,
            padding,
        })
}

fn slices(plan: &Plan) -> Vec<Slice> {
    let mut slices = vec![Slice::new()];
    for (number, &(size, ahead)) in plan.messages.iter().enumerate() {
        let sequence = number as u64 + 1;
        if slices.last().unwrap().count == plan.per_slice {
            slices.push(Slice::new());
        }
        let slice = slices.last_mut().unwrap();
        // What the server wrote, and could not list any more, is given out again after its restart.
        let last = plan.messages.len() as u64;
        for lost in sequence..(sequence + ahead).min(last + 1) {
            slice.add(lost, payload(lost, size, false), false);
        }
        slice.add(sequence, payload(sequence, size, true), true);
    }
    slices
}

fn write(root: &Path, plan: &Plan, slices: &[Slice]) {
    let directory = root.join(CHANNEL);
    fs::create_dir_all(&directory).unwrap();
    fs::write(root.join("clients.dat"), VERSION).unwrap();
    fs::write(directory.join("subs.dat"), VERSION).unwrap();
    for (number, slice) in slices.iter().enumerate() {
        let padding = vec![0; plan.padding];
        let records = [&slice.records[..], &padding].concat();
        fs::write(directory.join(format!("msgs.{}.dat", number + 1)), records).unwrap();
        if !plan.lost_indexes[number] {
            let index = directory.join(format!("msgs.{}.idx", number + 1));
            fs::write(index, &slice.index).unwrap();
        }
    }
}

type Messages = Vec<(u64, String)>;

fn read(root: &Path) -> (Messages, Findings) {
    let mut findings = Findings::default();
    let store = FileStore::open(root, IEEE, &mut findings).unwrap();
    let mut messages = Vec::new();
    let ids: Vec<_> = store.channels().map(|(id, _)| id).collect();
    for id in ids {
        let channel = store.channel(id, &mut findings).unwrap();
        let mut each = |sequence: u64, record: bytes::Bytes, _: &mut Findings| {
            let message = MsgProto::decode(record).unwrap();
            assert_eq!(message.sequence, sequence);
            let data = String::from_utf8(message.data.to_vec()).unwrap();
            messages.push((sequence, data));
            Ok::<(), Error>(())
        };
        channel
            .messages(channel.extent.first, &mut findings, &mut each)
            .unwrap();
    }
    (messages, findings)
}

fn stored(plan: &Plan) -> Messages {
    let numbered = plan.messages.iter().enumerate();
    let numbered = numbered.map(|(number, &(size, _))| (number as u64 + 1, size));
    numbered
        .map(|(sequence, size)| (sequence, payload(sequence, size, true)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn what_was_stored_is_read_whatever_slices_indexes_and_crashes_there_were(plan in plan()) {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &plan, &slices(&plan));
        let (messages, findings) = read(root.path());
        prop_assert_eq!(messages, stored(&plan));
        prop_assert!(findings.problems.is_empty(), "{:?}", findings);
    }

    #[test]
    fn a_file_that_ends_early_loses_only_what_is_said_to_be_lost(
        plan in plan(),
        part in 0.0_f64..1.0,
    ) {
        let root = tempfile::tempdir().unwrap();
        let mut slices = slices(&plan);
        let last = slices.len() - 1;
        let is_indexed = !plan.lost_indexes[last];
        let plan = Plan { padding: 0, ..plan };
        let whole = slices[last].records.len();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a place in a short file")]
        let cut = (whole as f64 * part) as usize;
        slices[last].records.truncate(cut);
        write(root.path(), &plan, &slices);

        let (messages, findings) = read(root.path());
        let expected = stored(&plan);
        // Of the cut slice records may be left that were written again behind the cut.
        let kept: Messages = messages.iter().filter(|(_, data)| data.starts_with("stored")).cloned().collect();
        prop_assert_eq!(&kept[..], &expected[..kept.len()]);
        let is_complete = kept.len() == expected.len();
        if is_indexed {
            prop_assert_eq!(findings.problems.is_empty(), is_complete, "{:?}", findings);
        }
        let before: usize = slices[..last].iter().map(|slice| slice.count).sum();
        prop_assert!(kept.len() >= before);
    }

    #[test]
    fn a_journal_is_what_its_whole_records_say(
        steps in proptest::collection::vec((1_u64..4, 0_u8..5, 1_u64..9), 1..40),
        part in 0.0_f64..1.0,
    ) {
        let mut journal = VERSION.to_vec();
        let mut ends = vec![journal.len()];
        for &(id, what, sequence) in &steps {
            journal.extend(step(id, what, sequence));
            ends.push(journal.len());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a place in a short file")]
        let cut = 4 + ((journal.len() - 4) as f64 * part) as usize;
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(CHANNEL)).unwrap();
        fs::write(root.path().join("clients.dat"), VERSION).unwrap();
        fs::write(root.path().join(CHANNEL).join("subs.dat"), &journal[..cut]).unwrap();

        let mut findings = Findings::default();
        let store = FileStore::open(root.path(), IEEE, &mut findings).unwrap();
        let (id, _) = store.channels().next().unwrap();
        let channel = store.channel(id, &mut findings).unwrap();
        let read = channel.subscriptions(&mut findings).unwrap();
        let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
        prop_assert_eq!(summary(&read), model(&steps[..whole]));
        prop_assert_eq!(findings.notes().is_empty(), ends.contains(&cut));
        prop_assert!(findings.problems.is_empty());
    }
}

/// What is left of a subscription: its number, last sent, and what is pending.
type Left = Vec<(u64, u64, Vec<u64>)>;

fn step(id: u64, what: u8, sequence: u64) -> Vec<u8> {
    let subscription = || {
        let inbox = format!("_INBOX.{id}");
        let text = |tag: u8, text: &str| {
            [
                &[tag << 3 | 2, u8::try_from(text.len()).unwrap()],
                text.as_bytes(),
            ]
            .concat()
        };
        let number = |tag: u8, number: u8| vec![tag << 3, number];
        let id = u8::try_from(id).unwrap();
        [
            number(1, id),
            text(2, "me"),
            text(4, &inbox),
            text(5, &inbox),
            number(6, 9),
            number(7, 30),
        ]
        .concat()
    };
    let about = [
        8,
        u8::try_from(id).unwrap(),
        16,
        u8::try_from(sequence).unwrap(),
    ];
    match what {
        0 => record(1, &subscription()),
        1 => record(2, &subscription()),
        2 => record(3, &about[..2]),
        3 => record(4, &about),
        _ => record(5, &about),
    }
}

fn model(steps: &[(u64, u8, u64)]) -> Left {
    let mut left: std::collections::BTreeMap<u64, (u64, std::collections::BTreeSet<u64>)> =
        std::collections::BTreeMap::new();
    for &(id, what, sequence) in steps {
        match what {
            0 => drop(left.insert(id, Default::default())),
            1 => drop(left.entry(id).or_default()),
            2 => drop(left.remove(&id)),
            3 => {
                if let Some((_, pending)) = left.get_mut(&id) {
                    pending.remove(&sequence);
                }
            }
            _ => {
                if let Some((last, pending)) = left.get_mut(&id) {
                    *last = sequence.max(*last);
                    pending.insert(sequence);
                }
            }
        }
    }
    left.into_iter()
        .map(|(id, (last, pending))| (id, last, pending.into_iter().collect()))
        .collect()
}

fn summary(read: &[Subscription]) -> Left {
    read.iter()
        .map(|it| {
            (
                it.id.0,
                it.pending.last_sent,
                it.pending.sequences.iter().copied().collect(),
            )
        })
        .collect()
}
