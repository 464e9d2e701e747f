//! What clients are answered whose requests cannot be stored.

use crate::core::outbound::{Outbound, Reply};
use crate::core::refusal::Refusal;
use crate::core::rejection::Rejection;
use crate::core::request::Request;

pub(super) fn not_stored(refusal: &Refusal) -> Rejection {
    Rejection::NotStored(refusal.to_string().into())
}

pub(super) const UNASKED: &str = "what no client has asked for";

/// Whose request it was, and its answer when it wants one.
pub(super) fn refuse(request: Request, refusal: &Refusal) -> (String, Option<Outbound>) {
    let rejection = not_stored(refusal);
    let (what, answer, reply) = match request {
        Request::Connect { request, reply } => (
            format!("a connect of client {}", request.client_id),
            Reply::ConnectRefused(rejection),
            reply,
        ),
        Request::Publish { request, reply } => (
            format!("a publish to channel {}", request.channel),
            Reply::PublishRefused(request.guid.into(), rejection),
            reply,
        ),
        Request::Subscribe { request, reply } => {
            let (client, channel) = (request.client_id, request.channel);
            let what = format!("a subscribe of client {client} on channel {channel}");
            (what, Reply::SubscribeRefused(rejection), reply)
        }
        Request::Unsubscribe { request, reply } | Request::CloseSubscription { request, reply } => {
            let (client, channel) = (request.client_id, request.channel);
            let what = format!("the end of a subscription of client {client} on channel {channel}");
            (what, Reply::LeaveRefused(rejection), reply)
        }
        Request::CloseClient { client_id, reply } => (
            format!("the close of client {client_id}"),
            Reply::CloseRefused(rejection),
            reply,
        ),
        Request::Ack(ack) => {
            let what = format!(
                "an ack of message {} of channel {}",
                ack.sequence, ack.channel
            );
            return (what, None);
        }
        Request::Ping { .. } | Request::Answered { .. } | Request::AlreadyStored { .. } => {
            return (UNASKED.to_owned(), None);
        }
    };
    let outbound = reply.map(|to| Outbound::Reply { to, reply: answer });
    (what, outbound)
}
