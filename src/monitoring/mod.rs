//! What a node reports about itself: data that the role loop publishes and that pages, metrics and commands read. Nothing
//! here decides anything, and nothing here knows the roles.
//!
//! | file | what |
//! |---|---|
//! | [`status`] | the one record that is published on a watch |
//! | [`condition`] | what is wrong right now, each with a sentence for operators |
//! | [`finding`] | what a look at database, NATS and settings has found |
//! | [`view_reader`] | what the console reads from the tables, a few reads at a time |
//! | [`find`] | looks for messages in a channel |
//! | [`histogram`] | durations and sizes of commits |
//! | [`liveness`] | whether the task of the role still runs |
//! | [`reports`] | pages of clients, channels and subscriptions, from the broker or from the tables |

pub mod condition;
pub mod find;
pub mod finding;
pub mod histogram;
pub mod liveness;
pub mod reports;
pub mod status;
pub mod view_reader;
