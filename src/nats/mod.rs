//! NATS: what clients send becomes events of the core, what the core wants sent is published.
//!
//! All of it runs over one connection, because NATS keeps the order of messages per connection: a response
//! that is published before a delivery arrives before it. The adapter decides nothing; whether the node may
//! act on an event or send at all (role, trust window) is the node's business.
//!
//! | file | what |
//! |---|---|
//! | [`wire`] | the NATS client protocol as bytes |
//! | [`settings`], `servers` | where NATS is and how to get in |
//! | `dial`, `tls`, `login` | one attempt to connect |
//! | `session`, `reconnect` | the life of one connection, and of all of them |
//! | [`connection`], `link` | the handles, and what they share with the task behind them |
//! | `outgoing`, `window` | what waits to be written, and how much of it may be on its way |
//! | `queue`, `budget` | messages that wait to be taken, and how much they may be |
//! | `gate` | how much each client has waiting, and whose requests are refused |
//! | [`ingress`], `request_scheduler`, `fair_queue` | requests to events, in an order that a close can rely on, and clients in turns |
//! | `overlap` | what two NATS servers deliver both, on the way from one to the other |
//! | `forbidden` | subscriptions that the NATS server refuses or takes back |
//! | `rejections` | messages that it does not take |
//! | [`egress`] | replies, deliveries and probes to publishes |
//! | [`probes`] | the inbox that answers to probes come to |
//! | `ack_tokens` | what ack inboxes end with |
//! | `listeners` | whether anybody listens on a subject |
//! | [`raw`] | a connection without a task behind it |
//! | [`counters`] | what went wrong, for the metrics |
//! | [`error`], `random` | what can fail; chance |

mod ack_tokens;
mod budget;
pub mod connection;
pub mod counters;
mod dial;
pub mod egress;
pub mod error;
mod fair_queue;
mod forbidden;
mod gate;
pub mod ingress;
mod link;
mod listeners;
mod login;
mod outgoing;
mod overlap;
pub mod probes;
mod queue;
mod random;
pub mod raw;
mod reconnect;
mod rejections;
mod request_scheduler;
mod servers;
mod session;
pub mod settings;
mod tls;
mod window;
pub mod wire;

pub use ack_tokens::AckTokens;
pub use connection::{Connection, Inbox};
pub use dial::DialError;
pub use egress::Egress;
pub use error::Error;
pub use ingress::Ingress;
pub use raw::Raw;
pub(crate) use reconnect::cuts_off_without_holding;
pub use settings::{Settings, check_files};
pub(crate) use tls::{TlsError, client_config, tls_to};
