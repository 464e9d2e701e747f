//! Health, role and monitoring over HTTP and HTTPS; read-only, without authentication, and nothing in it is secret. What
//! operators change ([`api`]) takes a token, and so does what people look at ([`console`]).
//!
//! Fed by a watch on [`Status`](crate::monitoring::status::Status) and by the clock: it neither asks the database nor NATS,
//! so that it answers while both are away. Only lists of clients and channels are asked for, from the node's
//! [`Reports`](crate::monitoring::reports::Reports), and NATS' own pages, from the nats-server that this server runs. [`server`]
//! lists the paths.

mod admission;
mod answer_budget;
mod api;
mod arrivals;
mod channelsz;
mod clientsz;
mod connection;
pub mod console;
pub mod error;
mod failures;
mod format;
mod health;
mod index;
mod listener;
mod metrics;
mod nats_pages;
mod paging;
mod process;
pub mod server;
mod serverz;
mod storez;
mod subscription;
mod tls;
mod view;

pub use api::Api;
pub use console::Console;
pub use error::Error;
pub use server::Server;
pub use tls::Certificate;
