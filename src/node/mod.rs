//! A node's life: the only place where the adapters meet.
//!
//! | file | what |
//! |---|---|
//! | `new_node` | before the start |
//! | `carry_over` | whether data of nats-streaming-server would be left behind |
//! | `run` | start, roles until asked to stop, end |
//! | `standby_listener` | listens to clients while not active, and keeps what it receives |
//! | [`doctor`] | looks at database, NATS and settings before a node is started |
//! | [`import`], [`export`] | takes over what nats-streaming-server kept; the way back |
//! | [`mirror`] | on to JetStream: copies channels into streams |
//! | `standby` | waits for the lock |
//! | `presence`, `standby_peers`, `conflicting_actives` | whether somebody else serves the same cluster ID from other tables |
//! | `high_water_marks` | what a standby looks at in case Postgres fails over |
//! | `claim` | from the lock to a term: the epoch, and whose the tables are (`owner`) |
//! | `takeover` | from there to a restored core: carries out what [`crate::core::takeover`] asks for |
//! | `active` | the active: feeds [`crate::core::active`] and carries out what it says; read this first |
//! | `recollection` | what other servers remember, asked for after a failover of Postgres |
//! | `vacuum` | vacuums what limits have dropped |
//! | `batches`, `session_reads` | what the leader session does with a batch, and what it reads where nothing else can |
//! | `read_watch` | whether connections for reading lead to the primary |
//! | `strangers` | whether the lock is in the hands of somebody who is no server |
//! | `pace` | lets others have their turn, in loops that never have to wait |
//! | `start` | from the configuration to what the roles work with; waits for what passes |
//! | `shared` | what the roles share |
//! | `status_publisher` | publishes the status that [`crate::monitoring`] reads |
//! | `takeover_watch` | whether this server could take over: rights, and locks of others |
//! | `descriptors` | whether file descriptors run out |
//! | `login` | whether the database would let this server in again |
//! | `dead_letters` | reports dead letters that their channel does not take |
//! | `settings_report` | what this server is set up with, in the tables |
//! | `console` | what the console reads with |
//! | `flood_watch` | whether publishes are refused because too much waits |
//! | `log_watch` | whether log lines are dropped |
//! | `managed_nats`, `child_configuration` | the nats-server that a server runs where nobody else's is named |
//! | `greeting` | whether somebody's NATS server has its port |
//! | `nats_settings` | from the configuration to the NATS adapter |
//! | `partition_peers` | other groups with the same cluster ID: whether their channels are others |
//! | `refusals` | what is said about what Postgres refuses |
//! | `watchdog` | ends a process that would act without the lock, or makes no progress |
//! | `log_throttle` | how often a failure that repeats is logged |

mod active;
mod batches;
mod carry_over;
mod child_configuration;
mod claim;
mod conflicting_actives;
mod console;
mod dead_letters;
mod descriptors;
pub mod doctor;
pub mod export;
mod flood_watch;
mod greeting;
mod high_water_marks;
pub mod import;
mod log_throttle;
mod log_watch;
mod login;
mod managed_nats;
pub mod mirror;
mod nats_settings;
mod new_node;
mod owner;
mod pace;
mod partition_peers;
mod presence;
mod read_watch;
mod recollection;
mod refusals;
mod run;
mod session_reads;
mod settings_report;
mod shared;
mod standby;
mod standby_listener;
mod standby_peers;
mod start;
mod status_publisher;
mod strangers;
mod takeover;
mod takeover_watch;
mod vacuum;
mod watchdog;

pub(crate) use nats_settings::nats_settings;
pub use new_node::{NatsReloads, NewNode};
