//! Flags and environment to one validated [`Config`].
//!
//! [`arguments`] turns the spellings of `nats-streaming-server` into ours, [`flags`] says which flags there
//! are, [`serve`] checks them and makes the `Config`. Every default that is not the core's lives here. Nothing
//! here connects to anything or reads a file.

pub mod arguments;
pub mod duration;
pub mod error;
pub mod flags;
pub mod nats;
pub mod secret;
pub mod serve;
pub mod size;
mod spellings;

pub use error::Error;
pub use flags::ServeFlags;
pub use nats::{NatsConfig, NatsFlags};
pub use secret::Secret;
pub use serve::Config;
