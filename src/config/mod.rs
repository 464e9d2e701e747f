//! (being written)

pub mod database;
