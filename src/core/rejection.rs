//! Refusals that a client sees. An ordinary answer, not an error; the exact texts are in `protocol::rejection`.

use bytestring::ByteString;

use super::ids::ChannelName;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The connect request cannot be read, or names no inbox for heartbeats.
    InvalidConnectRequest,
    /// The client ID is empty, too long, or has other characters.
    InvalidClientId,
    /// Another connection with this client ID answers its heartbeats.
    ClientRegistered,
    /// The client is not connected, the channel is no valid name, or the request cannot be read.
    InvalidPublish,
    /// The subscribe request cannot be read, names no valid inbox, or a name in it is too long.
    InvalidSubscribe,
    /// The subscribe request names no client.
    ClientIdMissing,
    /// The ack wait is shorter than a second.
    InvalidAckWait,
    /// Max in flight is 0.
    InvalidMaxInFlight,
    /// The start position is of no known kind.
    InvalidStartPosition,
    /// The channel is no valid name, or has wildcards.
    InvalidChannel,
    /// The client has not connected, or was closed.
    UnknownClient,
    /// The durable name of a queue group has a colon.
    InvalidDurableName,
    /// Another subscription of the client uses this durable.
    DuplicateDurable,
    /// The unsubscribe or close request of a subscription cannot be read.
    InvalidLeave,
    /// There is no channel of this name to leave.
    UnknownChannel,
    /// There is no such subscription to leave.
    UnknownSubscription,
    /// The close request cannot be read, or carries no valid client ID.
    InvalidClose,
    /// A newer connection has taken this client ID, or the server has closed the client: connect again.
    ClientReplaced,
    /// More clients connect in a second than `--connect-rate` allows.
    TooManyConnects,
    /// There are as many clients as `--max-clients` allows, or their names take all the memory that they may.
    TooManyClients,
    /// There are as many channels as `--max-channels` allows.
    TooManyChannels,
    /// The channel has as many subscriptions as `--max-subs` allows, or their names take all the memory that they may.
    TooManySubscriptions,
    /// Postgres refuses to store it, for the reason named.
    NotStored(ByteString),
    /// Too many requests of this client wait to be carried out: wait for answers before sending more.
    TooMuchWaits,
    /// The channel is full, and its policy refuses new messages instead of dropping old ones.
    ChannelFull,
    /// Another channel has the same name with other capitals.
    CaseClash {
        name: ChannelName,
        existing: ChannelName,
    },
}
