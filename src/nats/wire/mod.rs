//! The NATS client protocol as bytes: what comes in is cut into frames, what goes out is appended to a buffer.
//! No socket, no clock, no task; whatever arrives in whatever pieces, nothing here panics or grows past its
//! limits.
//!
//! Subjects, reply subjects and headers are bytes: NATS itself does not check that they are text, so a client
//! can send anything, and that must not cost the connection.
//!
//! | file | what |
//! |---|---|
//! | `parser` | bytes to frames, and the limits of both |
//! | `message` | one message, as a slice of what was read |
//! | `info` | what a NATS server says of itself |
//! | `encode` | what a client says |

pub mod encode;
mod info;
mod message;
mod parser;

pub(super) use encode::Hello;
pub use info::Info;
pub use message::Message;
pub use parser::{CONTROL_LINE_MAX, Frame, PAYLOAD_MAX, Parser, Violation};
