//! Looking for messages in a channel: by who published them, by text, by what stands in their JSON. Nothing is consumed. The
//! command line goes forward for as long as it takes; a page goes backward from the newest one, and only so far at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::Clock;
use crate::core::ids::{ChannelId, LoadId, Sequence};
use crate::core::load::{Load, LoadQuery, Loaded, Unreadable};
use crate::core::message::Message;
use crate::core::time::Timestamp;
use crate::store::{Error, Store};

/// Messages of one read.
const STEP: u64 = 1000;
const STEP_BYTES: usize = 8 << 20;

/// How much of the messages that a page is to show is kept.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// What one search looks at before it says how far it has come.
const LOOKED_AT_MAX: u64 = 50_000;
const NANOS_MAX: u64 = 2_000_000_000;

/// What a message has to be like; what is not given does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub publisher: Option<String>,
    /// Somewhere in the payload.
    pub text: Option<String>,
    /// All of them.
    pub json: Vec<JsonPath>,
}

impl Wanted {
    pub fn is_everything(&self) -> bool {
        self.publisher.is_none() && self.text.is_none() && self.json.is_empty()
    }

    pub fn matches(&self, message: &Message) -> bool {
        let publisher = self.publisher.as_deref();
        if publisher.is_some_and(|publisher| publisher != message.client_id.as_str()) {
            return false;
        }
        if let Some(text) = &self.text
            && memchr::memmem::find(&message.data, text.as_bytes()).is_none()
        {
            return false;
        }
        if self.json.is_empty() {
            return true;
        }
        let value: Result<serde_json::Value, _> = serde_json::from_slice(&message.data);
        value.is_ok_and(|value| self.json.iter().all(|path| path.holds(&value)))
    }
}

/// Names of fields and numbers of elements with dots between, and what is to be found there.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<String>,
    value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has names with dots between, like customer.name=Smith")]
pub struct InvalidJsonPath;

impl std::str::FromStr for JsonPath {
    type Err = InvalidJsonPath;

    fn from_str(text: &str) -> Result<Self, InvalidJsonPath> {
        let (path, value) = match text.split_once('=') {
            Some((path, value)) => (path, Some(value.to_owned())),
            None => (text, None),
        };
        // As Postgres and jq begin one.
        let path = path.strip_prefix('$').unwrap_or(path);
        let path = path.strip_prefix('.').unwrap_or(path);
        let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
        if steps.iter().any(String::is_empty) {
            return Err(InvalidJsonPath);
        }
        Ok(Self { steps, value })
    }
}

impl JsonPath {
    fn holds(&self, root: &serde_json::Value) -> bool {
        let mut at = Some(root);
        for step in &self.steps {
            at = match at {
                Some(serde_json::Value::Object(fields)) => fields.get(step),
                Some(serde_json::Value::Array(items)) => {
                    step.parse().ok().and_then(|index: usize| items.get(index))
                }
                Some(_) | None => None,
            };
        }
        match (at, &self.value) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(serde_json::Value::String(found)), Some(wanted)) => found == wanted,
            (Some(found), Some(wanted)) => {
                serde_json::from_str(wanted).is_ok_and(|wanted: serde_json::Value| wanted == *found)
            }
        }
    }
}

/// What a search of a page has found.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest first.
    pub messages: Vec<Arc<Message>>,
    /// Rows of the part that was looked at.
    pub unreadable: Vec<Unreadable>,
    /// How many sequences that are.
    pub looked_at: u64,
    /// From here on downward nothing was looked at; `None`: that was all.
    pub rest: Option<Sequence>,
}

/// From `last` downward to `first`, up to `count` messages.
pub async fn backward(
    store: &Store,
    channel: ChannelId,
    (first, last): (Sequence, Sequence),
    wanted: &Wanted,
    count: usize,
) -> Result<Found, Error> {
    let began = Clock.now().monotonic;
    let mut found = Found::default();
    let first = first.0.max(1);
    let mut high = last.min(Sequence::LAST).0;
    while high >= first {
        let step = if wanted.is_everything() {
            (count as u64).clamp(1, STEP)
        } else {
            STEP
        };
        let low = high.saturating_sub(step - 1).max(first);
        let room = count - found.messages.len();
        let mut newest = Newest::new(room);
        newest.read(store, channel, (low, high), wanted).await?;
        found.looked_at += high - low + 1;
        found.unreadable.append(&mut newest.unreadable);
        found.messages.extend(newest.kept.into_iter().rev());
        if let Some(rest) = newest.rest {
            found.rest = Some(rest);
            return Ok(found);
        }
        high = low - 1;
        let nanos = Clock.now().monotonic.since(began).as_nanos();
        let is_enough = found.messages.len() == count
            || found.looked_at >= LOOKED_AT_MAX
            || nanos >= u128::from(NANOS_MAX);
        if high >= first && is_enough {
            found.rest = Some(Sequence(high));
            return Ok(found);
        }
    }
    Ok(found)
}

/// The newest messages of a short stretch that are wanted, as many as there is room for.
struct Newest {
    room: usize,
    kept: VecDeque<Arc<Message>>,
    kept_bytes: usize,
    /// The newest of those for which there was none.
    rest: Option<Sequence>,
    unreadable: Vec<Unreadable>,
}

impl Newest {
    fn new(room: usize) -> Self {
        Self {
            room,
            kept: VecDeque::new(),
            kept_bytes: 0,
            rest: None,
            unreadable: Vec::new(),
        }
    }

    async fn read(
        &mut self,
        store: &Store,
        channel: ChannelId,
        (low, high): (u64, u64),
        wanted: &Wanted,
    ) -> Result<(), Error> {
        let mut next = Sequence(low);
        while next.0 <= high {
            let load = Load {
                id: LoadId::default(),
                channel,
                query: LoadQuery::Range {
                    first: next,
                    last: Sequence(high),
                    count: usize::try_from(STEP).unwrap_or(usize::MAX),
                    bytes: STEP_BYTES,
                },
            };
            let Loaded::Messages {
                messages,
                unreadable,
                through,
                ..
            } = store.load(&load).await?
            else {
                return Err(Error::Failed("a page of messages is none".to_owned()));
            };
            let messages = messages.into_iter();
            for message in messages.filter(|message| wanted.matches(message)) {
                self.keep(message);
            }
            self.unreadable.extend(unreadable);
            next = through.max(next).next();
        }
        Ok(())
    }

    fn keep(&mut self, message: Arc<Message>) {
        self.kept_bytes += message.bytes();
        self.kept.push_back(message);
        while self.kept.len() > self.room || self.kept_bytes > KEPT_BYTES_MAX && self.kept.len() > 1
        {
            let Some(oldest) = self.kept.pop_front() else {
                return;
            };
            self.kept_bytes -= oldest.bytes();
            self.rest = Some(oldest.sequence);
        }
    }
}

/// The sequence of the first message at or after a time; `None`: all are older.
pub async fn since(
    store: &Store,
    channel: ChannelId,
    time: Timestamp,
) -> Result<Option<Sequence>, Error> {
    let load = Load {
        id: LoadId::default(),
        channel,
        query: LoadQuery::FirstSince(time),
    };
    let Loaded::FirstSince { first, .. } = store.load(&load).await? else {
        let why = "the time of messages cannot be looked for";
        return Err(Error::Failed(why.to_owned()));
    };
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_what_stands_in_json() {
        let value: serde_json::Value = serde_json::from_str(
            r#"{"customer": {"name": "Smith"}, "lines": [{"amount": 12}], "paid": true}"#,
        )
        .unwrap();
        for (path, expected) in [
            ("customer.name=Smith", true),
            ("$.customer.name=Smith", true),
            ("customer.name=Smit", false),
            ("lines.0.amount=12", true),
            ("lines.1.amount=12", false),
            ("lines.0.amount=12.5", false),
            ("paid=true", true),
            ("paid", true),
            ("due", false),
        ] {
            let path: JsonPath = path.parse().unwrap();
            assert_eq!(path.holds(&value), expected, "{path:?}");
        }
        assert!("a..b".parse::<JsonPath>().is_err());
        assert!("=1".parse::<JsonPath>().is_err());
    }
}
