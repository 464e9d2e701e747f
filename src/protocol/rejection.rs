//! The one table of refusals: clients compare these texts, down to the misspelling in one of them.

use bytes::Bytes;

use crate::core::rejection::Rejection;

pub fn text(rejection: &Rejection) -> Bytes {
    let text = match rejection {
        Rejection::InvalidConnectRequest => "stan: invalid connection request",
        Rejection::InvalidClientId => {
            "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed"
        }
        Rejection::ClientRegistered => "stan: clientID already registered",
        Rejection::InvalidPublish => "stan: invalid publish request",
        Rejection::InvalidSubscribe => "stan: invalid subscription request",
        Rejection::ClientIdMissing => "stan: clientID missing",
        Rejection::InvalidAckWait => "stan: invalid ack wait time, should be >= 1s",
        Rejection::InvalidMaxInFlight => "stan: invalid MaxInflight, should be >= 1",
        Rejection::InvalidStartPosition => "stan: invalid start position",
        Rejection::InvalidChannel => "stan: invalid subject",
        Rejection::UnknownClient => "stan: unknown clientID",
        Rejection::InvalidDurableName => {
            "stan: durable name of a durable queue subscriber can't contain the character ':'"
        }
        Rejection::DuplicateDurable => "stan: duplicate durable registration",
        Rejection::InvalidLeave => "stan: invalid unsubscribe request",
        Rejection::UnknownChannel => "stan: unknown channel",
        Rejection::UnknownSubscription => "stan: invalid subscription",
        Rejection::InvalidClose => "stan: invalid close request",
        Rejection::ClientReplaced => "client has been replaced or is no longer registered",
        Rejection::TooManyConnects => {
            "stan: too many clients connect at once, try again in a second"
        }
        Rejection::TooManyClients => "stan: too many clients",
        Rejection::TooManyChannels => "too many channels",
        Rejection::TooManySubscriptions => "too many subscriptions per channel",
        Rejection::ChannelFull => {
            "stan: not stored: the channel is full, and a policy keeps what is in it"
        }
        Rejection::TooMuchWaits => {
            "stan: not carried out: too much of this client waits already, send it again"
        }
        Rejection::NotStored(why) => return Bytes::from(format!("stan: not stored: {why}")),
        Rejection::CaseClash { name, existing } => {
            return Bytes::from(format!(
                "rejecting channel \"{name}\" because channel \"{existing}\" alreay exists \
                 (different cases not allowed)"
            ));
        }
    };
    Bytes::from_static(text.as_bytes())
}
