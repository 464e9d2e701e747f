//! Takes over what nats-streaming-server keeps: reads its tables as of one moment, a directory that nobody has open, or a
//! server that runs until it has gone, and writes that into empty tables of ours while holding the lock that makes a server
//! active. So no server of ours serves meanwhile; that none of the former ones does is made as sure as their stores and NATS
//! allow. Nothing is written to a former store.
//!
//! What rows become is decided in [`crate::former`].
//!
//! | file | what |
//! |---|---|
//! | `run` | the whole of it: read this first |
//! | `ahead` | copies while the former server still runs |
//! | `checks` | whether the former server is gone, and whose tables these are |
//! | `source` | tables, files or a server |
//! | `reading` | reads all rows, and hands messages on in batches |
//! | `gathered` | messages of one batch |
//! | `files` | the same for a directory |
//! | `stan` | the same for a server that runs |
//! | `sink` | the leader session, with one transaction on it |
//! | `report` | what there was |

mod ahead;
mod checks;
mod files;
mod gathered;
mod reading;
mod report;
mod run;
mod sink;
mod source;
mod stan;

pub use reading::ImportProgress;
pub use report::{Imported, ImportedChannel};
pub use run::{Error, Import};
pub use source::Source;
pub use stan::Monitor;
