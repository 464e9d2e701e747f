//! The adapters against real servers, and whole nodes: real processes and real sockets.

mod ack_inboxes;
mod behaviour;
mod bench;
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
mod monitoring;
mod nats;
mod nats_flow;
mod nats_hostile;
mod nats_logins;
mod nats_refusals;
mod nats_tls;
mod notify;
mod outages;
mod pair;
mod permissions;
mod process;
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
