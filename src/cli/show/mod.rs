//! What commands show that only look: they read the tables, so that they answer with or without a server.

pub(super) mod channels;
pub(super) mod clients;
pub(super) mod dead_letters;
pub(super) mod durables;
mod grid;
pub(super) mod look;
pub(super) mod messages;
pub(super) mod pages;
pub(super) mod takeover;
mod words;

pub(super) use crate::amounts::{bytes, duration};
pub(super) use grid::{Column, Grid, cut, facts, width, wrapped};
pub(super) use words::{or_dash, shown};
