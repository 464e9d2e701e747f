//! The messages of a channel, from files and from what a log has behind them.

use bytes::Bytes;

use super::{Part, Planned, Walk};
use crate::core::ids::ChannelName;
use crate::core::message::Message;
use crate::core::time::Timestamp;
use crate::former::Findings;
use crate::former::adopt::Channel;
use crate::former::messages::{Reader, Totals, Unreadable};
use crate::node::import::ahead::made_anew;
use crate::node::import::gathered::Gathered;
use crate::node::import::reading::lacks_key;
use crate::node::import::run::Error;
use crate::protocol::client::delivery;

impl Walk {
    pub(super) fn messages(&mut self, channel: &Planned<'_>) -> Result<Channel, Error> {
        let name = &channel.name;
        let keys = self.keys.of_channel(name);
        let before = channel.before;
        let mut reader = Reader::going_on(name, &keys, before);
        let mut gathered = Gathered::default();
        let mut findings = std::mem::take(&mut self.findings);
        let is_whole = |findings: &Findings| !self.is_ahead || findings.problems.is_empty();
        let mut take = |sequence: u64,
                        bytes: usize,
                        read: Result<Message, Unreadable>,
                        findings: &mut Findings| {
            match read {
                Ok(message) => gathered.add(channel.id, message, bytes),
                Err(Unreadable::Record(why)) => {
                    let what = format!("channel {name:?}, message {sequence}");
                    findings.damage(&what, &why.to_string());
                }
                Err(Unreadable::Payload(why)) => {
                    let problem = format!("channel {name:?}, message {sequence}: {why}");
                    if self.is_ahead {
                        return Err(Error::Problems(vec![problem]));
                    }
                    findings.problems.add(problem);
                }
            }
            if self.writes && !self.is_ahead && !findings.problems.is_empty() {
                return Err(Error::Problems(findings.problems.sentences()));
            }
            match gathered.full() {
                Some(batch) => self.send(Part::Messages(batch)),
                None => Ok(()),
            }
        };
        let mut read = Ok(());
        if let Some(files) = &channel.files {
            read = files.messages(
                channel.first,
                &mut findings,
                &mut |sequence, record, found| {
                    if !is_whole(found) {
                        return Err(Error::Reading(String::new()));
                    }
                    if before.count > 0 && sequence <= before.last.0 {
                        return ensure_same(name, &before, &record);
                    }
                    if let Some(why) = contradiction(channel, sequence, &record) {
                        found.problems.add(why);
                    }
                    let bytes = record.len();
                    let message = reader.read(sequence.cast_signed(), record);
                    take(sequence, bytes, message, found)
                },
            );
        }
        // It is of the files that are read.
        if let Err(Error::Store(why)) = read {
            read = Err(Error::Former(why));
        }
        for (sequence, record) in &channel.added {
            if read.is_ok() {
                let message = reader.read_plain(sequence.cast_signed(), record.clone());
                read = take(*sequence, record.len(), message, &mut findings);
            }
        }
        if self.is_ahead
            && let Err(Error::Former(why)) = &read
        {
            // Limits of the former server remove files meanwhile. What has come of it counts: it is written already.
            findings.note(format!(
                "channel {name:?} is not copied ahead to its end yet: {why}"
            ));
            read = Ok(());
        }
        if !is_whole(&findings) {
            // It may be whole the next time, and is reported if it is not at the end.
            read = Ok(());
            let problems = std::mem::take(&mut findings.problems).sentences();
            for problem in problems {
                findings.note(problem);
            }
        }
        self.findings = findings;
        read?;
        if let Some(batch) = gathered.rest() {
            self.send(Part::Messages(batch))?;
        }
        if reader.lacks_key() && !self.not_encrypted {
            self.findings.problems.add(lacks_key(name));
        }
        self.stop_at_problems()?;
        Ok(Channel {
            name: name.clone(),
            max_sequence: channel.last,
            totals: reader.totals(),
        })
    }
}

/// A log that says something else of a message is not one of the cluster that the store is of.
fn contradiction(channel: &Planned<'_>, sequence: u64, record: &Bytes) -> Option<String> {
    let expected = channel.expected.iter();
    let mut expected = expected.filter(|it| it.message.sequence == sequence);
    let other = expected.find(|it| {
        let stored = delivery(record.clone());
        stored.is_ok_and(|stored| stored.published_at != it.message.at)
    })?;
    Some(format!(
        "channel {:?}, message {sequence}: the store that is imported has another one than the log in {}, so they are not of one \
         cluster; name the directories of one cluster, and the store of each node with its own log (STORE:LOG)",
        channel.name,
        other.log.display()
    ))
}

/// The last message that was copied must be the one that is there now.
fn ensure_same(name: &ChannelName, before: &Totals, record: &Bytes) -> Result<(), Error> {
    let stored = delivery(record.clone());
    let is_same = stored.is_ok_and(|stored| {
        let at = Timestamp(stored.published_at);
        at == before.last_published_at || before.raised_times > 0 && at < before.last_published_at
    });
    if is_same {
        Ok(())
    } else {
        Err(Error::Problems(vec![made_anew(name)]))
    }
}
