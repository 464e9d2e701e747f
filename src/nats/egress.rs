//! What the core wants sent, published in its order on the node's one connection. Whether the node is still
//! trusted to send is for the caller to check before each message.

use async_nats::{PublishErrorKind, Subject};
use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::connection::Connection;
use super::error::Error;
use super::probes::ProbeInbox;
use crate::core::{Outbound, ids};
use crate::protocol::{Subjects, encode};

/// Payloads are cut from blocks of this size.
const BLOCK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct Egress {
    connection: Connection,
    connected: watch::Receiver<bool>,
    subjects: Subjects,
    probes: ProbeInbox,
    buffer: BytesMut,
}

impl Egress {
    /// `probes`: the inbox of the ingress that reads the answers.
    pub fn new(connection: Connection, subjects: Subjects, probes: ProbeInbox) -> Self {
        let connected = connection.connected();
        let buffer = BytesMut::with_capacity(BLOCK_BYTES);
        Self {
            connection,
            connected,
            subjects,
            probes,
            buffer,
        }
    }

    /// Hands a message to the connection; waits while too many wait there for the socket. Does not wait for
    /// NATS: a burst leaves in few writes.
    ///
    /// While NATS is not connected, and when the message is larger than NATS takes, the message is dropped and
    /// counted: deliveries are made again when their ack wait is over, and whoever waits for a reply sees a
    /// timeout, as with NATS Streaming. Fails only when the connection is gone for good.
    ///
    /// Cancelled while it waits, it has not sent the message.
    pub async fn send(&mut self, message: Outbound) -> Result<(), Error> {
        match message {
            Outbound::Reply { to, reply } => {
                let payload = encode::reply(&reply, &self.subjects, &mut self.buffer);
                if self.fits(&payload) {
                    return self.publish(&to, None, payload).await;
                }
                tracing::error!(
                    size_bytes = payload.len(),
                    max_bytes = self.connection.max_payload(),
                    "a reply is larger than the NATS server allows; raise its max_payload"
                );
                Ok(())
            }
            Outbound::Deliver {
                inbox,
                channel,
                message,
                redelivery_count,
            } => {
                let payload =
                    encode::delivery(&channel, &message, redelivery_count, &mut self.buffer);
                if self.fits(&payload) {
                    return self.publish(&inbox, None, payload).await;
                }
                tracing::error!(
                    channel = channel.as_str(),
                    sequence = message.sequence.0,
                    size_bytes = payload.len(),
                    max_bytes = self.connection.max_payload(),
                    "a message is larger than the NATS server allows and cannot be delivered; raise its \
                     max_payload"
                );
                Ok(())
            }
            Outbound::Probe { probe, inbox } => {
                let reply_to = self.probes.reply_to(probe);
                self.publish(&inbox, Some(reply_to), Bytes::new()).await
            }
        }
    }

    fn fits(&self, payload: &Bytes) -> bool {
        let fits = payload.len() <= self.connection.max_payload();
        if !fits {
            self.connection.counters().add_oversized();
        }
        fits
    }

    async fn publish(
        &mut self,
        to: &ids::Subject,
        reply_to: Option<Subject>,
        payload: Bytes,
    ) -> Result<(), Error> {
        if !self.connection.is_connected() {
            self.connection.counters().add_unsent();
            return Ok(());
        }
        let to = Subject::from_utf8(to.to_text().into_bytes()).expect("a subject is text");
        let client = self.connection.client();
        let publish = async {
            match reply_to {
                Some(reply_to) => client.publish_with_reply(to, reply_to, payload).await,
                None => client.publish(to, payload).await,
            }
        };
        tokio::select! {
            biased;
            published = publish => match published.map_err(|error| error.kind()) {
                Ok(()) => Ok(()),
                // Another server of the cluster, with a lower limit, since it was checked.
                Err(PublishErrorKind::MaxPayloadExceeded) => {
                    self.connection.counters().add_oversized();
                    Ok(())
                }
                Err(PublishErrorKind::InvalidSubject) => {
                    tracing::error!("the NATS client library refuses a subject that this server takes");
                    self.connection.counters().add_unsent();
                    Ok(())
                }
                Err(PublishErrorKind::Send) => Err(Error::Closed),
            },
            // The queue is full and will not move before NATS is back.
            lost = self.connected.wait_for(|connected| !connected) => match lost {
                Ok(_) => {
                    self.connection.counters().add_unsent();
                    Ok(())
                }
                Err(_) => Err(Error::Closed),
            },
        }
    }
}
