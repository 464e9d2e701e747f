//! The tables and the leader session on a real Postgres, with a database for each test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod channel_updates;
mod channel_updates_left;
mod channel_updates_mixed;
mod dropped;
mod encryption;
mod equivalence;
mod failover;
mod fixture;
mod former_files;
mod gone;
mod in_sql;
mod leadership;
mod locks;
mod migrations;
mod outbox;
mod pages;
mod paused;
mod pooler;
mod random;
mod rehearsal;
mod replay;
mod rights_in_sql;
mod sessions;
mod shared;
mod takeover;
mod unreadable;
mod views;
mod writer;
