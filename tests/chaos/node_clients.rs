//! A publisher and a durable subscriber that use the unmodified Node client of NATS Streaming, each a process of its own,
//! as the tests of clients have them.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::pair::LIMIT;
use crate::script::Script;

/// No other client of a world has to do with it.
pub(crate) const NODE_CHANNEL: &str = "ledger";

/// Publishes that may be without their acks.
const WINDOW: &str = "20";

pub(crate) struct NodeClients {
    publisher: Script,
    durable: Script,
}

/// What the two saw.
pub(crate) struct Saw {
    pub(crate) published: i64,
    pub(crate) acked: i64,
    /// Errors, and whatever tells an application that its connection is lost.
    pub(crate) troubles: Vec<String>,
    /// Sequences and contents, in the order of sequences.
    pub(crate) received: Vec<(i64, Vec<u8>)>,
}

#[derive(Deserialize)]
struct Published {
    published: i64,
    acked: i64,
    errors: Vec<String>,
    lost: Vec<String>,
}

#[derive(Deserialize)]
struct Received {
    messages: Vec<(i64, String)>,
    lost: Vec<String>,
}

impl NodeClients {
    pub(crate) async fn start(directory: &Path, nats_url: &str) -> Self {
        let start = |script: &str, more: &[&str]| {
            let arguments = [&[script, nats_url, "own-cluster", NODE_CHANNEL], more].concat();
            Script::start(Path::new("node"), &arguments, directory)
        };
        let mut durable = start("durable.js", &[]);
        durable.wait_for("subscribed", LIMIT).await;
        let publisher = start("publisher.js", &["0", WINDOW]);
        Self { publisher, durable }
    }

    /// Waits for a hundred acks that have yet to come.
    pub(crate) async fn progress(&mut self) {
        self.publisher.wait_for_more(1, LIMIT).await;
    }

    /// Returns when everything is acked and has arrived.
    pub(crate) async fn stop(mut self) -> Saw {
        self.publisher.tell("stop").await;
        let Published {
            published,
            acked,
            errors,
            mut lost,
        } = last_of(self.publisher).await;
        self.durable.tell(&format!("last {published}")).await;
        let received: Received = last_of(self.durable).await;
        lost.extend(errors);
        lost.extend(received.lost);
        let mut messages: Vec<_> = received
            .messages
            .into_iter()
            .map(|(sequence, text)| (sequence, text.into_bytes()))
            .collect();
        messages.sort();
        Saw {
            published,
            acked,
            troubles: lost,
            received: messages,
        }
    }
}

async fn last_of<T: DeserializeOwned>(script: Script) -> T {
    let lines = script.finish(LIMIT).await;
    let last = lines.last().expect("the script says what it did");
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
}
