//! Reads a directory, on a thread that may wait for disks. Messages come in batches through a short queue, so that the
//! next one is read while one is written, and memory does not grow with the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

use super::reading::{BATCH_BYTES, BATCH_MESSAGES, Read, Telling, lacks_key};
use super::run::{Error, Import};
use super::sink::{Sink, Step};
use super::source::Source;
use crate::core::batch::Batch;
use crate::core::ids::{ChannelId, SubscriptionId};
use crate::core::limits::Limits;
use crate::core::message::Message;
use crate::core::time::Timestamp;
use crate::former::adopt::{Adopted, Channel};
use crate::former::files::journals::latest_shadows;
use crate::former::messages::{Reader, Unreadable};
use crate::former::{Findings, Former, Keys, adopt};
use crate::node::clock::Clock;
use crate::store::FileStore;
use crate::store::files::ChannelFiles;

/// Batches that wait to be written.
const WAITING: usize = 2;

enum Part {
    /// So many messages will come.
    Expect(u64),
    Messages(Box<Batch>),
}

impl Import {
    pub(super) async fn read_files(
        &self,
        files: &Arc<FileStore>,
        findings: &mut Findings,
        mut sink: Option<&mut Sink>,
        telling: &mut Telling<'_>,
    ) -> Result<Read, Error> {
        let (parts, mut arrived) = mpsc::channel(WAITING);
        let limits = match &self.from {
            Source::Files { limits, .. } => limits.as_deref().cloned(),
            Source::Tables { .. } => None,
        };
        let walk = Walk {
            files: Arc::clone(files),
            keys: self.from_keys.clone(),
            not_encrypted: self.not_encrypted,
            limits,
            now: Clock.now().wall,
            writes: sink.is_some(),
            findings: std::mem::take(findings),
            parts,
        };
        let reading = spawn_blocking(move || walk.all());
        while let Some(part) = arrived.recv().await {
            match part {
                Part::Expect(total) => telling.expect(total),
                Part::Messages(batch) => {
                    telling.count(batch.messages.len() as u64);
                    if let Some(sink) = sink.as_deref_mut() {
                        sink.write(Step::Put(batch)).await?;
                    }
                }
            }
        }
        let (former, found) = reading.await.map_err(|why| Error::reading(&why))??;
        *findings = found;
        let Adopted { snapshot, notes } = adopt(former, Clock.now().wall);
        Ok(Read {
            snapshot,
            notes,
            last_sequences: BTreeMap::new(),
        })
    }
}

impl Error {
    pub(super) fn reading(why: &JoinError) -> Self {
        Self::Reading(why.to_string())
    }
}

struct Walk {
    files: Arc<FileStore>,
    keys: Keys,
    not_encrypted: bool,
    limits: Option<Limits>,
    now: Timestamp,
    /// The first problem is the last.
    writes: bool,
    findings: Findings,
    parts: mpsc::Sender<Part>,
}

/// Of a channel, from its first message that limits leave.
struct Planned<'a> {
    files: ChannelFiles<'a>,
    first: u64,
}

impl Walk {
    fn all(mut self) -> Result<(Former, Findings), Error> {
        let files = Arc::clone(&self.files);
        let clients = files.clients(&mut self.findings);
        let mut former = Former {
            clients: clients.map_err(Error::Former)?,
            ..Former::default()
        };
        let mut planned = Vec::new();
        let mut expected = 0;
        for (id, name) in files.channels() {
            let channel = files.channel(id, &mut self.findings);
            let channel = channel.map_err(Error::Former)?;
            self.subscriptions(&channel, &mut former)?;
            let limits = self.limits.as_ref().map(|limits| limits.of(name));
            let kept = channel.first_kept(limits.as_ref(), self.now);
            let (first, count) = kept.map_err(Error::Former)?;
            expected += count;
            former.last_channel = id.0;
            planned.push(Planned {
                files: channel,
                first,
            });
            self.stop_at_problems()?;
        }
        self.send(Part::Expect(expected))?;
        for channel in &planned {
            let read = self.messages(channel)?;
            former.channels.insert(channel.files.id, read);
        }
        Ok((former, self.findings))
    }

    /// They get numbers of their own: those of a file store are counted in each channel.
    fn subscriptions(
        &mut self,
        channel: &ChannelFiles<'_>,
        former: &mut Former,
    ) -> Result<(), Error> {
        let read = channel.subscriptions(&mut self.findings);
        for mut subscription in latest_shadows(read.map_err(Error::Former)?) {
            former.last_subscription += 1;
            subscription.id = SubscriptionId(former.last_subscription);
            former.subscriptions.push(subscription);
        }
        Ok(())
    }

    fn messages(&mut self, channel: &Planned<'_>) -> Result<Channel, Error> {
        let Planned { files, first } = channel;
        let keys = self.keys.of_channel(files.name);
        let mut reader = Reader::new(files.name, &keys);
        let mut gathered = Gathered::new(files.id);
        let mut findings = std::mem::take(&mut self.findings);
        let mut each = |sequence: u64, record: Bytes, findings: &mut Findings| {
            let bytes = record.len();
            match reader.read(sequence.cast_signed(), record) {
                Ok(message) => gathered.add(Arc::new(message), bytes),
                Err(Unreadable::Record(why)) => findings.damage(
                    &format!("channel {:?}, message {sequence}", files.name),
                    &why,
                ),
                Err(Unreadable::Payload(why)) => findings.problems.add(format!(
                    "channel {:?}, message {sequence}: {why}",
                    files.name
                )),
            }
            if self.writes && !findings.problems.is_empty() {
                return Err(Error::Problems(findings.problems.sentences()));
            }
            match gathered.full() {
                Some(batch) => self.send(Part::Messages(batch)),
                None => Ok(()),
            }
        };
        let read = files.messages(*first, &mut findings, &mut each);
        self.findings = findings;
        read?;
        if let Some(batch) = gathered.rest() {
            self.send(Part::Messages(batch))?;
        }
        if reader.lacks_key() && !self.not_encrypted {
            self.findings.problems.add(lacks_key(files.name));
        }
        self.stop_at_problems()?;
        Ok(Channel {
            name: files.name.clone(),
            max_sequence: files.extent.last,
            totals: reader.totals(),
        })
    }

    fn stop_at_problems(&self) -> Result<(), Error> {
        let problems = &self.findings.problems;
        if self.writes && !problems.is_empty() {
            return Err(Error::Problems(problems.sentences()));
        }
        Ok(())
    }

    /// Fails when nobody writes any more, who then says why.
    fn send(&self, part: Part) -> Result<(), Error> {
        let sent = self.parts.blocking_send(part);
        sent.map_err(|_| Error::Reading("nothing is written any more".to_owned()))
    }
}

/// The messages of one batch.
struct Gathered {
    channel: ChannelId,
    batch: Box<Batch>,
    bytes: usize,
}

impl Gathered {
    fn new(channel: ChannelId) -> Self {
        Self {
            channel,
            batch: Box::default(),
            bytes: 0,
        }
    }

    fn add(&mut self, message: Arc<Message>, bytes: usize) {
        self.batch.messages.push((self.channel, message));
        self.bytes += bytes;
    }

    fn full(&mut self) -> Option<Box<Batch>> {
        let is_full = self.batch.messages.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES;
        if is_full { self.rest() } else { None }
    }

    fn rest(&mut self) -> Option<Box<Batch>> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        (!batch.messages.is_empty()).then_some(batch)
    }
}
