//! Takes over what nats-streaming-server keeps in Postgres or in files: reads its tables as of one moment, or a directory
//! that nobody has open, and writes that into empty tables of ours while holding the lock that makes a server active. So no server of ours serves meanwhile; that
//! none of the former ones does is made as sure as their stores and NATS allow. Nothing is written to a former store.
//!
//! What rows become is decided in [`crate::former`].
//!
//! | file | what |
//! |---|---|
//! | `run` | the whole of it: read this first |
//! | `checks` | whether the former server is gone, and whose tables these are |
//! | `source` | tables or files |
//! | `reading` | reads all rows, and hands messages on in batches |
//! | `files` | the same for a directory |
//! | `sink` | the leader session, with one transaction on it |
//! | `report` | what there was |

mod checks;
mod files;
mod reading;
mod report;
mod run;
mod sink;
mod source;

pub use reading::Told;
pub use report::{Imported, ImportedChannel};
pub use run::{Error, Import};
pub use source::Source;
