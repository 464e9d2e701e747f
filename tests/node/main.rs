//! The adapters against real servers, and whole nodes: real processes and real sockets.

mod ack_inboxes;
mod behaviour;
mod bursts;
mod cli;
mod commands;
mod doctor;
mod embed;
mod frozen;
mod hand_over;
mod health;
mod hostile;
mod http;
mod nats;
mod nats_refusals;
mod notify;
mod outages;
mod pair;
mod permissions;
mod races;
mod roles;
mod stan;
mod startup;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod takeover;
mod unreadable;
mod upgrade;
mod watch;
