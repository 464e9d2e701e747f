//! The size of things in memory, for every bound that is in bytes. A field that is not counted here is one that a
//! client can make as large as NATS lets it, so each type is taken apart field by field, and a new field does not
//! compile before it is counted.

use super::batch::{ClientRow, SubscriptionRow};
use super::ids::{ChannelName, ClientId, DurableName, QueueName, Subject};
use super::members::Member;
use super::message::Message;
use super::outbound::{Outbound, Reply};
use super::rejection::Rejection;
use super::request::{Ack, Connect, Leave, Publish, Publisher, Request, Subscribe};

/// What anything costs beside its text and data: itself, its allocations, and its places in queues and maps.
pub(super) const OVERHEAD_BYTES: usize = 256;

/// In bytes.
pub(super) fn message(message: &Message) -> usize {
    OVERHEAD_BYTES + message.bytes()
}

/// In bytes, with the subject that it is to be answered on.
pub(super) fn request(request: &Request) -> usize {
    OVERHEAD_BYTES
        + match request {
            Request::Connect { request, reply } => connect(request) + subject(reply.as_ref()),
            Request::Publish { request, reply } => publish(request) + subject(reply.as_ref()),
            Request::Subscribe { request, reply } => subscribe(request) + subject(reply.as_ref()),
            Request::Unsubscribe { request, reply }
            | Request::CloseSubscription { request, reply } => {
                leave(request) + subject(reply.as_ref())
            }
            Request::CloseClient { client_id, reply } => client_id.len() + subject(reply.as_ref()),
            Request::Ping {
                connection_id,
                reply,
            } => connection_id.0.len() + reply.as_str().len(),
            Request::Ack(Ack {
                ack_inbox,
                channel,
                sequence: _,
            }) => ack_inbox.len() + channel.len(),
            Request::Answered { answer, reply } => answer_bytes(answer) + reply.as_str().len(),
            Request::AlreadyStored { request, reply } => publish(request) + subject(Some(reply)),
        }
}

/// In bytes. A delivery counts its message, although others may hold it, too.
pub(super) fn outbound(outbound: &Outbound) -> usize {
    match outbound {
        Outbound::Reply { to, reply } => OVERHEAD_BYTES + to.as_str().len() + answer_bytes(reply),
        Outbound::Deliver {
            inbox,
            channel,
            message: delivered,
            redelivery_count: _,
            no_responders_to,
        } => {
            let no_responders_to = no_responders_to
                .as_ref()
                .map_or(0, |inbox| inbox.as_str().len());
            message(delivered) + inbox.as_str().len() + channel.as_str().len() + no_responders_to
        }
        Outbound::Probe { probe: _, inbox } => OVERHEAD_BYTES + inbox.as_str().len(),
    }
}

/// In bytes, with the client's ID.
pub(super) fn client(id: &ClientId, row: Option<&ClientRow>) -> usize {
    let row = row.map_or(0, |row| {
        let ClientRow {
            connection_id,
            heartbeat_inbox,
            protocol: _,
            ping_interval: _,
            ping_max_out: _,
            connected_at: _,
            heartbeat: _,
        } = row;
        connection_id.0.len() + heartbeat_inbox.as_str().len()
    });
    OVERHEAD_BYTES + id.as_str().len() + row
}

/// In bytes, of what is kept of a subscription while it is there.
pub(super) fn member(member: &Member) -> usize {
    // It is found in four ways.
    4 * OVERHEAD_BYTES
        + member.client_id.as_str().len()
        + member.inbox.as_str().len()
        + member.ack_inbox.as_str().len()
}

/// In bytes.
pub(super) fn subscription(row: Option<&SubscriptionRow>) -> usize {
    let row = row.map_or(0, |row| {
        let SubscriptionRow {
            position: _,
            client_id,
            inbox,
            ack_inbox,
            max_in_flight: _,
            ack_wait: _,
            online: _,
            since: _,
        } = row;
        client_id.as_str().len() + inbox.as_str().len() + ack_inbox.as_str().len()
    });
    OVERHEAD_BYTES + row
}

/// In bytes, of the names alone.
pub(super) fn position_names(
    durable_name: Option<&DurableName>,
    queue_group: Option<&QueueName>,
) -> usize {
    OVERHEAD_BYTES
        + durable_name.map_or(0, |name| name.as_str().len())
        + queue_group.map_or(0, |name| name.as_str().len())
}

fn connect(request: &Connect) -> usize {
    let Connect {
        client_id,
        heartbeat_inbox,
        protocol: _,
        connection_id,
        ping_interval: _,
        ping_max_out: _,
    } = request;
    client_id.as_str().len() + heartbeat_inbox.as_str().len() + connection_id.0.len()
}

fn publish(request: &Publish) -> usize {
    let Publish {
        publisher,
        guid,
        channel,
        reply,
        data,
    } = request;
    let publisher = match publisher {
        Publisher::Connection(connection) => connection.0.len(),
        Publisher::Client(client_id) => client_id.len(),
    };
    publisher + guid.as_str().len() + channel.as_str().len() + reply.len() + data.len()
}

fn subscribe(request: &Subscribe) -> usize {
    let Subscribe {
        client_id,
        channel,
        inbox,
        queue_group,
        durable_name,
        max_in_flight: _,
        ack_wait: _,
        start: _,
        ack_token: _,
    } = request;
    client_id.as_str().len()
        + channel.as_str().len()
        + inbox.as_str().len()
        + queue_group.as_ref().map_or(0, |name| name.as_str().len())
        + durable_name.as_ref().map_or(0, |name| name.as_str().len())
}

fn leave(request: &Leave) -> usize {
    let Leave {
        client_id,
        channel,
        inbox,
    } = request;
    client_id.len() + channel.as_str().len() + inbox.len()
}

fn answer_bytes(reply: &Reply) -> usize {
    match reply {
        Reply::Connected {
            client_id,
            protocol: _,
            ping_interval: _,
            ping_max_out: _,
        } => client_id.as_str().len(),
        Reply::Published(guid) => guid.as_str().len(),
        Reply::PublishRefused(guid, why) => guid.len() + rejection(why),
        Reply::Subscribed { ack_inbox } => ack_inbox.as_str().len(),
        Reply::ConnectRefused(why)
        | Reply::SubscribeRefused(why)
        | Reply::LeaveRefused(why)
        | Reply::CloseRefused(why)
        | Reply::PingRefused(why) => rejection(why),
        Reply::Left | Reply::ClientClosed | Reply::Pong => 0,
    }
}

fn rejection(why: &Rejection) -> usize {
    let length = |name: &ChannelName| name.as_str().len();
    if let Rejection::CaseClash { name, existing } = why {
        length(name) + length(existing)
    } else {
        0
    }
}

fn subject(subject: Option<&Subject>) -> usize {
    subject.map_or(0, |subject| subject.as_str().len())
}
