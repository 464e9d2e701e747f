//! NATS: what clients send becomes events of the core, what the core wants sent is published.
//!
//! All of it runs over one connection, because NATS keeps the order of messages per connection: a response
//! that is published before a delivery arrives before it. The adapter decides nothing; whether the node may
//! act on an event or send at all (role, trust window) is the node's business.
//!
//! | file | what |
//! |---|---|
//! | [`connection`] | the connection: settings, health, round trips |
//! | [`ingress`] | subscriptions to events, in an order that a close can rely on |
//! | [`egress`] | replies, deliveries and probes to publishes |
//! | [`probes`] | the inbox that answers to probes come to |
//! | [`counters`] | what went wrong, for the metrics |
//! | [`error`] | what can fail |

pub mod connection;
pub mod counters;
pub mod egress;
pub mod error;
pub mod ingress;
pub mod probes;

pub use connection::{Connection, Settings};
pub use egress::Egress;
pub use error::Error;
pub use ingress::Ingress;
