//! What nats-streaming-server keeps in a SQL store, and what becomes of it here. Pure: rows in, rows out.
//!
//! | file | what it knows |
//! |---|---|
//! | [`records`] | its protobuf records, checked as they are read |
//! | [`pending`] | what a subscription was sent and has not acked, from several rows |
//! | [`messages`] | a stored message, as one of ours |
//! | [`encryption`] | payloads that its encryption has made |
//! | [`problems`] | what cannot be taken over |
//! | [`adopt`] | which clients, channels, subscriptions and positions all of that makes |
//!
//! Reading its tables is `store/former`'s, and when to do it `node/import`'s. `MySQL` and file stores are not known.

pub mod adopt;
pub mod encryption;
pub mod messages;
pub mod pending;
pub mod problems;
pub mod records;

pub use adopt::{Adopted, Former, adopt};
pub use encryption::Keys;
pub use problems::Problems;
