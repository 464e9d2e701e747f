//! The pure core: every decision of the server, and nothing else.
//!
//! Events and the time go in, one batch of writes, outbound messages and wishes for reads come out. It does no
//! IO and has no clock, task, lock or source of chance: the same events at the same times give the same
//! outputs, so a whole server's life can be replayed in a test. Start at [`broker::Broker`].

pub mod active;
pub mod admin;
pub mod attempts;
pub mod batch;
pub mod broker;
pub mod counts;
pub mod event;
pub mod gone;
pub mod guarded;
pub mod heard;
pub mod ids;
pub mod limits;
pub mod load;
pub mod memory;
pub mod message;
pub mod nearest;
pub mod notice;
pub mod outbound;
pub mod outbox;
pub mod partition;
pub mod place;
pub mod policy;
pub mod progress;
pub mod ranges;
pub mod refusal;
pub mod regression;
pub mod rejection;
pub mod replicas;
pub mod report;
pub mod request;
pub mod savepoint;
pub mod shadow;
pub mod snapshot;
pub mod sql_acks;
pub mod standby;
pub mod stored;
pub mod takeover;
pub mod time;
pub mod unanswered;
pub mod unseen;
pub mod upload;
pub mod vacuum;

mod aside;
mod channel_limits;
mod channels;
mod commits;
mod connect_rate;
mod connecting;
mod cost;
mod deadlines;
mod delivery;
mod delivery_attempts;
mod early;
mod giving_up;
mod group;
mod holders;
mod holdings;
mod invariants;
mod loads;
mod members;
mod orphans;
mod poison;
mod publishing;
mod reach;
mod recent;
mod redelivery;
mod registry;
mod restore;
mod retention;
mod schedule;
mod start_position;
mod subscribing;
mod suspects;
mod tail;
mod turns;
mod unheard;
mod unsubscribing;

pub use broker::Broker;
pub use event::Event;
pub use notice::Notice;
pub use outbound::{Outbound, Reply};
