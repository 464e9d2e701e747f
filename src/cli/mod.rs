//! (being written)

pub mod dev;
