//! Configuration files: the format of NATS and NATS Streaming, and our own in TOML. A file becomes a list of
//! settings, each with the place where it stands; what they mean is judged where flags are judged.
//!
//! | file | what |
//! |---|---|
//! | [`value`] | positions, values, tables |
//! | [`parser`], `cursor`, `scalar` | the text of a NATS file to a table |
//! | `streaming`, `limits` | the keys of NATS Streaming, and those of nats-server that matter here |
//! | `native` | our own format |
//! | [`settings`] | what a file says, in the end |
//! | `reader` | the file system and the environment |

mod cursor;
mod limits;
mod native;
pub mod parser;
mod reader;
mod scalar;
pub mod settings;
mod streaming;
pub mod value;

pub use native::render;
pub use reader::{Part, read, understand};
pub use settings::{Found, Setting};
pub use value::SourcePosition;
