//! Requests from script lines, and answers as script lines.

use std::time::Duration;

use bytestring::ByteString;
use stanby::core::Reply;
use stanby::core::ids::{
    ChannelName, ClientId, ConnectionId, DurableName, Guid, QueueName, Sequence, Subject,
};
use stanby::core::request::{Connect, Publish, Publisher, StartPosition, Subscribe};

use crate::script::{Line, duration};

pub(crate) fn answer(reply: Reply) -> String {
    match reply {
        Reply::Connected { .. } => "connected".into(),
        Reply::ConnectRefused(why) => format!("connect refused {why:?}"),
        Reply::Published(guid) => format!("published {guid}"),
        Reply::PublishRefused(guid, why) => {
            format!("publish refused {} {why:?}", String::from_utf8_lossy(&guid))
        }
        Reply::Subscribed { .. } => "subscribed".into(),
        Reply::SubscribeRefused(why) => format!("subscribe refused {why:?}"),
        Reply::Left => "left".into(),
        Reply::LeaveRefused(why) => format!("leave refused {why:?}"),
        Reply::ClientClosed => "closed".into(),
        Reply::CloseRefused(why) => format!("close refused {why:?}"),
        Reply::Pong => "pong".into(),
        Reply::PingRefused(why) => format!("ping refused {why:?}"),
    }
}

pub(crate) fn subject(text: &str) -> Subject {
    Subject::parse(text.to_owned().into()).expect("scenarios use valid subjects")
}

pub(crate) fn client_id(text: &str) -> ClientId {
    ClientId::parse(text.to_owned().into()).expect("scenarios use valid client IDs")
}

pub(crate) fn connection_id(text: &str) -> ConnectionId {
    ConnectionId(format!("conn-{text}").into())
}

/// `connect alice connection=other`: the same client ID from another connection, with its own inbox.
pub(crate) fn connect(who: &str, line: &mut Line) -> Result<Connect, String> {
    let connection = line.take("connection").unwrap_or(who.to_owned());
    let protocol = line.take_number("protocol", 1)?;
    Ok(Connect {
        client_id: client_id(who),
        heartbeat_inbox: subject(&format!("hb.{connection}")),
        protocol,
        connection_id: if protocol == 0 {
            ConnectionId::default()
        } else {
            connection_id(&connection)
        },
        ping_interval: 5,
        ping_max_out: 88,
    })
}

pub(crate) fn publish(who: &str, guid: String, line: &mut Line) -> Result<Publish, String> {
    let by_client = line.take("protocol").is_some();
    let connection = line.take("connection").unwrap_or(who.to_owned());
    Ok(Publish {
        publisher: if by_client {
            Publisher::Client(who.to_owned().into())
        } else {
            Publisher::Connection(connection_id(&connection))
        },
        guid: Guid::parse(guid.into()).ok_or("a guid is not empty")?,
        channel: ChannelName::parse(line.word(2)?.to_owned().into()).ok_or("no channel name")?,
        reply: line.take("reply").unwrap_or_default().into(),
        data: line.word(3)?.to_owned().into(),
    })
}

pub(crate) fn subscribe(who: &str, name: &str, line: &mut Line) -> Result<Subscribe, String> {
    let start = line.take("start").unwrap_or("new".into());
    let start = match start.split_once(':') {
        Some(("seq", number)) => {
            StartPosition::Sequence(Sequence(number.parse().map_err(|_| "not a sequence")?))
        }
        Some(("ago", time)) => StartPosition::TimeDelta(
            i64::try_from(duration(time)?.as_nanos()).map_err(|_| "too long ago")?,
        ),
        Some(("ahead", time)) => StartPosition::TimeDelta(
            -i64::try_from(duration(time)?.as_nanos()).map_err(|_| "too far ahead")?,
        ),
        _ => match start.as_str() {
            "new" => StartPosition::NewOnly,
            "last" => StartPosition::LastReceived,
            "first" => StartPosition::First,
            other => return Err(format!("{other} is no start position")),
        },
    };
    let named = |text: Option<String>| text.map(ByteString::from);
    Ok(Subscribe {
        client_id: client_id(who),
        channel: ChannelName::parse(line.word(2)?.to_owned().into()).ok_or("no channel name")?,
        inbox: subject(&format!("inbox.{name}")),
        queue_group: named(line.take("queue")).and_then(QueueName::parse),
        durable_name: named(line.take("durable")).and_then(DurableName::parse),
        max_in_flight: line.take_number("max-in-flight", 1024)?,
        ack_wait: line
            .take_duration("ack-wait")?
            .unwrap_or(Duration::from_secs(30)),
        start,
        ack_token: 0,
    })
}
