//! A running server of NATS Streaming as a source, of whatever kind its store is: what its clients could have, and what its
//! monitoring pages show.
//!
//! | file | what it knows |
//! |---|---|
//! | `pages` | the monitoring pages |
//! | `client` | a client of the former server, which gets the messages |
//! | `error` | why it cannot be read |
//! | `channel` | what is known of a channel, and how far it has come |
//! | `order` | which message of a channel has to come next |
//! | `running` | whether it is there, and what it answers |
//! | `following` | reads all channels, follows them until the former server has gone, and says what there was |

mod channel;
mod client;
mod error;
mod following;
mod order;
mod pages;
mod running;

pub use pages::Monitor;
pub(super) use running::Running;
