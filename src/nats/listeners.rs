//! Whether anybody listens on a subject: a question for people who are about to start a server.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::connection::Connection;
use super::error::Error;
use super::outgoing::Class;
use super::wire::{Message, encode};

impl Connection {
    /// True also for listeners that do not answer within `limit`. Sends them an empty request.
    pub async fn has_listener(&self, subject: &str, limit: Duration) -> Result<bool, Error> {
        let mut answers = self.inbox();
        let reply = self.new_subject();
        answers.subscribe(&reply)?;
        let mut out = BytesMut::new();
        encode::publish(subject.as_bytes(), Some(reply.as_bytes()), b"", &mut out);
        self.link().send(Class::Urgent, &mut out, 1);
        match timeout(limit, answers.ready()).await {
            Err(_) => Ok(true),
            Ok(ready) => {
                ready?;
                let answers = answers.take().unwrap_or_default();
                // NATS itself answers for nobody.
                Ok(!answers.iter().any(Message::is_no_responders))
            }
        }
    }
}
