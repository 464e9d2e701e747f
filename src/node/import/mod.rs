//! Takes over what nats-streaming-server keeps in Postgres: reads its tables as of one moment, and writes them into
//! empty ones of ours while holding the lock that makes a server active. So no server of ours serves meanwhile; that
//! none of the former ones does is made as sure as their tables and NATS allow. Nothing is written to the former tables.
//!
//! What rows become is decided in [`crate::former`].
//!
//! | file | what |
//! |---|---|
//! | `run` | the whole of it: read this first |
//! | `checks` | whether the former server is gone, and whose tables these are |
//! | `reading` | reads all rows, and hands messages on in batches |
//! | `sink` | the leader session, with one transaction on it |
//! | `report` | what there was |

mod checks;
mod reading;
mod report;
mod run;
mod sink;

pub use report::{Imported, ImportedChannel};
pub use run::{Error, Import};
