//! Refusals that a client sees. An ordinary answer, not an error; the exact texts are in `protocol::rejection`.

use bytestring::ByteString;

use super::ids::ChannelName;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    InvalidConnectRequest,
    InvalidClientId,
    ClientRegistered,
    InvalidPublish,
    InvalidSubscribe,
    ClientIdMissing,
    InvalidAckWait,
    InvalidMaxInFlight,
    InvalidStartPosition,
    InvalidChannel,
    UnknownClient,
    InvalidDurableName,
    DuplicateDurable,
    InvalidLeave,
    UnknownChannel,
    UnknownSubscription,
    InvalidClose,
    ClientReplaced,
    /// More clients connect than the rate allows.
    TooManyConnects,
    TooManyClients,
    TooManyChannels,
    TooManySubscriptions,
    /// Postgres refuses to store it, for this reason.
    NotStored(ByteString),
    /// More requests of this client wait than may.
    TooMuchWaits,
    /// A policy keeps what is in the channel, and it is full.
    ChannelFull,
    /// Another channel has this name in other letters.
    CaseClash {
        name: ChannelName,
        existing: ChannelName,
    },
}
