//! `stanby bench`: puts load on servers and measures them, and draws what it found.
//!
//! | file | what |
//! |---|---|
//! | `command` | the command: a run, or a report of some |
//! | `args` | the flags, and what they may be together |
//! | `run` | one run, from the flags to what was found |
//! | `client_pool` | the clients of a run |
//! | `load`, `publisher`, `subscriber` | what they do, message by message |
//! | `line` | a NATS connection that costs little |
//! | `histogram`, `timeline` | what is noted on the way |
//! | `processes` | CPU time and memory of the servers |
//! | `ceiling` | Postgres and NATS without a server in between |
//! | `result`, `print`, `progress` | what was found, and how it is shown |
//! | `report` | runs as a page with plots |
//!
//! It judges nothing: a slow run is a result. It uses NATS and the tables as any client and any reader would, and
//! leaves its messages behind, in channels of its own.

mod args;
mod ceiling;
mod client_pool;
mod command;
mod histogram;
mod line;
mod load;
mod print;
mod processes;
mod progress;
mod publisher;
mod report;
mod result;
mod run;
mod subscriber;
mod timeline;

pub use args::BenchArgs;
pub use command::run;
