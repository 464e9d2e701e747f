//! The adapters against real servers, and whole nodes.

mod nats;
